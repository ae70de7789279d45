"""A concurrency limit: an exchange counts from the step to its end, once."""

from __future__ import annotations

from gatewayd.core.policy import NoConsumers, Reply
from gatewayd.limits.concurrency import Concurrency
from gatewayd.limits.in_flight import InFlight
from gatewayd.limits.keys import Keys
from tests.limits.workers import contexts
from tests.support.exchanges import make_exchange

REFUSAL = Reply(429, code="too_many_at_once")


def made(limit=2):
    (context,) = contexts(1)
    return Concurrency("at-once", Keys(["address"], NoConsumers()), InFlight.of(context, limit), REFUSAL)


def asked(client="192.0.2.1"):
    return make_exchange(client=client)


def test_what_ends_makes_room():
    limit = made()
    one, two, three = (asked() for _ in range(3))
    assert [limit.take(exchange, 0) for exchange in (one, two, three)] == [None, None, REFUSAL]
    assert limit.take(asked("192.0.2.2"), 0) is None
    limit.give_back(one)
    assert [limit.take(exchange, 0) for exchange in (three, asked())] == [None, REFUSAL]


def test_the_end_of_one_that_was_refused_or_never_asked_makes_none():
    limit = made(1)
    inside, refused = asked(), asked()
    assert limit.take(inside, 0) is None
    assert limit.take(refused, 0) is REFUSAL
    for exchange in (refused, asked()):
        limit.give_back(exchange)
    assert limit.take(asked(), 0) is REFUSAL
    for _ in range(3):
        limit.give_back(inside)
    assert [limit.take(asked(), 0) for _ in range(2)] == [None, REFUSAL]


def test_it_ends_where_it_began_whoever_the_caller_is_by_then():
    limit = made(1)
    exchange = asked()
    assert limit.take(exchange, 0) is None
    exchange.client = "192.0.2.9"
    limit.give_back(exchange)
    assert [limit.take(asked(), 0), limit.take(asked("192.0.2.9"), 0)] == [None, None]
