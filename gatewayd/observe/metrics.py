"""Counters in shared memory. Each worker writes its own part and no other; readers add the parts up, without locks.

The memory is an array of signed 64-bit cells, zero at first. Per worker: `COUNTERS` cells, the histogram of the
gateway's own share, tables of tokens (names the code makes up, such as `connect_timeout`, with a count each), then
one row of `ROW` cells per route. Only pages that somebody counted in are backed by memory, so the layout can be
generous. An aligned 8-byte store is one instruction on every 64-bit machine CPython runs on: a reader sees a cell
before or after a count, never half of it.

A worker that is started again goes on in the part of the one before it: counters never go back, gauges begin at 0.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from gatewayd.core.exchange import Exchange

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
VERDICTS: Final = 3  # "refused:partner-cors": what a policy decided
TABLES: Final = (128, 64, 16, 256)
OTHER: Final = "other"

_TOKEN = 8  # cells: a name of up to 56 bytes, then its count
_NAME = 7 * 8
_SHARE = COUNTERS  # buckets; its sum is what the rows' sums leave
_TABLES_AT = tuple(64 + _TOKEN * sum(TABLES[:i]) for i in range(len(TABLES) + 1))
_ROWS_AT = _TABLES_AT[-1]

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
ROW: Final = 64
_PART = _ROWS_AT + ROUTE_ROWS * ROW

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

    def __init__(self, memory: memoryview, worker: int) -> None:
        start = worker * _PART
        cells = memory.cast("B").cast("q")[start : start + _PART]
        if len(cells) != _PART:
            raise ValueError(f"the memory has no part for worker {worker}")
        for gauge in GAUGES:
            cells[gauge] = 0
        self._cells = cells
        self._tables = tuple(_Tokens(cells[at:end]) for at, end in pairwise(_TABLES_AT))
        rows = _Rows(cells)
        self.record: Callable[[Exchange, float], None] = _recorder(rows, self.token)
        self.flush = rows.flush

    def count(self, counter: int, amount: int = 1) -> None:
        """Add to a counter or a gauge."""
        self._cells[counter] += amount

    def put(self, gauge: int, value: int) -> None:
        """Set a gauge."""
        self._cells[gauge] = value

    def token(self, table: int, token: str) -> None:
        """Count a token, a name out of the code or the configuration; never one that a caller made up."""
        self._tables[table].count(token)


class _Tokens:
    """A table of tokens: they take the entries in the order in which they first come."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self._counts: dict[str, int] = {}
        self._free = 0
        for name, at, _ in _entries(cells):
            self._counts[name] = at
            self._free = at // _TOKEN + 1

    def count(self, token: str) -> None:
        at = self._counts.get(token)
        self._cells[self._enter(token) if at is None else at] += 1

    def _enter(self, token: str) -> int:
        last = len(self._cells) // _TOKEN - 1
        if self._free >= last:
            token, self._free = OTHER, last
        elif len(token.encode()) > _NAME:
            return self._enter(token.encode()[:_NAME].decode(errors="ignore"))
        at = self._counts.get(token)
        if at is None:
            first = self._free * _TOKEN
            name = token.encode().ljust(_NAME, b"\0")
            self._cells[first : first + _TOKEN - 1] = memoryview(name).cast("q")
            self._free += 1
            at = self._counts[token] = first + _TOKEN - 1
        return at


def _entries(cells: memoryview) -> Iterator[tuple[str, int, int]]:
    """Name, cell of the count, and count of each entry in use."""
    for at in range(_TOKEN - 1, len(cells), _TOKEN):
        name = cells[at - _TOKEN + 1 : at].tobytes().rstrip(b"\0")
        if name:
            yield name.decode(errors="replace"), at, cells[at]


class _Rows:
    """A worker's rows, counted in lists and copied to the cells batch by batch: an element costs a third of a cell."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self.rows: list[list[Any] | None] = [None] * ROUTE_ROWS  # of integers, but for the sums: seconds
        self.share: list[int] = cells[_SHARE : _SHARE + BUCKETS].tolist()
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
            at = _ROWS_AT + slot * ROW
            cells = row.copy()
            for sums in _SUMS:
                cells[sums] = int(row[sums] * 1e9)
            self._cells[at : at + ROW] = array("q", cells)
        self.changed.clear()
        self._cells[_SHARE : _SHARE + BUCKETS] = array("q", self.share)


def _recorder(state: _Rows, token: Callable[[int, str], None]) -> Callable[[Exchange, float], None]:
    """What counts an exchange in: a closure, so that nothing is looked up twice."""
    rows, share, changed, row_of = state.rows, state.share, state.changed, state.open

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
        share[bisect_left(BOUNDS, own)] += 1
        if exchange.body_received:
            row[_BYTES_IN] += exchange.body_received
        if exchange.body_sent:
            row[_BYTES_OUT] += exchange.body_sent
        if exchange.code:
            token(REFUSALS, exchange.code)
        if exchange.reason:
            token(FAILURES, exchange.reason)
        if exchange.verdicts:
            for policy, verdict in exchange.verdicts:
                token(VERDICTS, f"{verdict}:{policy}")

    return record


@dataclass(slots=True)
class RouteTotals:
    """What a route's rows add up to. Sums are seconds, `total` and `upstream` count per bucket of `BOUNDS`."""

    classes: list[int] = field(default_factory=lambda: [0] * len(CLASSES))
    retries: int = 0
    attempts: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    total_sum: float = 0.0
    upstream_sum: float = 0.0
    total: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    upstream: list[int] = field(default_factory=lambda: [0] * BUCKETS)


@dataclass(slots=True)
class Totals:
    """What all workers' parts add up to. `workers` holds each worker's own `COUNTERS` cells."""

    workers: list[list[int]]
    share_sum: float
    share: list[int]
    tokens: tuple[dict[str, int], ...]
    routes: dict[str, RouteTotals]

    def sum(self, counter: int) -> int:
        """A counter or gauge over all workers."""
        return sum(cells[counter] for cells in self.workers)


def read(memory: memoryview, slots: Mapping[str, int], workers: Iterable[int]) -> Totals:
    """Add up the parts of `workers` (their numbers); `slots` says which route has which row.

    Routes nobody asked for yet are left out. Reading a hole makes it a page, so only what is asked for is read.
    """
    cells = memory.cast("B").cast("q")
    parts = [cells[worker * _PART : (worker + 1) * _PART] for worker in workers]
    routes = {name: row for name, slot in slots.items() if (row := _route(parts, slot)) is not None}
    return Totals(
        workers=[part[:COUNTERS].tolist() for part in parts],
        share_sum=sum(row.total_sum - row.upstream_sum for row in routes.values()),
        share=_add(part[_SHARE : _SHARE + BUCKETS].tolist() for part in parts) or [0] * BUCKETS,
        tokens=tuple(_tokens(parts, at, end) for at, end in pairwise(_TABLES_AT)),
        routes=routes,
    )


def _add(rows: Iterable[list[int]]) -> list[int]:
    return [sum(column) for column in zip(*rows, strict=True)]


def _tokens(parts: list[memoryview], at: int, end: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for name, _, count in _entries(part[at:end]):
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
    )
