"""Call records in a store of their own, for questions about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from gatewayd.collect.rollups import cascade
from gatewayd.collect.schema import CALLS_COLUMNS, KEYS, KINDS, PERSONAL, TIERS
from gatewayd.collect.sketch import bin_sql
from gatewayd.collect.store import Store

NOON = 1_800_014_400
"""Seconds since the epoch: 2027-01-15 12:00:00 UTC."""
_SUMS = """
    count(*) AS calls, count(*) FILTER (status // 100 = 1) AS s1xx, count(*) FILTER (status // 100 = 2) AS s2xx,
    count(*) FILTER (status // 100 = 3) AS s3xx, count(*) FILTER (status // 100 = 4 AND status <> 499) AS s4xx,
    count(*) FILTER (status >= 500) AS s5xx, count(*) FILTER (status = 499) AS s499,
    count(*) FILTER (code <> '') AS refused, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out,
    sum(total_us) AS total_us, sum(upstream_us) AS upstream_us
"""


def call(number: int, **fields: Any) -> dict[str, Any]:
    """A call, in the columns of `calls`; `at` in seconds since the epoch, one more for each number."""
    plain = {"VARCHAR": "", "BOOLEAN": False, "TIMESTAMP": NOON + number, "BLOB": None}
    return (
        {name: plain.get(kind, 0) for name, kind in CALLS_COLUMNS.items()}
        | {"chain": "calls-0", "number": number, "request_id": f"id-{number:04}", "method": "GET", "status": 200}
        | fields
    )


def fill(store: Store, rows: Iterable[Mapping[str, Any]], *, closed: float | None = None) -> None:
    """Add calls as the collector does: with sums of 10 seconds and positions; coarser sums until second `closed`."""
    rows = list(rows)
    listed = ", ".join(f'"{name}"' for name in CALLS_COLUMNS)
    lists = ", ".join(f"unnest(?::{kind}[])" for kind in CALLS_COLUMNS.values())
    with store.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE added AS FROM calls LIMIT 0")
        if rows:
            columns = [list(column) for column in zip(*map(_values, rows), strict=True)]
            cursor.execute(f"INSERT INTO added ({listed}) SELECT {lists}", columns)
        add(cursor, "added")
        cursor.execute("DROP TABLE added")
        if closed is not None:
            cascade(cursor, closed)


def add(cursor: duckdb.DuckDBPyConnection, table: str) -> None:
    """Add the calls of a table."""
    keys = f"""time_bucket(INTERVAL '10 seconds', "at") AS bucket, {", ".join(KEYS)}"""
    cursor.execute(f"INSERT INTO calls BY NAME FROM {table}")
    cursor.execute(f"INSERT INTO rollup_10s BY NAME SELECT {keys}, {_SUMS} FROM {table} GROUP BY ALL")
    bins = f"{keys}, {bin_sql('total_us')} AS bin, count(*) AS calls"
    cursor.execute(f"INSERT INTO latency_10s BY NAME SELECT {bins} FROM {table} GROUP BY ALL")
    cursor.execute(f"INSERT OR REPLACE INTO positions SELECT chain, 0, 0, '', max(number) FROM {table} GROUP BY chain")


def _values(row: Mapping[str, Any]) -> list[Any]:
    at = datetime.fromtimestamp(row["at"], UTC).replace(tzinfo=None)
    return [at if name == "at" else row[name] for name in CALLS_COLUMNS]


def erased(row: Mapping[str, Any]) -> dict[str, Any]:
    """A call whose person was erased."""
    return {**row, **dict.fromkeys(PERSONAL)}


def empty(store: Store) -> Store:
    """A store after everything in it was deleted: that is faster than to make one."""
    tables = ("calls", "positions", "cascaded", *(f"{kind}_{tier.name}" for kind in KINDS for tier in TIERS))
    with store.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")
    return store


def store_in(folder: Path) -> Store:
    """A store that is empty."""
    return Store(folder / "calls.duckdb")
