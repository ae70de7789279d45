"""How replies stream: back-pressure, leaving, what nobody wants. `test_fetching` has the same over sockets."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.cache.streaming import DRAINED, OVER

from .played import Play


def play(scenario, **settings):
    """Run `scenario(play)` in a loop."""

    async def run():
        return scenario(Play(**settings))

    return asyncio.run(run())


def test_back_pressure_of_one_caller_reaches_the_target():
    def scenario(play):
        caller = play.ask()
        inner = play.handler.asked[0]
        inner.start_reply(200, [(b"cache-control", b"no-store")], -1, b"a")
        caller.sink.pause_reply()
        caller.sink.resume_reply()
        inner.downstream.send_body(b"b")
        inner.downstream.end_reply([])
        assert play.handler.calls == ["pause", "resume"]
        assert (caller.body, caller.ended) == (b"ab", 1)

    play(scenario)


def test_what_is_stored_is_held_up_by_nobody():
    def scenario(play):
        slow, quick = play.ask(), play.ask()
        inner = play.handler.asked[0]
        inner.start_reply(200, play.fresh(), 3, b"a")
        slow.sink.pause_reply()
        inner.downstream.send_body(b"bc")
        inner.downstream.end_reply([])
        assert play.handler.calls == []
        assert (quick.body, quick.ended) == (b"abc", 1)
        assert (slow.body, slow.ended) == (b"a", 0)
        slow.sink.resume_reply()
        assert (slow.body, slow.ended) == (b"abc", 1)

    play(scenario)


def test_what_outgrows_the_store_waits_only_if_all_do():
    def scenario(play):
        callers = [play.ask(), play.ask()]
        inner = play.handler.asked[0]
        inner.start_reply(200, play.fresh(), -1, b"x" * 11)
        inner.downstream.send_body(b"y")
        for caller in callers:
            caller.sink.pause_reply()
        callers[0].sink.resume_reply()
        assert play.handler.calls == ["pause", "resume"]

    play(scenario, largest=11)


@pytest.mark.parametrize("begun", [False, True])
def test_the_last_to_leave_ends_the_fetch(begun):
    def scenario(play):
        callers = [play.ask(), play.ask()]
        inner = play.handler.asked[0]
        if begun:
            callers[1].sink.caller_gone()
            inner.start_reply(200, [(b"cache-control", b"no-store")], -1, b"a")
        callers[0].sink.caller_gone()
        if not begun:
            assert play.handler.calls == []
            callers[1].sink.caller_gone()
        assert play.handler.calls == ["gone"]
        assert len(play.kept.flights) == 0
        inner.downstream.send_body(b"late")
        inner.downstream.end_reply([])
        inner.downstream.abort()
        callers[0].sink.caller_gone()  # once more does no harm

    play(scenario)


def test_a_caller_who_leaves_while_others_stream_changes_nothing():
    def scenario(play):
        callers = [play.ask(), play.ask()]
        inner = play.handler.asked[0]
        inner.start_reply(200, play.fresh(), 2, b"a")
        callers[0].sink.caller_gone()
        inner.downstream.send_body(b"b")
        inner.downstream.end_reply([])
        assert (callers[0].body, callers[1].body) == (b"a", b"ab")
        assert len(play.kept.store) == 1

    play(scenario)


@pytest.mark.parametrize(("length", "cancelled"), [(DRAINED, []), (DRAINED + 1, ["gone"]), (-1, ["gone"])])
def test_an_errors_body_that_nobody_wants(length, cancelled):
    def scenario(play):
        play.ask()
        headers = [*play.fresh(), (b"cache-control", b"stale-if-error=60")]
        play.handler.asked[0].reply(200, headers, 1, b"a")
        play.clock.advance(61)
        caller = play.ask()
        inner = play.handler.asked[1]
        inner.start_reply(503, [], length, b"x")
        assert (caller.body, play.handler.calls) == (b"a", cancelled)
        inner.downstream.send_body(b"y")
        inner.downstream.end_reply([])
        assert inner.downstream.mode == OVER
        assert len(play.kept.flights) == 0

    play(scenario)


def test_it_has_no_body_and_asks_for_no_upgrade():
    def scenario(play):
        play.ask()
        downstream = play.handler.asked[0].downstream
        downstream.pause_body()
        downstream.resume_body()
        with pytest.raises(AssertionError):
            downstream.upgrade([], b"websocket")

    play(scenario)


def test_bytes_under_way_are_counted_and_bounded():
    def scenario(play):
        play.kept.store.limit = 10_000
        callers = [play.ask(path=b"/%d" % number) for number in range(4)]
        for inner in play.handler.asked:
            inner.start_reply(200, play.fresh(), -1, b"x" * 5000)
        assert play.kept.flights.buffered == 15_000
        play.handler.asked[3].downstream.end_reply([])
        assert (len(callers[3].body), len(play.kept.store)) == (5000, 0)
        for inner in play.handler.asked[:3]:
            inner.downstream.end_reply([])
        assert play.kept.flights.buffered == 0
        assert len(play.kept.store) == 1

    play(scenario)
