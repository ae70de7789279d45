"""Figures over many calls: the first few by some measure, how they go over time, and what changed since.

Counts and bytes are exact. Percentiles come from sketches (`collect.sketch`), at most 1/16 too high, unless exact
ones are asked for, which are counted from the calls themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import duckdb
import msgspec

from gatewayd.collect.periods import STEPS
from gatewayd.collect.sketch import upper_bound, upper_bound_sql
from gatewayd.collect.sources import SUMS, Relation, Source, label

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_ADDED = {"calls": "calls", "errors": "errors", "client_errors": "client_errors", "refused": "refused"} | {
    "bytes": "bytes_in + bytes_out"
}
_DIVIDED = {"error_rate": "errors / calls", "mean": "total_us / calls"}
ORDERS = (*_ADDED, *_DIVIDED, *QUANTILES, "latency")
"""What keys are ranked by: a count, a share, a latency; `latency` is `p99`."""
_SUMMED = ", ".join(f"sum({name})::HUGEINT AS {name}" for name in SUMS)
_SECOND = 1_000_000
FEW = 2_000
"""Keys whose latencies are all counted at once. Of more keys they would not fit into memory: only of those shown."""


class Measures(msgspec.Struct, kw_only=True):
    """What is said of some calls; latencies in microseconds."""

    calls: int = 0
    per_second: float = 0.0
    errors: int = 0
    """Status 500 and above."""
    error_rate: float = 0.0
    client_errors: int = 0
    """Status 400 to 499."""
    refused: int = 0
    """By the gateway itself, whatever the status."""
    bytes_in: int = 0
    bytes_out: int = 0
    mean_us: int = 0
    upstream_mean_us: int = 0
    p50_us: int = 0
    p90_us: int = 0
    p99_us: int = 0


class Ranked(msgspec.Struct):
    """A key and its figures."""

    key: str
    measures: Measures


class Top(msgspec.Struct):
    """The first keys by some measure, and all keys together."""

    rows: list[Ranked]
    total: Measures


class Change(msgspec.Struct):
    """Figures of a period and of an earlier one."""

    key: str
    now: Measures
    then: Measures


def top(cursor: duckdb.DuckDBPyConnection, source: Source, by: str, order: str, limit: int) -> Top:
    """The first keys of the dimension `by`; "": no keys, only what all calls come to."""
    keys: list[str] = []
    counted = _count(cursor, source, by, order, "now")
    if by:
        ranking, values = _ranking(counted, order)
        text = f"SELECT key FROM ({ranking}) ORDER BY value DESC, key LIMIT {limit}"  # noqa: S608
        keys = [key for (key,) in cursor.execute(text, values).fetchall()]
    found, total = _measured(cursor, counted, keys)
    return Top([Ranked(key, found[key]) for key in keys], total)


def compare(
    cursor: duckdb.DuckDBPyConnection, now: Source, then: Source, by: str, order: str, limit: int
) -> tuple[list[Change], Change]:
    """The keys of the dimension `by` that changed most, and the change of all calls together.

    Where the periods differ in length, keys are ranked by counts per second.
    """
    keys: list[str] = []
    counted, before = _count(cursor, now, by, order, "now"), _count(cursor, then, by, order, "before")
    if by:
        ranking, values = _ranking(counted, order, paced=True)
        earlier, more = _ranking(before, order, paced=True)
        text = f"""
            SELECT coalesce(a.key, b.key) AS key FROM ({ranking}) a FULL JOIN ({earlier}) b ON a.key = b.key
            ORDER BY abs(coalesce(a.value, 0) - coalesce(b.value, 0)) DESC, key LIMIT {limit}
        """  # noqa: S608
        keys = [key for (key,) in cursor.execute(text, [*values, *more]).fetchall()]
    found, total = _measured(cursor, counted, keys)
    found_then, total_then = _measured(cursor, before, keys)
    return [Change(key, found[key], found_then[key]) for key in keys], Change("", total, total_then)


def series(cursor: duckdb.DuckDBPyConnection, source: Source, step: str) -> list[tuple[int, Measures]]:
    """Figures for each step of the source's period, with when it begins (microseconds since the epoch)."""
    width = STEPS[step] * _SECOND
    text, values = source.sums("")
    text = f"SELECT moment // {width} AS step, {_SUMMED} FROM ({text}) GROUP BY step"  # noqa: S608
    sums = {number: row for number, *row in cursor.execute(text, values).fetchall()}
    text, values = source.latencies("") if source.exact else source.bins("")
    text = f"SELECT moment // {width} AS key, value, sum(n) AS n FROM ({text}) GROUP BY 1, 2"  # noqa: S608
    quantiles = _quantiles(cursor, (text, values), exact=source.exact)
    return [
        (number * width, _measures(sums.get(number), quantiles.get(number), STEPS[step]))
        for number in range(source.begin // width, source.end // width)
    ]


class _Counted(NamedTuple):
    """A source, and what was counted of it."""

    source: Source
    sums: Relation
    """Of `key` and `SUMS`, a row for each key."""
    bins: Relation
    """Of `key`, `value` and `n` as of the sketch."""
    latencies: Relation
    """The same as what is shown has it: of the latencies themselves, if they are asked for."""


def _count(cursor: duckdb.DuckDBPyConnection, source: Source, by: str, order: str, name: str) -> _Counted:
    """Count what keys are ranked by once, for they are measured by it, too. `name` ends the names of tables."""
    sums = _sums(source, by)
    if by:
        sums = _kept(cursor, f"sums_{name}", sums)
    few = not by or _rows(cursor, sums) <= FEW
    bins = _counted(source, by, exact=False, grouped=few or order in QUANTILES or order == "latency")
    if by and order not in _ADDED and order not in _DIVIDED:
        bins = _kept(cursor, f"bins_{name}", bins)
    return _Counted(source, sums, bins, _counted(source, by, exact=True, grouped=few) if source.exact else bins)


def _kept(cursor: duckdb.DuckDBPyConnection, table: str, relation: Relation) -> Relation:
    """The same relation, from a table that is gone with the transaction."""
    text, values = relation
    cursor.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {text}", values)
    return f"FROM {table}", []


def _rows(cursor: duckdb.DuckDBPyConnection, relation: Relation) -> int:
    text, values = relation
    found = cursor.execute(f"SELECT count(*) FROM ({text})", values).fetchone()  # noqa: S608
    return int(found[0]) if found else 0


def _ranking(counted: _Counted, order: str, *, paced: bool = False) -> Relation:
    """A relation of `key` and `value`; `paced`: counts are per second."""
    if order in _ADDED or order in _DIVIDED:
        text, values = counted.sums
        pace = f" / {_seconds(counted.source)}" if paced and order in _ADDED else ""
        return f"SELECT key, ({(_ADDED | _DIVIDED)[order]}){pace} AS value FROM ({text})", values  # noqa: S608
    text, values = counted.bins  # exact ones of every key would not fit into memory
    quantile = "p99" if order == "latency" else order
    return f"SELECT key, {upper_bound_sql(quantile)} AS value FROM ({_nearest(text)})", values  # noqa: S608


def _measured(
    cursor: duckdb.DuckDBPyConnection, counted: _Counted, keys: Sequence[str]
) -> tuple[dict[str, Measures], Measures]:
    """The figures of each of `keys`, and of all calls."""
    chosen = f"CASE WHEN key IN ({', '.join('?' * len(keys))}) THEN key END" if keys else "NULL::VARCHAR"
    text, values = counted.sums
    text = f"SELECT {chosen} AS key, {_SUMMED} FROM ({text}) GROUP BY 1"  # noqa: S608
    sums = {key: row for key, *row in cursor.execute(text, [*keys, *values]).fetchall()}
    whole = [sum(column) for column in zip(*sums.values(), strict=True)] or None
    text, values = counted.latencies
    text = f"""
        WITH few AS MATERIALIZED (SELECT {chosen} AS key, value, sum(n) AS n FROM ({text}) GROUP BY 1, 2)
        SELECT key, value, n FROM few WHERE key IS NOT NULL
        UNION ALL SELECT NULL, value, sum(n) FROM few GROUP BY value
    """  # noqa: S608
    quantiles = _quantiles(cursor, (text, [*keys, *values]), exact=counted.source.exact)
    seconds = _seconds(counted.source)
    found = {key: _measures(sums.get(key), quantiles.get(key), seconds) for key in keys}
    return found, _measures(whole, quantiles.get(None), seconds)


def _sums(source: Source, by: str) -> Relation:
    """A relation of `key` and `SUMS`, a row for each key."""
    text, values = source.sums(by)
    grouped = f"SELECT key, {_SUMMED} FROM ({text}) GROUP BY key"  # noqa: S608
    return f"SELECT {label(by)} AS key, {_SUMMED} FROM ({grouped}) GROUP BY 1", values  # noqa: S608


def _counted(source: Source, by: str, *, exact: bool, grouped: bool) -> Relation:
    """A relation of `key`, `value` and `n`: how many latencies have this value, or this bin of the sketch.

    `grouped`: a row for each key and value, which is faster to go on with.
    """
    text, values = source.latencies(by) if exact else source.bins(by)
    if not grouped:
        return f"SELECT {label(by)} AS key, value, n FROM ({text})", values  # noqa: S608
    summed = f"SELECT key, value, sum(n) AS n FROM ({text}) GROUP BY 1, 2"  # noqa: S608
    return f"SELECT {label(by)} AS key, value, sum(n) AS n FROM ({summed}) GROUP BY 1, 2", values  # noqa: S608


def _nearest(counted: str) -> str:
    """A relation of `key` and `QUANTILES`, of a relation of `key`, `value` and `n`: the nearest ranks."""
    ranks = ", ".join(f"min(value) FILTER (upto >= ceil({share} * n)) AS {name}" for name, share in QUANTILES.items())
    runs = f"""
        SELECT key, value, sum(n) OVER (PARTITION BY key ORDER BY value) AS upto, sum(n) OVER (PARTITION BY key) AS n
        FROM ({counted})
    """  # noqa: S608
    return f"SELECT key, {ranks} FROM ({runs}) GROUP BY key"  # noqa: S608


def _quantiles(cursor: duckdb.DuckDBPyConnection, counted: Relation, *, exact: bool) -> dict[Any, list[int]]:
    """Microseconds for each of `QUANTILES`, by key."""
    text, values = counted
    rows = cursor.execute(_nearest(text), values).fetchall()
    return {key: [each if exact else upper_bound(each) for each in found] for key, *found in rows}


def _measures(sums: Sequence[int] | None, quantiles: Sequence[int] | None, seconds: float) -> Measures:
    if sums is None:
        return Measures()
    calls, errors, client_errors, refused, bytes_in, bytes_out, total, upstream = (int(each) for each in sums)
    p50, p90, p99 = quantiles or (0, 0, 0)
    return Measures(
        calls=calls,
        per_second=calls / seconds,
        errors=errors,
        error_rate=errors / calls,
        client_errors=client_errors,
        refused=refused,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        mean_us=total // calls,
        upstream_mean_us=upstream // calls,
        p50_us=p50,
        p90_us=p90,
        p99_us=p99,
    )


def _seconds(source: Source) -> float:
    return (source.end - source.begin) / _SECOND
