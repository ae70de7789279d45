"""Pools: who gets which connection, who waits, and that the books are right whatever happens in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import model
from gatewayd.errors import UpstreamError
from gatewayd.upstream.pool import Pool


class Wire:
    """A connection that a pool can hold."""

    def __init__(self, pool: Pool[Wire], number: int) -> None:
        self.pool, self.number = pool, number
        self.closed = False
        self.idle_since = 0.0
        self.served = 0
        self.stale = False
        self.holder: Waiting | None = None

    def drop(self) -> None:
        if not self.closed:
            self.closed = True
            self.holder = None
            self.pool.lost(self)

    def readable(self) -> bool:
        return self.stale

    def __repr__(self) -> str:
        return f"<Wire {self.number}>"


class Waiting:
    """Somebody who wants a connection."""

    def __init__(self) -> None:
        self.gone = False
        self.got: Wire | None = None
        self.error: UpstreamError | None = None

    def connected(self, connection: Wire) -> None:
        assert not self.gone
        assert self.got is self.error is None, "answered twice"
        assert connection.holder is None, "somebody else's"
        assert not connection.closed
        connection.holder = self
        connection.served += 1
        self.got = connection

    def dial_failed(self, error: UpstreamError) -> None:
        assert not self.gone
        assert self.got is self.error is None, "answered twice"
        self.error = error

    def hand_back(self) -> None:
        """The exchange is over."""
        connection, self.got = self.got, None
        assert connection is not None
        connection.holder = None
        connection.pool.free(connection)


class Dock:
    """A pool whose dials a test ends by hand."""

    def __init__(self, **config: Any) -> None:
        self.pool: Pool[Wire] = Pool(model.Pool(**config), self.dial)
        self.dials: list[asyncio.Future[None]] = []
        self.made: list[Wire] = []

    async def dial(self, pool: Pool[Wire]) -> Wire:
        ended = asyncio.get_running_loop().create_future()
        self.dials.append(ended)
        await ended
        wire = Wire(pool, len(self.made))
        self.made.append(wire)
        return wire

    def want(self) -> Waiting:
        waiting = Waiting()
        self.pool.want(waiting)
        return waiting

    async def end_dial(self, error: UpstreamError | None = None) -> None:
        """The oldest dial succeeds, or fails."""
        await settle()
        ended = self.dials.pop(0)
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)
        await settle()

    async def get(self) -> Waiting:
        """Somebody with a new connection."""
        waiting = self.want()
        await self.end_dial()
        assert waiting.got is not None
        return waiting


async def settle() -> None:
    """Let tasks run as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)


FAILED = UpstreamError(502, "connect_failed", "always")


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


def test_the_connection_used_last_is_used_next() -> None:
    async def test() -> None:
        dock = Dock()
        first, second = await dock.get(), await dock.get()
        first.hand_back()
        second.hand_back()
        assert dock.pool.idle == dock.made
        assert dock.pool.take() is dock.made[1]
        assert dock.pool.take() is dock.made[0]
        assert dock.pool.take() is None
        assert dock.pool.open == 2
        assert repr(dock.pool) == "<Pool open=2 idle=0 waiting=0>"

    run(test)


def test_it_tells_what_is_open_and_how_often_a_connection_served_again() -> None:
    async def test() -> None:
        dock = Dock(connections=2)
        first, second = await dock.get(), await dock.get()
        for_one = dock.want()
        dock.want().gone = True
        told = {"open": 2, "idle": 0, "busy": 2, "waiting": 1, "dials": 2, "reused": 0}
        assert dock.pool.status() == told
        first.hand_back()
        assert for_one.got is dock.made[0]
        second.hand_back()
        assert dock.pool.status() == {**told, "idle": 1, "busy": 1, "waiting": 0, "reused": 1}
        assert (dock.pool.take(), dock.pool.take()) == (dock.made[1], None)
        assert dock.pool.status() == {**told, "waiting": 0, "reused": 2}

    run(test)


def test_what_cannot_be_sent_twice_gets_no_connection_that_was_closed_meanwhile() -> None:
    async def test() -> None:
        dock = Dock()
        for waiting in [await dock.get() for _ in range(3)]:
            waiting.hand_back()
        dock.made[2].stale = dock.made[1].stale = True
        assert dock.pool.take(idempotent=False) is dock.made[0]
        assert [wire.closed for wire in dock.made] == [False, True, True]
        assert dock.pool.open == 1

    run(test)


def test_over_the_limit_callers_wait_in_line_and_the_line_has_an_end() -> None:
    async def test() -> None:
        dock = Dock(connections=1, queue=2)
        busy = await dock.get()
        second, third = dock.want(), dock.want()
        with pytest.raises(UpstreamError) as caught:
            dock.want()
        assert (caught.value.status, caught.value.reason, caught.value.retry) == (503, "pool_exhausted", "always")
        busy.hand_back()
        assert second.got is dock.made[0]
        assert third.got is None
        second.hand_back()
        assert third.got is dock.made[0]
        third.hand_back()
        assert (dock.pool.open, dock.pool.idle) == (1, dock.made)

    run(test)


def test_who_has_gone_is_passed_over_and_takes_no_place_in_the_line() -> None:
    async def test() -> None:
        dock = Dock(connections=1, queue=1)
        busy = await dock.get()
        dock.want().gone = True
        third = dock.want()
        busy.hand_back()
        assert third.got is dock.made[0]

    run(test)


def test_a_connection_dialled_for_who_has_gone_serves_the_next() -> None:
    async def test() -> None:
        dock = Dock(connections=1)
        first, second = dock.want(), dock.want()
        first.gone = True
        await dock.end_dial()
        assert second.got is dock.made[0]
        dock = Dock()
        dock.want().gone = True
        await dock.end_dial()
        assert dock.pool.idle == dock.made

    run(test)


def test_a_failed_dial_is_told_and_its_place_is_free() -> None:
    async def test() -> None:
        dock = Dock(connections=1)
        first, second = dock.want(), dock.want()
        await dock.end_dial(FAILED)
        assert first.error is FAILED
        await dock.end_dial()
        assert second.got is dock.made[0]
        assert dock.pool.open == 1

    run(test)


def test_a_failed_dial_for_who_has_gone_is_told_to_nobody() -> None:
    async def test() -> None:
        dock = Dock()
        waiting = dock.want()
        await settle()
        waiting.gone = True
        await dock.end_dial(FAILED)
        assert (waiting.error, dock.pool.open) == (None, 0)

    run(test)


@pytest.mark.parametrize("gone", [False, True])
def test_a_connection_closed_at_once_fails_its_dial_and_is_counted_once(gone: bool) -> None:
    async def test() -> None:
        async def dial(pool: Pool[Wire]) -> Wire:
            wire = Wire(pool, 0)
            wire.drop()
            return wire

        pool: Pool[Wire] = Pool(model.Pool(), dial)
        waiting = Waiting()
        pool.want(waiting)
        waiting.gone = gone
        await settle()
        assert pool.open == 0
        assert pool.idle == []
        assert (waiting.error is None) is gone
        assert waiting.got is None

    run(test)


def test_connections_beyond_their_use_are_closed_and_others_dialled_for_who_waits() -> None:
    async def test() -> None:
        dock = Dock(connections=1, requests_per_connection=2)
        first = await dock.get()
        second, third = dock.want(), dock.want()
        first.hand_back()
        assert second.got is dock.made[0]
        second.hand_back()
        assert dock.made[0].closed
        assert third.got is None
        await dock.end_dial()
        assert third.got is dock.made[1]
        assert dock.pool.open == 1

    run(test)


def test_only_so_many_are_kept_idle() -> None:
    async def test() -> None:
        dock = Dock(idle_connections=1)
        for waiting in [await dock.get() for _ in range(3)]:
            waiting.hand_back()
        assert [wire.closed for wire in dock.made] == [False, True, True]
        assert dock.pool.open == 1

    run(test)


def test_a_lost_connection_leaves_the_pool_wherever_it_was() -> None:
    async def test() -> None:
        dock = Dock()
        first, second = await dock.get(), await dock.get()
        first.hand_back()
        dock.made[0].drop()
        assert dock.pool.idle == []
        assert second.got is not None
        second.got.drop()
        assert dock.pool.open == 0

    run(test)


def test_idle_connections_age_from_the_first_look() -> None:
    async def test() -> None:
        dock = Dock(idle_timeout=30)
        (await dock.get()).hand_back()
        dock.pool.sweep(1000.0)
        dock.pool.sweep(1030.0)
        assert not dock.made[0].closed
        dock.pool.sweep(1030.1)
        assert dock.made[0].closed
        assert dock.pool.open == 0

    run(test)


def test_use_makes_a_connection_young_again() -> None:
    async def test() -> None:
        dock = Dock(idle_timeout=30)
        (await dock.get()).hand_back()
        dock.pool.sweep(1000.0)
        taken = dock.pool.take()
        assert taken is dock.made[0]
        dock.pool.free(taken)
        dock.pool.sweep(1040.0)
        dock.pool.sweep(1069.0)
        assert not taken.closed

    run(test)


def test_a_retired_pool_keeps_nothing_until_it_is_configured_again() -> None:
    async def test() -> None:
        dock = Dock()
        first, second = await dock.get(), await dock.get()
        first.hand_back()
        dock.pool.retire()
        second.hand_back()
        assert [wire.closed for wire in dock.made] == [True, True]
        assert dock.pool.open == 0
        dock.pool.configure(model.Pool(connections=1), dock.dial)
        third = await dock.get()
        assert dock.want().got is None
        third.hand_back()

    run(test)


STEPS = st.lists(
    st.tuples(st.sampled_from(["want", "leave", "dial", "fail", "free", "lose", "sweep"]), st.integers(0, 5)),
    max_size=60,
)


@given(STEPS, st.integers(1, 3), st.integers(0, 2), st.integers(0, 3))
def test_the_books_are_right_whatever_happens(
    steps: list[tuple[str, int]], connections: int, idle: int, queue: int
) -> None:
    async def test() -> None:
        dock = Dock(connections=connections, idle_connections=idle, queue=queue, requests_per_connection=3)
        crowd: list[Waiting] = []
        for step, at in steps:
            busy = [each for each in crowd if each.got is not None]
            waiting = [each for each in crowd if each.got is each.error is None and not each.gone]
            if step == "want":
                taken = dock.pool.take()
                crowd.append(Waiting())
                if taken is not None:
                    crowd[-1].connected(taken)
                else:
                    try:
                        dock.pool.want(crowd[-1])
                    except UpstreamError as error:
                        crowd[-1].error = error
            elif step == "leave" and waiting:
                waiting[at % len(waiting)].gone = True
            elif step in ("dial", "fail") and dock.dials:
                await dock.end_dial(FAILED if step == "fail" else None)
            elif step == "free" and busy:
                busy[at % len(busy)].hand_back()
            elif step == "lose" and busy:
                wire, busy[at % len(busy)].got = busy[at % len(busy)].got, None
                assert wire is not None
                wire.drop()
            elif step == "sweep":
                dock.pool.sweep(1000.0 + at * 20)
            await settle()
            held = [each.got for each in crowd if each.got is not None]
            assert len(held) == len(set(held))
            assert not set(held) & set(dock.pool.idle)
            assert dock.pool.open == len(held) + len(dock.pool.idle) + len(dock.dials)
            assert dock.pool.open <= connections
            assert len(dock.pool.idle) <= idle
        for ended in dock.dials:
            ended.cancel()
        await settle()

    run(test)
