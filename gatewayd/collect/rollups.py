"""Sums and latencies of calls by tenant, route, service and consumer, over 10 seconds, a minute, an hour and a day.

The 10 seconds get their rows in the transaction that adds the calls. What lies before a tier's `cascaded.until` was
added up into that tier from the one below, in one transaction with the mark; calls that come later than that are added
to each such tier at once. So a tier is complete up to its mark, and `rollup_<tier>_now` and `latency_<tier>_now` are
views that are complete altogether: the tier, and behind its mark what the finer ones have. Rows are partial: several
may be of the same bucket, and are to be summed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from gatewayd.collect import sketch
from gatewayd.collect.rows import Batch, Columns, Decoding, registered
from gatewayd.collect.schema import KEYS, KINDS, SUMS, TIERS, Tier, moment, views

SLICE: Final = 500_000
"""Rows of a tier that are added up at a time: it bounds the memory that takes."""
WORTH: Final = 0.7
"""Partial rows of the finest tier are replaced by their sums where these are so many of them, at most."""
_US: Final = 1_000_000


class Numbers(NamedTuple):
    """Calls as rollups see them; each array has an entry per call."""

    at: NDArray[np.int64]
    """Seconds since the epoch."""
    place: NDArray[np.int64]
    """Which route and service: a row of `rows.Decoding.operations`."""
    who: NDArray[np.int64]
    """Which tenant and consumer: a row of `rows.Decoding.callers`."""
    sums: NDArray[np.int64]
    """A row for each call, in the order of `SUMS`."""


def numbers(batch: Batch) -> Numbers:
    """What a batch adds."""
    lines = batch.lines
    status = lines["status"]
    classes = np.where(status == 499, 6, np.minimum(status // 100, 5))
    sums = np.zeros((len(status), len(SUMS)), np.int64)
    sums[:, 0] = 1
    rows = np.flatnonzero(classes)
    sums[rows, classes[rows]] = 1
    for index, column in enumerate(SUMS[7:], 7):
        sums[:, index] = lines[column]
    return Numbers(lines["at"].view(np.int64) // _US, lines["operation_id"], lines["caller_id"], sums)


def until(cursor: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Each tier's mark, seconds since the epoch. The finest has none: it is complete."""
    rows = cursor.execute("SELECT tier, epoch(until)::BIGINT FROM cascaded").fetchall()
    return {tier.name: 0 for tier in TIERS[1:]} | dict(rows)


def write(cursor: duckdb.DuckDBPyConnection, added: Numbers, decoding: Decoding) -> None:
    """Add calls to the finest tier, and to those whose mark they lie before. Within the transaction that adds them."""
    if not len(added.at):
        return
    marks = until(cursor)
    pairs = _combined(added.place, added.who)
    bins = sketch.bins_of(added.sums[:, SUMS.index("total_us")])
    for tier in TIERS:
        late = slice(None) if tier is TIERS[0] else np.flatnonzero(added.at < marks[tier.name])
        chosen = Numbers(*(column[late] for column in added))
        if len(chosen.at):
            _write(cursor, tier, chosen, pairs[late], bins[late], decoding)


def _write(
    cursor: duckdb.DuckDBPyConnection,
    tier: Tier,
    added: Numbers,
    pairs: NDArray[np.int64],
    bins: NDArray[np.int64],
    decoding: Decoding,
) -> None:
    buckets = added.at // tier.seconds * tier.seconds
    groups = _combined(pairs, buckets)
    for kind, by in (("rollup", groups), ("latency", groups * sketch.BINS + bins)):
        order = np.argsort(by, kind="stable")
        by = by[order]
        starts = np.flatnonzero(np.concatenate(([True], by[1:] != by[:-1])))
        first = order[starts]
        columns: Columns = {
            "bucket": (buckets[first] * _US).view("M8[us]"),
            "place": added.place[first],
            "who": added.who[first],
        }
        if kind == "latency":
            columns |= {"bin": bins[first], "calls": np.diff(starts, append=len(by))}
        else:
            sums = np.add.reduceat(added.sums[order], starts, axis=0)
            columns |= {name: np.ascontiguousarray(sums[:, index]) for index, name in enumerate(SUMS)}
        _insert(cursor, f"{kind}_{tier.name}", columns, decoding)


def _combined(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """A small number for each pair: the same for the same, and only for that."""
    least = second.min()
    pairs = first * (second.max() - least + 1) + (second - least)
    return np.unique(pairs, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _insert(cursor: duckdb.DuckDBPyConnection, table: str, columns: Columns, decoding: Decoding) -> None:
    rest = ", ".join(f"s.{name}" for name in columns if name not in ("place", "who"))
    tables = {
        "new_sums": columns,
        "new_places": decoding.operations.columns(columns["place"]),
        "new_people": decoding.callers.columns(columns["who"]),
    }
    with registered(cursor, tables):
        cursor.execute(
            f"INSERT INTO {table} BY NAME SELECT {rest}, w.tenant, p.route, p.service, w.consumer "  # noqa: S608
            "FROM new_sums s JOIN new_places p ON p.id = s.place JOIN new_people w ON w.id = s.who"
        )


def cascade(cursor: duckdb.DuckDBPyConnection, closed: float) -> bool:
    """Add up what is complete at second `closed` since the epoch, in a transaction; False if nothing more is."""
    marks = until(cursor)
    ends = {tier.name: int(closed // tier.seconds * tier.seconds) for tier in TIERS[1:]}
    if all(ends[name] <= mark for name, mark in marks.items()):
        return False
    cursor.begin()
    try:
        for finer, tier in pairwise(TIERS):
            start, end = marks[tier.name], ends[tier.name]
            if end > start:
                for kind in KINDS:
                    _add_up(cursor, kind, finer, tier, f"bucket >= {moment(start)} AND bucket < {moment(end)}")
                cursor.execute(f"INSERT OR REPLACE INTO cascaded VALUES ('{tier.name}', {moment(end)})")  # noqa: S608
                marks[tier.name] = end
        cursor.execute(views(marks))
        cursor.commit()
    except BaseException:
        cursor.rollback()
        raise
    return True


def _add_up(cursor: duckdb.DuckDBPyConnection, kind: str, finer: Tier, tier: Tier, span: str) -> None:
    """From one tier to the next, so many rows at a time that it needs little memory."""
    source = f"{kind}_{finer.name}"
    slices = -(-_count(cursor, f"{source} WHERE {span}") // SLICE)
    for index in range(slices):
        part = f"{source} WHERE {span} AND hash(consumer, route) % {slices} = {index}"
        if finer is TIERS[0]:
            part = _compacted(cursor, kind, source, part)
        columns = f"{tier.trunc('bucket')} AS bucket, {_added(kind)}"
        cursor.execute(f"INSERT INTO {kind}_{tier.name} BY NAME SELECT {columns} FROM {part} GROUP BY ALL")  # noqa: S608
    cursor.execute("DROP TABLE IF EXISTS temp.compacted")


def _compacted(cursor: duckdb.DuckDBPyConnection, kind: str, source: str, part: str) -> str:
    """A table of the sums of partial rows; they are put in the place of those if that saves enough."""
    columns = f"bucket, {_added(kind)}"
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE compacted AS SELECT {columns} FROM {part} GROUP BY ALL")  # noqa: S608
    if _count(cursor, "temp.compacted") <= WORTH * _count(cursor, part):
        cursor.execute(f"DELETE FROM {part}")  # noqa: S608
        cursor.execute(f"INSERT INTO {source} BY NAME FROM temp.compacted")
    return "temp.compacted"


def _added(kind: str) -> str:
    """Keys and sums of a kind of rollup, for a query that groups by all keys."""
    keys = (*KEYS, "bin") if kind == "latency" else KEYS
    sums = ("calls",) if kind == "latency" else SUMS
    return ", ".join((*keys, *(f"sum({name})::UBIGINT AS {name}" for name in sums)))


def _count(cursor: duckdb.DuckDBPyConnection, what: str) -> int:
    found = cursor.execute(f"SELECT count(*) FROM {what}").fetchall()  # noqa: S608
    return int(found[0][0])
