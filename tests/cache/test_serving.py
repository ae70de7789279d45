"""The cache of one instance, without sockets."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.cache.serving import UNCACHEABLE
from gatewayd.core.identity import Consumer, Identity

from .played import Play


def play(scenario, **settings):
    """Run `scenario(play)` in a loop."""

    async def run():
        return scenario(Play(**settings))

    return asyncio.run(run())


def identity(name):
    return Identity(Consumer(name), "api_key", name)


def answer_all(play, headers=None):
    """Let the handler answer what it has not yet."""
    for number, inner in enumerate(play.handler.asked):
        if not inner.status:
            inner.reply(200, headers or play.fresh(), 1, b"%d" % number)


@pytest.mark.parametrize(("per_consumer", "fetched"), [(False, 3), (True, 2)])
def test_consumers_share_what_they_may(per_consumer, fetched):
    """By default replies to credentials are nobody's; with `scope = "consumer"` each has its own."""

    def scenario(play):
        for name in ("anne", "bert", "anne"):
            play.ask(identity=identity(name))
            answer_all(play)
        assert len(play.handler.asked) == fetched

    play(scenario, per_consumer=per_consumer)


def test_public_replies_are_everyones():
    def scenario(play):
        for name in ("anne", "bert"):
            caller = play.ask(identity=identity(name))
            answer_all(play, [(b"cache-control", b"public, max-age=9")])
            assert caller.body == b"0"
        assert len(play.handler.asked) == 1

    play(scenario)


def test_a_hit_does_not_change_what_is_stored():
    def scenario(play):
        play.ask()
        answer_all(play)
        first, second = play.ask(), play.ask()
        first.headers.append((b"x", b"y"))
        assert [name for name, _ in first.headers].count(b"x-request-id") == 1
        assert second.values(b"x") == []

    play(scenario)


def test_verdicts_say_how_it_went():
    def scenario(play):
        noted = []

        def ask(*headers, **more):
            caller = play.ask(*headers, **more)
            answer_all(play, [*play.fresh(), (b"cache-control", b"stale-while-revalidate=60")])
            return caller

        exchanges = play.serve

        def serve(exchange):
            noted.append(exchange)
            exchanges(exchange)

        play.serve = serve
        ask()
        ask()
        ask((b"if-match", b"x"))
        play.clock.advance(65)
        ask()
        assert [exchange.verdicts for exchange in noted] == [
            [("cache", verdict)] for verdict in ("miss", "hit", "passed", "stale")
        ]

    play(scenario)


def test_a_target_that_fails_is_not_asked_behind_every_request():
    def scenario(play):
        play.ask()
        answer_all(play, [*play.fresh(), (b"cache-control", b"stale-while-revalidate=60")])
        play.clock.advance(65)
        for _ in range(3):
            assert play.ask().body == b"0"
        play.handler.asked[-1].reply(503, [], 0, b"")
        for _ in range(3):
            assert play.ask().body == b"0"
        assert len(play.handler.asked) == 2
        play.clock.advance(1)
        play.ask()
        assert len(play.handler.asked) == 3

    play(scenario)


def test_memory_of_what_is_uncacheable_is_bounded():
    def scenario(play):
        for number in range(UNCACHEABLE + 10):
            play.cache.remember_uncacheable(((None, number), False))
        assert len(play.cache._uncacheable) == UNCACHEABLE

    play(scenario)


def test_what_is_uncacheable_is_tried_again_later():
    def scenario(play):
        play.ask()
        answer_all(play, [(b"cache-control", b"no-store")])
        play.ask()
        assert play.handler.asked[1].route is play.route  # the caller's own exchange: it passes by
        play.clock.advance(11)
        play.ask()
        assert play.handler.asked[2].route is None

    play(scenario)


def test_one_does_not_wait_for_others_for_ever():
    """A target whose `Vary` is another each time."""

    def scenario(play):
        callers = [play.ask((b"a", b"%d" % n), (b"b", b"%d" % n)) for n in range(4)]
        for number in range(20):
            waiting = [inner for inner in play.handler.asked if not inner.status]
            if not waiting:
                break
            waiting[0].reply(200, [*play.fresh(), (b"vary", b"ab"[number % 2 : number % 2 + 1])], 1, b"x")
        assert [caller.ended for caller in callers] == [1] * 4
        assert len(play.handler.asked) == 4

    play(scenario)


def test_a_handler_that_breaks_leaves_nobody_waiting():
    def scenario(play):
        def broken(exchange):
            raise RuntimeError("no")

        play.serve = play.cache.wrap(broken)
        with pytest.raises(RuntimeError):
            play.ask()
        assert len(play.kept.flights) == 0

    play(scenario)


def test_other_routes_have_their_own():
    def scenario(play):
        play.ask()
        answer_all(play)
        play.ask(route=None)
        assert len(play.handler.asked) == 2

    play(scenario)
