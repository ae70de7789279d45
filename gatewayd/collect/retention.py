"""Deleting what is older than `[collector]` keeps."""

from __future__ import annotations

from typing import Final

import duckdb

from gatewayd.collect.rollups import until
from gatewayd.collect.schema import KINDS, TIERS, moment
from gatewayd.config.collector import Collector as Config

STEP: Final = 3600
"""Seconds of calls that one transaction deletes at most: many rows at once need much memory."""


def expire(cursor: duckdb.DuckDBPyConnection, config: Config, now: float) -> bool:
    """Delete some of what is too old at second `now` since the epoch; True: there may be more. Raises `duckdb.Error`.

    What was not added up into the next tier yet stays.
    """
    marks = until(cursor)
    more = _delete(cursor, "calls", "at", config.keep_calls, now, now)
    for index, tier in enumerate(TIERS):
        upper = TIERS[index + 1].name if index + 1 < len(TIERS) else ""
        bound = marks[upper] if upper else now
        for kind in KINDS:
            keep = getattr(config, f"keep_{tier.name}")
            more |= _delete(cursor, f"{kind}_{tier.name}", "bucket", keep, now, bound, tier.seconds)
    return more


def _delete(
    cursor: duckdb.DuckDBPyConnection, table: str, column: str, keep: float, now: float, bound: float, wide: int = 0
) -> bool:
    """`wide`: seconds that a row is about: its last second counts."""
    if not keep:
        return False
    found = cursor.execute(f'SELECT epoch(min("{column}")) FROM {table}').fetchall()  # noqa: S608
    oldest: float | None = found[0][0]
    end = min(now - keep - wide, bound)
    if oldest is None or oldest >= end:
        return False
    step = min(end, oldest + max(STEP, wide))
    cursor.execute(f'DELETE FROM {table} WHERE "{column}" < {moment(int(step))}')  # noqa: S608
    return step < end
