"""Stored replies that are no longer fresh: validated, or used all the same."""

from __future__ import annotations

import threading

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.rfc.headers import http_date
from tests.cache.scenes import FRESH, Scene, reply

DAY = 86_400


def counted(*headers):
    """An origin whose replies say which they are."""
    count = iter(range(1, 1000))
    return lambda asked: reply(*headers, body=b"reply %d" % next(count))


def status_of(answer):
    return answer.headers["cache-status"]


# -- validation ---------------------------------------------------------------------------------------------------


def validating(*headers):
    """An origin that knows the tag "e"."""

    def say(asked):
        if asked.headers.get("if-none-match") == '"e"':
            return reply(*headers, "x-seen: again", status="304 Not Modified")
        return reply(*headers, 'etag: "e"', "x-seen: first", "x-other: kept")

    return say


def test_a_stale_reply_is_validated_and_fresh_again():
    clock = FakeClock()
    with Scene(validating(FRESH), clock) as scene:
        scene.get()
        clock.advance(61)
        answer = scene.get()
        assert (answer.status, answer.body) == (200, b"body")
        assert status_of(answer) == "gatewayd; fwd=stale; fwd-status=304"
        assert (answer.headers["x-seen"], answer.headers["x-other"]) == ("again", "kept")
        assert "hit" in status_of(scene.get())
        assert scene.origin.count == 2


def test_no_cache_replies_are_validated_every_time():
    with Scene(validating("cache-control: no-cache")) as scene:
        assert [scene.get().status for _ in range(3)] == [200, 200, 200]
        assert [asked.headers.get("if-none-match") for asked in scene.origin.asked] == [None, '"e"', '"e"']


def test_a_date_validates_too():
    clock = FakeClock()
    modified = http_date(clock.wall() - DAY).decode()
    with Scene(counted(FRESH, f"last-modified: {modified}"), clock) as scene:
        scene.get()
        clock.advance(61)
        assert scene.get().body == b"reply 2"
        assert scene.origin.asked[-1].headers["if-modified-since"] == modified


def test_another_variant_may_turn_out_to_be_the_right_one():
    def say(asked):
        if '"e"' in asked.headers.get("if-none-match", ""):
            return reply(FRESH, 'etag: "e"', "vary: accept-language", status="304 Not Modified")
        return reply(FRESH, 'etag: "e"', "vary: accept-language", body=b"both")

    with Scene(say) as scene:
        scene.get("/", "accept-language: de")
        for _ in range(2):
            assert scene.get("/", "accept-language: en").body == b"both"
        assert scene.origin.count == 2


def test_a_304_that_fits_nothing_is_asked_again_without_conditions():
    def say(asked):
        tags = asked.headers.get("if-none-match")
        if tags:
            return reply('etag: "unknown"', status="304 Not Modified")
        language = asked.headers["accept-language"]
        return reply(FRESH, f'etag: "{language}"', "vary: accept-language", body=language.encode())

    with Scene(say) as scene:
        scene.get("/", "accept-language: de")
        scene.get("/", "accept-language: fr")
        assert scene.get("/", "accept-language: en").body == b"en"


# -- stale replies ------------------------------------------------------------------------------------------------


def test_stale_while_revalidate():
    clock, gate, count = FakeClock(), threading.Event(), iter(range(1, 9))

    def say(asked):
        number = next(count)
        whole = reply("cache-control: max-age=10, stale-while-revalidate=30", body=b"reply %d" % number)
        return whole if number == 1 else [gate, whole]

    with Scene(say, clock) as scene:
        scene.get()
        clock.advance(15)
        stale = [scene.get() for _ in range(3)]
        assert [answer.body for answer in stale] == [b"reply 1"] * 3
        assert status_of(stale[0]) == "gatewayd; hit; ttl=-5"
        gate.set()
        scene.edge.until(lambda: scene.get().body == b"reply 2")
        assert scene.origin.count == 2
        clock.advance(45)
        assert scene.get().body == b"reply 3"


def broken_after_first(*headers, how="503 Service Unavailable"):
    count = iter(range(1, 1000))

    def say(asked):
        if next(count) == 1:
            return reply(*headers)
        return reply(status=how, body=b"down") if how else [lambda peer: peer.close()]

    return say


@pytest.mark.parametrize("how", ["503 Service Unavailable", ""])
def test_stale_if_error(how):
    clock = FakeClock()
    with Scene(broken_after_first("cache-control: max-age=10, stale-if-error=20", how=how), clock) as scene:
        scene.get()
        clock.advance(15)
        answer = scene.get()
        assert (answer.status, answer.body) == (200, b"body")
        assert "hit; ttl=-5; fwd-status=50" in status_of(answer)
        clock.advance(20)
        assert scene.get().status in (502, 503)


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "s-maxage=10", "no-cache"])
def test_some_replies_are_never_used_stale(directive):
    clock = FakeClock()
    with Scene(
        broken_after_first(f"cache-control: max-age=10, {directive}", 'etag: "e"'), clock, stale_if_error="1h"
    ) as scene:
        scene.get()
        clock.advance(15)
        assert scene.get().status == 503
