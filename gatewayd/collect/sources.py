"""Where figures come from: rollups as far as they go, else single calls. Both give the same columns.

Rollups are by tenant, route, service and consumer; what is by anything else, or about calls that fulfil other filters,
is counted from the calls themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import duckdb

from gatewayd.collect import periods
from gatewayd.collect.filters import Filters, quoted, where
from gatewayd.collect.periods import Piece, Rollup
from gatewayd.collect.schema import KEYS
from gatewayd.collect.sketch import bin_sql

DIMENSIONS = (
    *KEYS,
    "status",
    "class",
    "code",
    "reason",
    "target",
    "operation",
    "method",
    "host",
    "listener",
    "credential",
    "auth",
    "plan",
    "tls",
    "client",
    "agent",
)
"""What figures may be by: columns of `calls`, of rollups the first four, and the class of the status (`5xx`)."""
_GROUPED = {"class": '"status" // 100', "": "''"}
_LABELS = {"status": "key::VARCHAR", "class": "key::VARCHAR || 'xx'"}
SUMS = {
    "calls": ('"calls"', "1"),
    "errors": ('"s5xx"', '("status" >= 500)::INTEGER'),
    "client_errors": ('"s4xx" + "s499"', '("status" BETWEEN 400 AND 499)::INTEGER'),
    "refused": ('"refused"', "(\"code\" <> '')::INTEGER"),
    "bytes_in": ('"bytes_in"', '"bytes_in"'),
    "bytes_out": ('"bytes_out"', '"bytes_out"'),
    "total_us": ('"total_us"', '"total_us"'),
    "upstream_us": ('"upstream_us"', '"upstream_us"'),
}
"""What adds up: of a row of a rollup, and of a call."""
Relation = tuple[str, list[object]]
"""A `SELECT`, and its parameters in order."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows to count: of rollups, or, without `pieces`, of calls. Times in microseconds since the epoch."""

    filters: Filters
    begin: int
    end: int
    oldest: int | None
    """When what it has begins; None: it has nothing."""
    pieces: tuple[Piece, ...] = ()
    exact: bool = False
    """Whether percentiles are to be counted from the latencies themselves: of calls alone."""

    @property
    def name(self) -> str:
        """`calls`, or the tiers of rollups."""
        return "+".join(dict.fromkeys(piece.tier for piece in self.pieces)) or "calls"

    def sums(self, by: str) -> Relation:
        """A relation of `key`, `moment` (microseconds) and `SUMS`, `by` a dimension, or "" for none."""
        columns = (
            f"{of_call if not self.pieces else of_rollup} AS {name}" for name, (of_rollup, of_call) in SUMS.items()
        )
        return self._relation("rollup", by, ", ".join(columns))

    def bins(self, by: str) -> Relation:
        """A relation of `key`, `moment`, `value` and `n`: how many latencies there are in a bin of the sketch."""
        of_call = bin_sql('"total_us"') + "::BIGINT AS value, 1 AS n"
        return self._relation("latency", by, '"bin"::BIGINT AS value, "calls" AS n' if self.pieces else of_call)

    def latencies(self, by: str) -> Relation:
        """The same of the latencies themselves, in microseconds: of calls alone."""
        return self._relation("calls", by, '"total_us" AS value, 1 AS n')

    def _relation(self, kind: Literal["rollup", "latency", "calls"], by: str, columns: str) -> Relation:
        key = _GROUPED.get(by) or quoted(by)
        if not self.pieces:
            condition, values = where(replace(self.filters, begin=self.begin, end=self.end))
            text = f'SELECT {key} AS key, epoch_us("at") AS moment, {columns} FROM calls WHERE {condition}'  # noqa: S608
            return text, values
        condition, values = where(replace(self.filters, begin=None, end=None))
        within = f"bucket >= make_timestamp(?) AND bucket < make_timestamp(?) AND {condition}"
        parts = [
            f"SELECT {key} AS key, epoch_us(bucket) AS moment, {columns} FROM {kind}_{piece.tier} WHERE {within}"  # noqa: S608
            for piece in self.pieces
        ]
        return " UNION ALL ".join(parts), [
            value for piece in self.pieces for value in (piece.begin, piece.end, *values)
        ]


def label(by: str) -> str:
    """SQL for how a key of a dimension is shown, once what has it is counted together: that is faster by `key` itself.

    What was erased is "".
    """
    return f"coalesce({_LABELS.get(by, 'key')}, '')"


def source_of(
    cursor: duckdb.DuckDBPyConnection, filters: Filters, begin: int, end: int, by: str, *, exact: bool = False
) -> Source:
    """Where to count what fulfils `filters` between two times, `by` a dimension; `exact`: from calls in any case."""
    if exact or not _rolled_up(filters, by):
        return of_calls(cursor, filters, begin, end, exact=exact)
    tiers = periods.rollups(cursor)
    return _of(filters, begin, end, tiers, tiers)


def series_of(
    cursor: duckdb.DuckDBPyConnection, filters: Filters, begin: int, end: int, wanted: str | None, *, exact: bool
) -> tuple[Source, str]:
    """The same for a series, with its step: as `wanted`, or what suits the period and what there is of it."""
    from_calls = exact or not _rolled_up(filters, "")
    tiers = [] if from_calls else periods.rollups(cursor)
    step = periods.step_for(begin, end, wanted, tiers)
    begin, end = periods.aligned(begin, end, step)
    if from_calls:
        return of_calls(cursor, filters, begin, end, exact=exact), step
    return _of(filters, begin, end, periods.fitting(step, tiers), tiers), step


def of_calls(
    cursor: duckdb.DuckDBPyConnection, filters: Filters, begin: int, end: int, *, exact: bool = False
) -> Source:
    """The calls themselves."""
    found = cursor.execute('SELECT epoch_us(min("at")) FROM calls').fetchone()
    return Source(filters, begin, end, found[0] if found else None, exact=exact)


def _of(filters: Filters, begin: int, end: int, fitting: list[Rollup], tiers: list[Rollup]) -> Source:
    pieces = periods.cover(begin, end, fitting) or [Piece("10s", begin, end)]
    oldest = min((tier.since for tier in tiers), default=None)
    return Source(filters, pieces[0].begin, pieces[-1].end, oldest, tuple(pieces))


def _rolled_up(filters: Filters, by: str) -> bool:
    """Whether rollups know all that is asked about."""
    return not filters.status and not filters.text and {*filters.exact, *([by] if by else [])} <= set(KEYS)
