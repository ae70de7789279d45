"""Rehearsals: what policies would say, and that nothing is charged, sent or fetched for it."""

from __future__ import annotations

import pytest

from gatewayd.core.identity import Identity
from gatewayd.core.policy import Hooks, Route
from gatewayd.core.problem import problem
from gatewayd.gateway.rehearsal import rehearse
from gatewayd.gateway.snapshot import ChainLink
from gatewayd.identity import fetch
from tests.support.callers import known
from tests.support.exchanges import make_exchange
from tests.support.upstream import ScriptedUpstream

ALICE = known("alice", groups=["b", "a"], plan="gold", scopes=["r"], credential="key-1")
REFUSAL = problem(403, "not_you", "")


def link(name, hooks, mode="enforce"):
    return ChainLink(name, name, mode, "closed", hooks)


def asks(says, name="who"):
    """A link that finds out who calls, or refuses."""

    def access(exchange):
        if isinstance(says, Identity):
            exchange.identity = says
            return None
        return says

    return link(name, Hooks(access=access, authenticate=lambda exchange: None))


def judges(says=None, name="acl"):
    return link(name, Hooks(access=lambda exchange: says, why=lambda exchange: f"by {exchange.identity.consumer.id}"))


def texts(*links, online=False):
    exchange = make_exchange(route=Route("r", None))
    return [(said.instance, said.text) for said in rehearse(exchange, links, online)]


def test_who_calls_and_why_that_is_enough():
    assert texts(asks(ALICE), judges()) == [
        ("who", "passes: consumer alice, by api_key, credential key-1, groups a b, plan gold, scopes r"),
        ("acl", "passes: by alice"),
    ]


def test_behind_a_refusal_nobody_is_asked():
    assert texts(asks(ALICE), judges(REFUSAL), judges(name="more")) == [
        ("who", "passes: consumer alice, by api_key, credential key-1, groups a b, plan gold, scopes r"),
        ("acl", "refuses with 403 not_you: by alice"),
    ]


def test_only_those_are_asked_that_decide_by_who_calls():
    def charge(*_):
        raise AssertionError("asked")

    class Charging:
        room = take = give_back = charge

    others = [
        link("limit", Hooks(limit=Charging())),
        link("plain", Hooks(access=charge)),
        link("late", Hooks(reply=charge, log=charge)),
    ]
    assert texts(*others) == []
    assert [name for name, _ in texts(*others, asks(ALICE))] == ["who"]


def test_those_that_do_not_enforce_say_so():
    def observed(exchange):
        exchange.verdicts = [("who", "observed")]

    def failed(exchange):
        exchange.verdicts = [("who", "failed")]

    for access, said in ((observed, "does not enforce"), (failed, "fails open")):
        ((_, text),) = texts(link("who", Hooks(access=access, authenticate=lambda exchange: None)))
        assert said in text


def test_one_that_breaks():
    def access(exchange):
        raise LookupError("no table")

    (found,) = rehearse(make_exchange(), [link("who", Hooks(access=access, why=str))], False)
    assert found.text == "fails: LookupError('no table')"
    assert found.reply.status == 500


@pytest.fixture
def issuer():
    with ScriptedUpstream() as upstream:
        yield upstream


def fetching(port):
    """A link that has to ask another service who calls."""

    async def access(exchange):
        answer = await fetch.fetch(f"http://127.0.0.1:{port}/who")
        exchange.identity = known(answer.body.decode())

    return link("jwt", Hooks(access=access, authenticate=lambda exchange: None))


def test_nothing_is_fetched(issuer):
    found = texts(fetching(issuer.port), judges())
    assert found == [("jwt", f"not known without asking http://127.0.0.1:{issuer.port}/who; --online does")]
    assert issuer.peers == []


def test_unless_that_is_wanted(issuer):
    assert texts(fetching(issuer.port), judges(), online=True) == [
        ("jwt", "passes: consumer ok, by api_key"),
        ("acl", "passes: by ok"),
    ]
    assert fetch.prevented.get() is None
