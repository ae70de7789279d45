"""When requests are meant to start, and what they are charged with."""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from benchmarks import histogram, load
from benchmarks.generator import Plan


def test_constant_arrivals_of_all_processes_interleave_evenly():
    times = sorted(at for index in range(3) for at in islice(load.schedule(10.0, 30.0, index, 3, False), 10))
    assert times == pytest.approx([10.0 + number / 30 for number in range(30)])


def test_poisson_arrivals_have_the_rate_asked_and_can_be_repeated():
    def times() -> list[float]:
        return list(islice(load.schedule(0.0, 1000.0, 0, 2, True), 20_000))

    assert times() == times()
    assert times()[-1] == pytest.approx(20_000 / 500, rel=0.05)
    other = list(islice(load.schedule(0.0, 1000.0, 1, 2, True), 20_000))
    assert other != times()


class FakeTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = 0
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += 1

    def close(self) -> None:
        self.closed = True

    abort = close


REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Time:
    """A monotonic clock that stands still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Time()
    monkeypatch.setattr(load, "time", clock)
    return clock


def made(rate: float | None, connections: int = 1, **more) -> tuple[load.Run, list[load.Connection]]:
    """A run of one process that has begun, on connections that lead nowhere."""
    plan = Plan(url="http://127.0.0.1:1/", connections=connections, duration=10.0, rate=rate, **more)
    run = load.Run(plan.orders()[0]["plan"], 0)
    run.start, run.end = 100.0, 110.0
    if rate:
        run.times = load.schedule(100.0, rate, 0, 1, False)
        run.next_at = next(run.times)
    opened = [load.Connection(run) for _ in range(connections)]
    for connection in opened:
        run.connections.add(connection)
        connection.transport = FakeTransport()
        run.idle.append(connection)
    return run, opened


def in_loop(test):
    """Run an async test; a run needs a loop to be made."""

    def call(clock):
        asyncio.run(test(clock))

    call.__name__, call.__doc__ = test.__name__, test.__doc__
    return call


def ring(run: load.Run) -> None:
    """What the timer does when it goes off."""
    run.alarm.at(1e-9)
    run.on_alarm()


@in_loop
async def test_a_stall_is_charged_to_every_request_that_had_to_wait(clock):
    """The server stalls for a second at 10 requests a second on one connection: coordinated omission would show one
    slow request; here each of those that were due meanwhile is slow."""
    run, (connection,) = made(rate=10.0)
    ring(run)
    clock.now = 101.0
    ring(run)
    assert len(run.waiting) == 10
    while connection.busy:
        connection.data_received(REPLY)
    assert run.requests == 11
    assert sorted(run.latencies) == pytest.approx([int(n * 100_000) for n in range(11)], abs=2)
    assert histogram.percentiles(histogram.from_counts(run.latencies))["p50_ms"] == pytest.approx(500, rel=0.01)


@in_loop
async def test_a_late_generator_is_charged_too_and_told_apart(clock):
    run, (connection,) = made(rate=1.0)
    clock.now = 100.25
    ring(run)
    assert run.late == {250_000: 1}
    clock.now = 100.3
    connection.data_received(REPLY)
    assert list(run.latencies) == pytest.approx([300_000], abs=2)


@in_loop
async def test_nothing_is_started_after_the_end(clock):
    run, (connection,) = made(rate=1.0)
    clock.now = 500.0
    ring(run)
    assert len(run.waiting) + connection.busy == 10


@in_loop
async def test_requests_that_time_out_count_as_errors_and_as_latencies(clock):
    run, (connection,) = made(rate=1.0, timeout=2.0)
    ring(run)
    clock.now = 101.0
    ring(run)
    clock.now = 103.5
    run.sweep()
    assert connection.transport.closed
    assert run.errors == {"timeout": 1, "unsent": 1}
    assert sorted(run.latencies) == pytest.approx([2_500_000, 3_500_000], abs=2)


@in_loop
async def test_closed_loop_sends_again_when_the_reply_is_whole(clock):
    run, (connection,) = made(rate=None)
    run.idle.popleft().send(clock.now)
    connection.data_received(REPLY[:-1])
    assert (run.requests, connection.transport.written) == (0, 1)
    connection.data_received(REPLY[-1:])
    assert (run.requests, connection.transport.written) == (1, 2)
    clock.now = 111.0
    connection.data_received(REPLY)
    assert (run.requests, run.in_window, connection.transport.written) == (2, 1, 2)


@in_loop
async def test_bad_statuses_and_broken_replies_are_failures(clock):
    run, (one, two) = made(rate=None, connections=2)
    one.send(clock.now)
    one.data_received(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    two.send(clock.now)
    two.data_received(b"nonsense\r\n\r\n")
    assert run.errors == {"503": 1, "malformed": 1}


@in_loop
async def test_a_reply_nobody_asked_for_is_a_failure_of_its_connection(clock):
    run, (connection,) = made(rate=None)
    connection.data_received(REPLY)
    assert connection.transport.closed
    assert run.requests == 0


@in_loop
async def test_an_interim_reply_is_not_the_reply(clock):
    run, (connection,) = made(rate=None)
    connection.send(clock.now)
    connection.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert run.requests == 0
    connection.data_received(REPLY)
    assert run.requests == 1


@in_loop
async def test_a_reply_to_head_has_no_body_whatever_it_says(clock):
    run, (connection,) = made(rate=None, method="HEAD")
    connection.send(clock.now)
    for _ in range(2):
        connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert run.requests == 2
