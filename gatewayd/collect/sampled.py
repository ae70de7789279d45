"""Sampled calls, in order and each once: how far they were exported is kept in the store, by chain and number.

The store's own order (`rowid`) names no row for long, for DuckDB counts anew when it takes removed rows out of its
file; a record's number in its chain is its name for good. Whatever was ingested of a chain, up to `positions.records`,
is there: so what is not sampled is passed over unread, and statistics of `number` let DuckDB skip what lies before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from duckdb import DuckDBPyConnection

from gatewayd.collect.store import Store

READER = "traces"
"""Beginning of its names in `exports`: `traces/<chain>`."""
_PUT = "INSERT INTO exports VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET position = excluded.position"
_BEHIND = """
    SELECT chain, coalesce(position, 0), records
    FROM positions LEFT JOIN exports ON name = ? || chain
    WHERE records > coalesce(position, 0) ORDER BY chain
"""
_SAMPLED = "FROM calls WHERE chain = ? AND number > ? AND number <= ? AND sampled ORDER BY number LIMIT ?"


@dataclass(slots=True)
class Batch:
    """Sampled calls that follow."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    """The columns that were asked for."""
    reached: dict[str, int] = field(default_factory=dict)
    """How far they lead, by chain; further than the last of them where nothing behind it is sampled."""
    more: bool = False
    """There may be others behind."""


def read(store: Store, columns: Sequence[str], most: int) -> Batch:
    """Up to `most` sampled calls that were not exported yet. Blocks. Raises `duckdb.Error`, `StoreError`."""
    batch = Batch()
    with store.cursor() as cursor:
        cursor.begin()  # both tables as of one moment
        try:
            behind = cursor.execute(_BEHIND, [f"{READER}/"]).fetchall()
            for chain, position, records in behind:
                room = most - len(batch.rows)
                if not room:
                    batch.more = True
                    break
                found = _sampled(cursor, columns, [chain, position, records, room])
                batch.rows += [row[:-1] for row in found]
                batch.reached[chain] = found[-1][-1] if len(found) == room else records
                batch.more = batch.more or batch.reached[chain] < records
        finally:
            cursor.rollback()
    return batch


def _sampled(cursor: DuckDBPyConnection, columns: Sequence[str], bounds: list[object]) -> list[tuple[Any, ...]]:
    return cursor.execute(f"SELECT {', '.join(columns)}, number {_SAMPLED}", bounds).fetchall()


def commit(store: Store, reached: Mapping[str, int]) -> None:
    """Go on behind `reached` from now on, after a crash too. Blocks. Raises as `read`."""
    if not reached:
        return
    with store.cursor() as cursor:
        cursor.begin()
        try:
            cursor.executemany(_PUT, [[f"{READER}/{chain}", number] for chain, number in reached.items()])
            cursor.commit()
        except BaseException:
            cursor.rollback()
            raise
