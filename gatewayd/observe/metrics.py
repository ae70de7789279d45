"""Counters in shared memory. Each worker writes its own part and no other; readers add the parts up, without locks.

The memory is an array of signed 64-bit cells, zero at first. Per worker: `COUNTERS` cells, tables of tokens (names
the code or the configuration makes up, such as `connect_timeout`, with a count each), exemplars (`observe.exemplars`),
then one row of `ROW` cells per route. Only pages that somebody counted in are backed by memory, so the layout can be
generous. An aligned 8-byte store is one instruction on every 64-bit machine CPython runs on: a reader sees a cell
before or after a count, never half of it.

A worker that is started again goes on in the part of the one before it: counters never go back, gauges begin at 0.
"""

from __future__ import annotations

import struct
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from gatewayd.core.exchange import Exchange
from gatewayd.observe import exemplars
from gatewayd.observe.exemplars import Exemplar, Exemplars
from gatewayd.observe.tokens import Tokens, Verdict, Verdicts, entries

MAX_WORKERS: Final = 128
ROUTE_ROWS: Final = 4_097
"""Row 0 takes what matched no route and the routes beyond the last row (`server.shared_memory.Slots`)."""

BOUNDS: Final = tuple(float(f"{step}e{power}") for power in range(-4, 2) for step in (1, 2, 3, 5))
"""Upper bounds of the latency buckets, seconds: 100 µs to 50 s, four to a decade, and one more bucket for the rest."""
BUCKETS: Final = len(BOUNDS) + 1

# A worker's own counters and gauges.
CONNECTIONS_ACCEPTED: Final = 0
CONNECTIONS_OPEN: Final = 1
REQUESTS_IN_FLIGHT: Final = 2
TLS_HANDSHAKES_FAILED: Final = 3
LOG_LINES_DROPPED: Final = 4
LOG_PENDING_BYTES: Final = 5
LOG_LAG_MILLISECONDS: Final = 6
GENERATION: Final = 7
AUDIT_WRITTEN: Final = 8
AUDIT_DROPPED: Final = 9
AUDIT_FULL: Final = 10
AUDIT_LAG_MILLISECONDS: Final = 11
COUNTERS: Final = 32
GAUGES: Final = (
    CONNECTIONS_OPEN,
    REQUESTS_IN_FLIGHT,
    LOG_PENDING_BYTES,
    LOG_LAG_MILLISECONDS,
    GENERATION,
    AUDIT_FULL,
    AUDIT_LAG_MILLISECONDS,
)

# Tables of tokens, and how many entries each has; the last entry of each takes whatever finds no place.
REFUSALS: Final = 0  # problem codes of refusals made here, malformed requests included
FAILURES: Final = 1  # reasons why exchanges failed
CONNECTIONS_REFUSED: Final = 2  # why a connection was not served
VERDICTS: Final = 3  # what policies decided: see `tokens.Verdict`
TABLES: Final = (128, 64, 16, 256)

_WIDTHS = (8, 8, 8, 16)  # cells of an entry: a name, 8 bytes to a cell, then its count
_TABLES_AT = tuple(
    COUNTERS + sum(width * entries for width, entries in zip(_WIDTHS[:i], TABLES[:i], strict=True))
    for i in range(len(TABLES) + 1)
)
_EXEMPLARS_AT = _TABLES_AT[-1]
_ROWS_AT = _EXEMPLARS_AT + exemplars.SIZE // 8

# A route's row.
_CLASSES = 0  # 1xx to 5xx, 499
_RETRIES = 6
_UNANSWERED = 7  # went to a target, no reply head came
_BYTES_IN = 8
_BYTES_OUT = 9
_TOTAL_SUM = 10  # nanoseconds
_UPSTREAM_SUM = 11
_SUMS = (_TOTAL_SUM, _UPSTREAM_SUM)
_TOTAL = 12
_UPSTREAM = _TOTAL + BUCKETS
_OWN = _UPSTREAM + BUCKETS  # the gateway's own share; its sum is what the others leave
ROW: Final = 88
_PACK_ROW = struct.Struct(f"{ROW}q").pack
_PART = _ROWS_AT + ROUTE_ROWS * ROW

EXEMPLARS_EVERY: Final = 0.05
"""Seconds between two times that exemplars are written: a busy worker flushes several hundred times a second."""
CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "499")
# A status beyond 599 counts as the server's fault (RFC 9110 §15); 0, nothing ever sent, as the caller's leaving.
_CLASS_OF = bytes([5] * 100 + [min(status // 100, 5) - 1 for status in range(100, 1000)])
_CLASS_OF = _CLASS_OF[:499] + b"\x05" + _CLASS_OF[500:]


def size_bytes(workers: int = MAX_WORKERS) -> int:
    """Bytes of memory for so many workers. Nearly all of it stays holes."""
    return workers * _PART * 8


class WorkerMetrics:
    """The part of worker number `worker` (from 0), to be written by that worker alone.

    `memory` is shared, writable, of `size_bytes` bytes, and zeroed when the daemon started.
    """

    def __init__(self, memory: memoryview, worker: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        start = worker * _PART
        cells = memory.cast("B").cast("q")[start : start + _PART]
        if len(cells) != _PART:
            raise ValueError(f"the memory has no part for worker {worker}")
        for gauge in GAUGES:
            cells[gauge] = 0
        self._cells = cells
        self._tables = tuple(
            Tokens(cells[at:end], width) for (at, end), width in zip(pairwise(_TABLES_AT), _WIDTHS, strict=True)
        )
        self._verdicts = Verdicts(self._tables[VERDICTS])
        self._rows = _Rows(cells)
        self._exemplars = Exemplars(cells[_EXEMPLARS_AT:_ROWS_AT], BOUNDS)
        self._monotonic = monotonic
        self._exemplars_due = 0.0
        self._picks = _Picks()
        self.record: Callable[[Exchange, float], None] = _recorder(self._rows, self.token, self._verdicts, self._picks)

    def flush(self) -> None:
        """Make what was recorded since the last time visible in the memory, now and then with exemplars of it."""
        self._rows.flush()
        now = self._monotonic()
        if now >= self._exemplars_due:
            self._exemplars_due = now + EXEMPLARS_EVERY
            for exchange, total in self._picks.take():
                self._exemplars.put(exchange, total)

    def name_policies(self, instances: Mapping[str, tuple[str, str]]) -> None:
        """Which policy each instance is of and its mode: what verdicts are counted by from now on."""
        self._verdicts.instances = instances
        self._verdicts.clear()

    def count(self, counter: int, amount: int = 1) -> None:
        """Add to a counter or a gauge."""
        self._cells[counter] += amount

    def put(self, gauge: int, value: int) -> None:
        """Set a gauge."""
        self._cells[gauge] = value

    def token(self, table: int, token: str) -> None:
        """Count a token, a name out of the code or the configuration; never one that a caller made up."""
        self._tables[table].count(token)


class _Rows:
    """A worker's rows, counted in lists and copied to the cells batch by batch: an element costs a third of a cell."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._bytes = cells.cast("B")
        self.rows: list[list[Any] | None] = [None] * ROUTE_ROWS  # of integers, but for the sums: seconds
        self.changed: dict[int, list[Any]] = {}

    def open(self, slot: int) -> list[Any]:
        """The row of a route that is counted for the first time."""
        at = _ROWS_AT + slot * ROW
        row: list[Any] = self._cells[at : at + ROW].tolist()
        for sums in _SUMS:
            row[sums] /= 1e9
        self.rows[slot] = row
        return row

    def flush(self) -> None:
        """Make what was recorded visible in the memory."""
        for slot, row in self.changed.items():
            at = 8 * (_ROWS_AT + slot * ROW)
            cells = row.copy()
            for sums in _SUMS:
                cells[sums] = int(row[sums] * 1e9)
            # Not `pack_into`: that one fills with zeros first, and counters must never seem to go back.
            self._bytes[at : at + 8 * ROW] = _PACK_ROW(*cells)
        self.changed.clear()


class _Picks:
    """Exchanges that are to be exemplars, with their seconds: the slowest since the last time, and the first."""

    __slots__ = ("found", "slowest")

    def __init__(self) -> None:
        self.found: list[tuple[Exchange, float]] = []
        self.slowest = -1.0

    def add(self, exchange: Exchange, seconds: float) -> None:
        """The first, or one slower than all so far."""
        self.slowest = seconds
        self.found[1:] = [(exchange, seconds)]

    def take(self) -> list[tuple[Exchange, float]]:
        """Those there are; the next is the first again."""
        found, self.found, self.slowest = self.found, [], -1.0
        return found


def _recorder(
    state: _Rows, token: Callable[[int, str], None], verdicts: Verdicts, picks: _Picks
) -> Callable[[Exchange, float], None]:
    """What counts an exchange in: a closure, so that nothing is looked up twice."""
    rows, changed, row_of = state.rows, state.changed, state.open
    count_verdict = verdicts.add

    def record(exchange: Exchange, now: float) -> None:
        """Count an exchange that is over; `now` is monotonic seconds."""
        route = exchange.route
        slot = 0 if route is None else route.slot
        row = rows[slot]
        if row is None:
            row = row_of(slot)
        changed[slot] = row
        kind = _CLASS_OF[exchange.status]
        row[kind] += 1
        # A tunnel (101) may last for days: its latency is that of the upgrade.
        own = total = now - exchange.started if kind else exchange.upstream_seconds
        if total > picks.slowest:
            picks.add(exchange, total)
        row[_TOTAL_SUM] += total
        row[_TOTAL + bisect_left(BOUNDS, total)] += 1
        attempts = exchange.attempts
        if attempts:
            upstream = exchange.upstream_seconds
            if upstream:
                row[_UPSTREAM_SUM] += upstream
                row[_UPSTREAM + bisect_left(BOUNDS, upstream)] += 1
                own -= upstream
            else:
                row[_UNANSWERED] += 1
            if attempts > 1:
                row[_RETRIES] += attempts - 1
        row[_OWN + bisect_left(BOUNDS, own)] += 1
        if exchange.body_received:
            row[_BYTES_IN] += exchange.body_received
        if exchange.body_sent:
            row[_BYTES_OUT] += exchange.body_sent
        if exchange.code:
            token(REFUSALS, exchange.code)
        if exchange.reason:
            token(FAILURES, exchange.reason)
        if exchange.verdicts:
            for noted in exchange.verdicts:
                count_verdict(verdicts[noted])

    return record


@dataclass(slots=True)
class RouteTotals:
    """What a route's rows add up to. Sums are seconds; `total`, `upstream` and `own` count per bucket of `BOUNDS`."""

    classes: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    retries: int = 0
    attempts: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    total_sum: float = 0.0
    upstream_sum: float = 0.0
    total: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    upstream: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    own: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    @property
    def own_sum(self) -> float:
        """What the gateway added, seconds."""
        return self.total_sum - self.upstream_sum


@dataclass(slots=True)
class Totals:
    """What all workers' parts add up to. `workers` holds each worker's own `COUNTERS` cells."""

    workers: list[list[int]]
    tokens: tuple[dict[str, int], ...]
    routes: dict[str, RouteTotals]
    exemplars: dict[str, list[Exemplar]] = field(default_factory=dict)
    """By route."""

    def sum(self, counter: int) -> int:
        """A counter or gauge over all workers."""
        return sum(cells[counter] for cells in self.workers)

    @property
    def verdicts(self) -> dict[Verdict, int]:
        """How often policies decided what."""
        return {Verdict.of(token): count for token, count in self.tokens[VERDICTS].items()}

    def most(self, gauge: int) -> int:
        """A gauge where it is largest."""
        return max((cells[gauge] for cells in self.workers), default=0)


def read(memory: memoryview, slots: Mapping[str, int], workers: Iterable[int]) -> Totals:
    """Add up the parts of `workers` (their numbers); `slots` says which route has which row.

    Routes nobody asked for yet are left out. Reading a hole makes it a page, so only what is asked for is read.
    """
    cells = memory.cast("B").cast("q")
    parts = [cells[worker * _PART : (worker + 1) * _PART] for worker in workers]
    routes = {name: row for name, slot in slots.items() if (row := _route(parts, slot)) is not None}
    return Totals(
        workers=[part[:COUNTERS].tolist() for part in parts],
        tokens=tuple(
            _tokens(parts, at, end, width) for (at, end), width in zip(pairwise(_TABLES_AT), _WIDTHS, strict=True)
        ),
        routes=routes,
        exemplars=_exemplars(parts, slots),
    )


def _exemplars(parts: list[memoryview], slots: Mapping[str, int]) -> dict[str, list[Exemplar]]:
    names = {slot: name for name, slot in slots.items()}
    found: dict[str, list[Exemplar]] = {}
    for part in parts:
        for each in exemplars.read(part[_EXEMPLARS_AT:_ROWS_AT]):
            if each.slot in names:
                found.setdefault(names[each.slot], []).append(each)
    return found


def _add(rows: Iterable[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _tokens(parts: list[memoryview], at: int, end: int, width: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for name, _, count in entries(part[at:end], width):
            found[name] = found.get(name, 0) + count
    return found


def _route(parts: list[memoryview], slot: int) -> RouteTotals | None:
    at = _ROWS_AT + slot * ROW
    used = [part for part in parts if any(part[at : at + len(CLASSES)])]
    if not used:
        return None
    row = _add(part[at : at + ROW].tolist() for part in used)
    upstream = row[_UPSTREAM : _UPSTREAM + BUCKETS]
    return RouteTotals(
        classes=row[: len(CLASSES)],
        retries=row[_RETRIES],
        attempts=sum(upstream) + row[_UNANSWERED] + row[_RETRIES],
        bytes_in=row[_BYTES_IN],
        bytes_out=row[_BYTES_OUT],
        total_sum=row[_TOTAL_SUM] / 1e9,
        upstream_sum=row[_UPSTREAM_SUM] / 1e9,
        total=row[_TOTAL : _TOTAL + BUCKETS],
        upstream=upstream,
        own=row[_OWN : _OWN + BUCKETS],
    )
