"""Fetches under way."""

from __future__ import annotations

import asyncio

from gatewayd.cache.flights import Flights

from .played import Play

LANGUAGE = b"accept-language"


def test_a_fetch_is_found_until_nobody_may_join():
    async def scenario():
        play = Play()
        play.ask()
        flights = play.kept.flights
        (fetch,) = flights._running
        assert flights.find(fetch.flight, [], None) is fetch
        assert flights.find((fetch.key, True), [], None) is None
        play.kept.store.purge("all", "")
        assert flights.find(fetch.flight, [], None) is None
        flights.leave(fetch)
        flights.leave(fetch)
        assert not flights._joinable

    asyncio.run(scenario())


def test_what_varies_decides_who_may_wait():
    async def scenario():
        play = Play()
        play.ask((LANGUAGE, b"de"))
        flights = play.kept.flights
        (fetch,) = flights._running
        english = [(LANGUAGE, b"en")]
        assert flights.find(fetch.flight, english, None) is fetch  # nobody knows better
        assert flights.find(fetch.flight, english, (LANGUAGE,)) is None
        fetch.vary = (LANGUAGE,)
        assert flights.find(fetch.flight, english, None) is None
        assert flights.find(fetch.flight, [(LANGUAGE, b" DE")], None) is fetch

    asyncio.run(scenario())


def test_deadlines_are_minded_while_there_are_fetches():
    async def scenario():
        play = Play()
        play.ask()
        flights, handler = play.kept.flights, play.handler
        handler.deadline = play.clock.monotonic() + 5
        assert flights._timer is not None
        for seconds, calls in ((4, []), (1, ["expire"]), (1, ["expire"])):
            play.clock.advance(seconds)
            flights._timer.cancel()
            flights._sweep()
            assert handler.calls == calls
        handler.asked[0].reply(200, [], 0, b"")
        flights._timer.cancel()
        flights._sweep()
        assert (flights._timer, len(flights)) == (None, 0)

    asyncio.run(scenario())


def test_an_empty_table_has_no_timer():
    assert Flights(lambda: 0.0)._timer is None
