"""One body for several callers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cache.relaying import Relay, Waiter
from tests.support.exchanges import make_exchange

from .played import Caller


class Source:
    """Keeps what callers do."""

    def __init__(self):
        self.heard = []

    def left(self, waiter):
        self.heard.append("left")

    def paused(self, waiter):
        self.heard.append("paused")

    def resumed(self, waiter):
        self.heard.append("resumed")


def waiting(source=None):
    waiter = Waiter(make_exchange(downstream=Caller()), source or Source(), 0)
    waiter.exchange.downstream.status = 200
    return waiter


def body(waiter):
    return waiter.exchange.downstream.body


def test_a_waiter_passes_on_what_its_caller_does():
    source = Source()
    waiter = waiting(source)
    waiter.pause_reply()
    assert waiter.slow
    waiter.resume_reply()
    assert not waiter.slow
    waiter.caller_gone()
    waiter.expire(1.0)
    waiter.body(b"x")
    waiter.body_end([])
    assert source.heard == ["paused", "resumed", "left"]


def test_everyone_gets_everything_at_his_own_pace():
    relay, quick, slow = Relay(), waiting(), waiting()
    relay.push(b"ab")
    assert relay.begin(quick) == b"ab"
    slow.slow = True
    assert relay.begin(slow) == b"ab"
    relay.push(b"cd")
    assert not relay.pump(quick)
    assert not relay.pump(slow)
    relay.end([(b"x", b"y")])
    assert relay.pump(quick)
    assert not relay.pump(slow)
    slow.slow = False
    assert relay.pump(slow)
    assert (body(quick), body(slow)) == (b"cd", b"cd")
    assert (relay.body, relay.size, relay.whole) == (b"abcd", 4, True)


def test_one_who_becomes_slow_gets_no_more():
    relay, waiter = Relay(), waiting()
    relay.begin(waiter)
    for piece in (b"a", b"b"):
        relay.push(piece)
    send = waiter.exchange.downstream.send_body

    def fill(data):
        send(data)
        waiter.slow = True

    waiter.exchange.downstream.send_body = fill
    relay.pump(waiter)
    assert body(waiter) == b"a"


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=5), st.booleans(), st.booleans()), max_size=20))
def test_what_all_have_got_can_be_dropped_at_any_time(steps):
    relay, waiters = Relay(), [waiting(), waiting()]
    for waiter in waiters:
        relay.begin(waiter)
    for piece, first_slow, second_slow in steps:
        relay.push(piece)
        for waiter, slow in zip(waiters, (first_slow, second_slow), strict=True):
            waiter.slow = slow
            relay.pump(waiter)
        relay.drop_before(waiters)
        assert relay.held == sum(map(len, relay._pieces))
    relay.end([])
    for waiter in waiters:
        waiter.slow = False
        assert relay.pump(waiter)
        assert body(waiter) == b"".join(piece for piece, _, _ in steps)
    relay.drop_before([])
    assert relay.held == 0
