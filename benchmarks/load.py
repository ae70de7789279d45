"""One generator process: raw protocols on uvloop that send requests and take the time. Driven by `generator`.

Open loop (a rate is given): requests have intended start times, fixed before the run by the rate alone. A request that
cannot start on time, because every connection still waits for its reply or because this process was late, is
charged with the wait: its latency counts from the intended time. So a server that stalls is not asked less often
(no coordinated omission). How late requests were sent although a connection was free is kept apart: that is the
generator's own doing, and the reader must be able to see it.

Closed loop (no rate): each connection sends its next request when the reply to the last is complete.

Talks JSON lines: the plan on standard input, "ready" back, then the start time, progress and the outcome.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import ssl
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import count, cycle, repeat
from typing import Any

import httptools
import orjson
import uvloop

from benchmarks import histogram

RECONNECT_PAUSE = 0.05
PROGRESS_EVERY = 0.25
TFD_TIMER_ABSTIME = 1
TFD_NONBLOCK = os.O_NONBLOCK
CLOCK_MONOTONIC = 1


class Timespec(ctypes.Structure):
    """struct timespec (time.h)."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Itimerspec(ctypes.Structure):
    """struct itimerspec (timerfd_settime(2)): no interval, one absolute expiry."""

    _fields_ = (("interval", Timespec), ("value", Timespec))


class Alarm:
    """A timerfd: event loops count in milliseconds, which is longer than what is measured here."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = Itimerspec()

    def at(self, seconds: float) -> None:
        """Make `fd` readable at that time of the monotonic clock."""
        whole = int(seconds)
        self._spec.value.seconds = whole
        self._spec.value.nanoseconds = max(1, int((seconds - whole) * 1e9))
        self._libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def acknowledge(self) -> None:
        """Make `fd` unreadable again."""
        os.read(self.fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def schedule(start: float, rate: float, index: int, processes: int, poisson: bool, seed: int = 0) -> Iterator[float]:
    """Intended start times of process `index` of `processes` that together send `rate` requests a second.

    Constant: the processes' times interleave evenly. Poisson: gaps are exponential, each process with its share.
    """
    if not poisson:
        return (start + (index + number * processes) / rate for number in count())
    return _poisson(start, rate / processes, random.Random(seed * 1_000_003 + index))


def _poisson(start: float, rate: float, chance: random.Random) -> Iterator[float]:
    at = start
    while True:
        at += chance.expovariate(rate)
        yield at


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.transport: asyncio.Transport | None = None
        self.busy = False
        self.intended = 0.0
        self.next_request = repeat(run.next_request()).__next__ if run.plan["sticky"] else run.next_request
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection that waits for its first request."""
        self.transport = transport  # type: ignore[assignment]
        self.run.free_up(self)

    def send(self, intended: float) -> None:
        """Send the request now; its latency counts from `intended`."""
        self.busy = True
        self.intended = intended
        self.transport.write(self.next_request())  # type: ignore[union-attr]

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self.run.bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.fail("malformed")

    def on_headers_complete(self) -> None:
        """Replies to HEAD end here (RFC 9110 §9.3.2), which the parser cannot know."""
        if self.run.head_only and self.parser.get_status_code() >= 200:
            self.parser = httptools.HttpResponseParser(self)
            self.complete(200, True)

    def on_message_complete(self) -> None:
        """A reply is whole; interim ones (RFC 9110 §15.2) do not count."""
        status = self.parser.get_status_code()
        if status >= 200:
            self.complete(status, self.parser.should_keep_alive())

    def complete(self, status: int, keep_alive: bool) -> None:
        """The reply is whole."""
        if not self.busy:
            self.fail("unasked")
            return
        self.busy = False
        self.run.completed(self.intended, status)
        if keep_alive:
            self.run.free_up(self)
        else:
            self.transport.close()  # type: ignore[union-attr]

    def fail(self, reason: str) -> None:
        """Give the request under way up and the connection with it."""
        if self.busy:
            self.busy = False
            self.run.failed(reason)
        self.transport.abort()  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended, whoever ended it."""
        self.run.lost(self)


class Run:
    """The requests of one process, from its plan to its outcome."""

    def __init__(self, plan: dict[str, Any], index: int) -> None:
        self.plan = plan
        self.index = index
        requests = [request.encode("latin-1") for request in plan["requests"]]
        begin = index * len(requests) // plan["processes"]  # so that processes ask for different things
        self.next_request = cycle(requests[begin:] + requests[:begin]).__next__
        self.head_only: bool = plan["head_only"]
        self.rate: float | None = plan["rate"]
        self.loop = asyncio.get_event_loop()
        self.tls = _tls(plan)
        self.alarm = Alarm()
        self.connections: set[Connection] = set()
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.latencies: Counter[int] = Counter()
        self.late: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()
        self.bytes = self.requests = self.in_window = self.reconnects = 0
        self.start = self.end = float("inf")
        self.over = False
        self.next_at = float("inf")
        self.times: Iterator[float] = iter(())

    async def connect_all(self) -> None:
        """Open this process's connections, 64 at a time; `OSError` if one cannot be opened."""
        left = self.plan["connections"]
        while left:
            batch = min(left, 64)
            await asyncio.gather(*(self.connect() for _ in range(batch)))
            left -= batch

    async def connect(self) -> None:
        """Open one connection."""
        dial = self.loop.create_connection(
            lambda: Connection(self),
            self.plan["host"],
            self.plan["port"],
            ssl=self.tls,
            server_hostname=self.plan["host"] if self.tls else None,
        )
        _, connection = await asyncio.wait_for(dial, self.plan["timeout"])
        self.connections.add(connection)

    async def reconnect(self) -> None:
        """Open one connection, trying again while the run lasts; each failure counts."""
        while not self.over:
            try:
                await self.connect()
            except (OSError, TimeoutError):
                self.errors["connect"] += 1
                await asyncio.sleep(RECONNECT_PAUSE)
            else:
                return

    async def measure(self, start: float, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Send from `start` (monotonic clock) for the plan's duration and wait for what is under way: the outcome."""
        self.start, self.end = start, start + self.plan["duration"]
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        if self.rate:
            self.times = schedule(start, self.rate, self.index, self.plan["processes"], self.plan["poisson"])
            self.next_at = next(self.times)
            self.loop.add_reader(self.alarm.fd, self.on_alarm)
            self.alarm.at(self.next_at)
        else:
            while self.idle:
                self.idle.popleft().send(time.monotonic())
        while not self.done():
            await asyncio.sleep(min(PROGRESS_EVERY, max(0.01, self.end - time.monotonic())))
            self.sweep()
            tell({"requests": self.requests})
        return self.finish()

    def done(self) -> bool:
        """Whether the time is over and nothing is owed."""
        if time.monotonic() < self.end:
            return False
        return not self.waiting and not any(connection.busy for connection in self.connections)

    def on_alarm(self) -> None:
        """Start every request whose intended time has come."""
        self.alarm.acknowledge()
        now = time.monotonic()
        while self.next_at <= now and self.next_at < self.end:
            if self.idle:
                self.late[int((now - self.next_at) * 1e6)] += 1
                self.idle.popleft().send(self.next_at)
            else:
                self.waiting.append(self.next_at)
            self.next_at = next(self.times)
        if self.next_at < self.end:
            self.alarm.at(self.next_at)

    def free_up(self, connection: Connection) -> None:
        """A connection that can take a request."""
        if self.waiting:
            connection.send(self.waiting.popleft())
        elif self.rate is None and self.start <= (now := time.monotonic()) < self.end:
            connection.send(now)
        else:
            self.idle.append(connection)

    def completed(self, intended: float, status: int) -> None:
        """A whole reply came; its time counts whatever its status."""
        now = time.monotonic()
        self.latencies[int((now - intended) * 1e6)] += 1
        self.requests += 1
        if now <= self.end:
            self.in_window += 1
        if not 200 <= status < 400:
            self.errors[str(status)] += 1

    def failed(self, reason: str) -> None:
        """A request that got no whole reply."""
        self.errors[reason] += 1

    def lost(self, connection: Connection) -> None:
        """A connection ended; another takes its place while the run lasts."""
        if connection.busy:
            connection.busy = False
            self.failed("closed")
        if connection in self.idle:
            self.idle.remove(connection)
        self.connections.discard(connection)
        if not self.over:
            self.reconnects += 1
            task = self.loop.create_task(self.reconnect())
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def sweep(self) -> None:
        """Give up requests older than the timeout. They count as errors and, with the time waited, as latencies:
        leaving the slowest out would flatter the server."""
        now = time.monotonic()
        oldest = now - self.plan["timeout"]
        for connection in [c for c in self.connections if c.busy and c.intended < oldest]:
            self.latencies[int((now - connection.intended) * 1e6)] += 1
            connection.fail("timeout")
        while self.waiting and self.waiting[0] < oldest:
            self.latencies[int((now - self.waiting.popleft()) * 1e6)] += 1
            self.errors["unsent"] += 1

    def finish(self) -> dict[str, Any]:
        """Close everything; the outcome as a JSON object."""
        self.over = True
        self.loop.remove_reader(self.alarm.fd)
        self.alarm.close()
        for task in self.tasks:
            task.cancel()
        for connection in self.connections:
            connection.transport.abort()  # type: ignore[union-attr]
        return {
            "requests": self.requests,
            "in_window": self.in_window,
            "errors": dict(self.errors),
            "bytes": self.bytes,
            "reconnects": self.reconnects,
            "latencies": histogram.encode(histogram.from_counts(self.latencies)),
            "late": histogram.encode(histogram.from_counts(self.late)),
        }


def _tls(plan: dict[str, Any]) -> ssl.SSLContext | None:
    if not plan["tls"]:
        return None
    context = ssl.create_default_context()
    if plan["insecure"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def tell(message: dict[str, Any]) -> None:
    """One JSON line to whoever started this process."""
    sys.stdout.write(orjson.dumps(message).decode() + "\n")
    sys.stdout.flush()


async def serve_plan() -> None:
    """Read the plan, connect, say so, start when told, report."""
    order = orjson.loads(sys.stdin.readline())
    run = Run(order["plan"], order["index"])
    try:
        await run.connect_all()
    except (OSError, TimeoutError) as error:
        tell({"fault": f"cannot connect: {error or 'timed out'}"})
        return
    tell({"ready": True})
    start = float(sys.stdin.readline())
    tell({"outcome": await run.measure(start, tell)})


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process ends it
    uvloop.run(serve_plan())
