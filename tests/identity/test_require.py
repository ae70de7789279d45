"""require: from "who is it" to "nobody else comes in"."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.config import model
from gatewayd.config.model import Document
from gatewayd.config.units import Rate
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import BuildContext
from gatewayd.identity.require import CONFLICT, agree, challenge, insufficient_scope, require, unauthorized
from tests.support.exchanges import make_exchange

ANNA = Identity(Consumer("anna"), "api_key", "k1", frozenset({"read"}), {"a": 1, "b": 1})
BERT = Identity(Consumer("bert"), "jwt")
CHALLENGES = (challenge("Bearer", "gatewayd"), challenge("Basic", "gatewayd", charset="UTF-8"))
WRONG = unauthorized(CHALLENGES)


def context(**identity):
    document = Document(identity=model.Identity(**identity))
    return BuildContext("who", clock=FakeClock(), document=document)


async def later(found):
    return found


def ways(found):
    """An authenticator that knows at once, and one that has to wait."""
    return [lambda exchange: found, lambda exchange: later(found)]


def ask(access, exchange):
    verdict = access(exchange)
    return verdict if verdict is None or not hasattr(verdict, "__await__") else asyncio.run(verdict)


@pytest.mark.parametrize("authenticate", ways(ANNA))
def test_who_is_known_stands_on_the_exchange(authenticate):
    exchange = make_exchange()
    assert ask(require(authenticate, CHALLENGES, context()), exchange) is None
    assert exchange.identity is ANNA


@pytest.mark.parametrize("authenticate", ways(None))
def test_without_a_credential_the_caller_is_told_what_would_do(authenticate):
    exchange = make_exchange()
    reply = ask(require(authenticate, CHALLENGES, context()), exchange)
    assert (reply.status, reply.code, exchange.identity) == (401, "credential_missing", None)
    assert [value for name, value in reply.headers if name == b"www-authenticate"] == [
        b'Bearer realm="gatewayd"',
        b'Basic realm="gatewayd", charset="UTF-8"',
    ]


@pytest.mark.parametrize("authenticate", ways(WRONG))
def test_refusals_are_passed_on_and_counted(authenticate):
    access = require(authenticate, CHALLENGES, context(failures_per_address=Rate(3, 60)))
    replies = [ask(access, make_exchange()) for _ in range(5)]
    assert [reply.status for reply in replies] == [401, 401, 401, 429, 429]
    assert replies[0] is WRONG
    assert dict(replies[3].headers)[b"retry-after"] == b"20"
    assert ask(access, make_exchange(client="192.0.2.9")) is WRONG


def test_who_is_shut_out_is_not_asked():
    asked = []
    access = require(
        lambda exchange: asked.append(exchange) or WRONG, CHALLENGES, context(failures_per_address=Rate(1))
    )
    for _ in range(5):
        access(make_exchange())
    assert len(asked) == 1


@pytest.mark.parametrize("found", [None, insufficient_scope("Bearer", "gatewayd"), ANNA])
def test_only_wrong_credentials_count(found):
    access = require(lambda exchange: found, CHALLENGES, context(failures_per_address=Rate(1, 60)))
    for _ in range(5):
        reply = access(make_exchange())
        assert reply is None or reply.status != 429


@pytest.mark.parametrize("authenticate", ways(BERT))
def test_two_policies_must_find_the_same_consumer(authenticate):
    exchange = make_exchange(identity=ANNA)
    assert ask(require(authenticate, CHALLENGES, context()), exchange) is CONFLICT
    assert (CONFLICT.status, CONFLICT.code) == (403, "identity_conflict")
    assert exchange.identity is ANNA


def test_two_policies_that_agree_say_more_than_one():
    exchange = make_exchange(identity=ANNA)
    second = Identity(Consumer("anna"), "jwt", "t1", frozenset({"write"}), {"b": 2})
    assert require(lambda exchange: second, CHALLENGES, context())(exchange) is None
    assert exchange.identity == agree(ANNA, second)
    assert exchange.identity == Identity(
        Consumer("anna"), "api_key+jwt", "k1+t1", frozenset({"read", "write"}), {"a": 1, "b": 2}
    )


def test_a_refusal_names_the_ways_and_no_reason():
    assert (WRONG.status, WRONG.code) == (401, "credential_invalid")
    assert [value for name, value in WRONG.headers if name == b"www-authenticate"] == list(CHALLENGES)


def test_challenges_quote_what_they_hold():
    assert challenge("Bearer", 'a "b" \\', error="x") == b'Bearer realm="a \\"b\\" \\\\", error="x"'


def test_a_scope_that_does_not_reach():
    reply = insufficient_scope("Bearer", "gatewayd", ["a", "b"])
    assert (reply.status, reply.code) == (403, "insufficient_scope")
    assert dict(reply.headers)[b"www-authenticate"] == (
        b'Bearer realm="gatewayd", error="insufficient_scope", scope="a b"'
    )
