"""A rate limit: what is charged to whom, what is given back, what callers are told."""

from __future__ import annotations

import orjson
import pytest

from gatewayd.core.policy import NoConsumers, Route
from gatewayd.core.problem import REQUEST_ID_MARK
from gatewayd.limits.bucket import Bucket
from gatewayd.limits.fields import fields
from gatewayd.limits.keys import Keys
from gatewayd.limits.rate import RateLimit
from gatewayd.limits.window import Window
from tests.limits.workers import SECOND, contexts
from tests.support.exchanges import make_exchange

NOW = 1_000 * SECOND
ROUTES = {name: Route(name, lambda exchange: None) for name in ("plain", "dear", "free")}


def made(counter=None, burst=3, weights=None):
    (context,) = contexts(1)
    counter = counter or Bucket.of(context, SECOND // 2, burst)
    return RateLimit("per-address", Keys(["address"], NoConsumers()), counter, weights or {}, fields("a", 2, 1))


def asked(route="plain", client="192.0.2.1", **attributes):
    return make_exchange(route=ROUTES[route], client=client, **attributes)


def taken(limit, *routes, now=NOW):
    """Whether one exchange after the other was let through."""
    return [limit.take(asked(route), now) is None for route in routes]


def test_what_is_let_through_is_charged_and_others_are_told_when_to_come_again():
    limit = made()
    assert taken(limit, *["plain"] * 3) == [True] * 3
    reply = limit.take(asked(), NOW)
    assert (reply.status, reply.code, dict(reply.headers)[b"retry-after"]) == (429, "rate_limit_exceeded", b"1")
    problem = orjson.loads(reply.body.replace(REQUEST_ID_MARK, b"1"))
    assert problem["policy"] == "per-address"
    assert "per-address" in problem["detail"]
    assert limit.take(asked(client="192.0.2.2"), NOW) is None


def test_routes_weigh_what_the_configuration_says():
    limit = made(weights={"dear": 2, "free": 0})
    assert taken(limit, "dear", "dear", "plain", "plain", "free") == [True, False, True, False, True]


def test_what_is_given_back_can_be_taken_by_another():
    limit = made(burst=1)
    exchange = asked()
    assert limit.take(exchange, NOW) is None
    limit.give_back(exchange)
    assert taken(limit, "plain", "plain") == [True, False]


def test_only_what_was_charged_is_given_back_and_once():
    limit = made(burst=1)
    charged, refused, free = asked(), asked(), asked("free")
    for exchange in (charged, refused):
        limit.take(exchange, NOW)
    for exchange in (refused, free, charged, charged):
        limit.give_back(exchange)
    assert taken(limit, "plain", "plain") == [True, False]


@pytest.mark.parametrize(
    ("status", "reason", "back"),
    [
        (200, "", False),
        (404, "", False),
        (500, "", True),
        (502, "connect_failed", True),
        (200, "closed_in_reply", True),
        (499, "caller_gone", False),
        (200, "caller_reads_nothing", False),
        (200, "reply_hook_failed", True),
    ],
)
@pytest.mark.parametrize("kind", ["bucket", "window"])
def test_what_fails_through_no_fault_of_the_caller_s_is_refunded(kind, status, reason, back):
    (context,) = contexts(1)
    limit = made(Bucket.of(context, SECOND, 1) if kind == "bucket" else Window.of(context, 1, SECOND))
    exchange = asked()
    assert limit.take(exchange, NOW) is None
    exchange.status, exchange.reason = status, reason
    limit.refund(exchange)
    assert taken(limit, "plain") == [back]


def shown(limit, exchange):
    headers = []
    limit.show(exchange, headers)
    return [value for _, value in headers]


def test_replies_tell_what_is_left():
    limit = made()
    through = [asked() for _ in range(3)]
    refused = asked()
    for exchange in (*through, refused):
        limit.take(exchange, NOW)
    assert [shown(limit, exchange)[-1] for exchange in through] == [b'"a";r=2;t=1', b'"a";r=1;t=1', b'"a";r=0;t=2']
    assert shown(limit, refused) == [b'"a";q=2;w=1', b'"a";r=0;t=1']


def test_who_was_not_counted_is_told_nothing():
    limit = made(weights={"free": 0})
    free, unasked, returned = asked("free"), asked(), asked()
    limit.take(free, NOW)
    limit.take(returned, NOW)
    limit.give_back(returned)
    assert [shown(limit, exchange) for exchange in (free, unasked, returned)] == [[]] * 3


def test_refusals_for_every_wait_are_made_once_and_bounded():
    limit = made(Window.of(contexts(1)[0], 1, 3_600 * SECOND))
    assert taken(limit, "plain") == [True]
    refusals = {id(limit.take(asked(), NOW + number)) for number in range(5)}
    assert len(refusals) == 1
    for second in range(2_000):
        limit.take(asked(), NOW + second * SECOND)
    assert len(limit._refusals) <= 1_024
