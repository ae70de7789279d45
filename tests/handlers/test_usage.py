"""The usage handler: callers see what is theirs, asking costs nothing, and a counter out of order is said to be."""

from __future__ import annotations

import json

from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Reply, Undecided, Usage
from gatewayd.handlers.usage import Account, build, report, report_of
from tests.support.exchanges import make_exchange

ANN = Consumer("ann", plan="gold")
SOME = Usage(10, 3, 7, 60)


def account(name="monthly", usage=lambda exchange, now: SOME, plans=None):
    return Account(name, "quota", usage, plans)


def asked(*accounts, identity=None, method=b"GET"):
    """The reply, and its body."""
    exchange = make_exchange(identity=identity, method=method)
    build(accounts, lambda: 5.0)(exchange)
    reply = exchange.downstream
    assert reply.ended == 1
    return reply, json.loads(reply.body)


def test_callers_are_told_what_they_have_used():
    reply, body = asked(account(), identity=Identity(ANN, "api_key"))
    assert reply.status == 200
    assert reply.values(b"content-type") == [b"application/json"]
    assert reply.values(b"cache-control") == [b"no-store"]
    assert body == {
        "consumer": "ann",
        "limits": [{"name": "monthly", "policy": "quota", "limit": 10, "used": 3, "remaining": 7, "resets_in": 60}],
    }


def test_who_is_not_known_has_no_name():
    assert asked()[1] == {"consumer": None, "limits": []}


def test_counters_are_asked_about_the_exchange_at_the_present():
    heard = []
    exchange = make_exchange()
    report([account(usage=lambda *asked: heard.append(asked))], exchange, 5.0)
    assert heard == [(exchange, 5_000_000_000)]


def test_what_a_counter_does_not_tell_is_left_out():
    _, body = asked(account("a", lambda exchange, now: None), account("b"))
    assert [each["name"] for each in body["limits"]] == ["b"]


def test_limits_of_plans_are_for_those_who_have_them():
    limits = (account("all"), account("gold", plans=frozenset(["gold"])), account("free", plans=frozenset(["free"])))

    def names(identity):
        return [each["name"] for each in asked(*limits, identity=identity)[1]["limits"]]

    assert names(Identity(ANN, "api_key")) == ["all", "gold"]
    assert names(Identity(Consumer("bob"), "api_key")) == names(None) == ["all"]


def test_a_counter_out_of_order_answers_for_itself():
    def fails(exchange, now):
        raise Undecided(Reply(503, body=b"{}", code="quota_unavailable"))

    assert asked(account(), account(usage=fails))[0].status == 503


def test_operators_ask_by_consumer():
    def usage(exchange, now):
        assert exchange.client == ""
        return SOME if exchange.identity.consumer is ANN else None

    found = report_of([account(usage=usage)], ANN, 5.0)
    assert (found["consumer"], len(found["limits"])) == ("ann", 1)
