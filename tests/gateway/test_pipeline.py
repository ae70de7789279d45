"""The way of an exchange, over real sockets: policies in their turn, whatever they do, and the record at the end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Hooks, Reply, Undecided
from gatewayd.core.problem import problem
from gatewayd.observe import metrics
from tests.gateway.hooks import GONE, REFUSAL, REFUSED, guarded, recorded
from tests.support.edge import EdgeThread, noted, proxied
from tests.support.raw import Caller, leave
from tests.support.upstream import Peer, ScriptedUpstream

# -- access -----------------------------------------------------------------------------------------------------------


def test_hooks_run_in_their_order_and_then_the_handler(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one")), two=Hooks(trace.access("two")), none=Hooks())
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert trace.ran == ["one", "two"]


def test_the_first_refusal_is_the_last_word(monkeypatch, trace):
    made = guarded(
        monkeypatch,
        one=Hooks(trace.access("one")),
        two=Hooks(trace.access("two", REFUSAL)),
        three=Hooks(trace.access("three", problem(401, "another"))),
    )
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (403, "not_you")
        assert trace.ran == ["one", "two"]
        totals = recorded(edge)
        assert noted(totals) == {"refused:two": 1}
        assert totals.tokens[metrics.REFUSALS] == {"not_you": 1}


def test_an_answer_that_is_no_refusal_is_noted_as_one(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one", Reply(204))))
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 204
        found = recorded(edge)
        assert noted(found) == {"answered:one": 1}
        assert found.tokens[metrics.REFUSALS] == {}


def test_a_policy_that_cannot_run_refuses(monkeypatch, trace, caplog):
    made = guarded(monkeypatch, one=Hooks(trace.failing("one")), two=Hooks(trace.access("two")))
    with caplog.at_level(logging.ERROR), EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (500, "policy_failed")
        assert b"LookupError" not in found.body
        assert noted(recorded(edge)) == {"failed:one": 1}
    assert trace.ran == ["one"]
    assert "policy one failed" in caplog.text


def undecided(exchange: Exchange) -> None:
    raise Undecided(problem(503, "asked_in_vain"))


async def undecided_later(exchange: Exchange) -> None:
    await asyncio.sleep(0)
    raise Undecided(problem(503, "asked_in_vain"))


@pytest.mark.parametrize("hook", [undecided, undecided_later])
def test_a_policy_that_cannot_decide_says_so_itself_and_counts_as_failed(monkeypatch, hook, caplog):
    made = guarded(monkeypatch, one=Hooks(hook))
    with caplog.at_level(logging.INFO), EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (503, "asked_in_vain")
        assert noted(recorded(edge)) == {"failed:one": 1}
    assert "policy one failed" not in caplog.text, "what it asked is out of order, not the policy"


@pytest.mark.parametrize("common", [{"mode": "observe"}, {"failure": "open"}])
@pytest.mark.parametrize("hook", [undecided, undecided_later])
def test_then_it_lets_pass_if_it_fails_open(monkeypatch, common, hook, caplog):
    made = guarded(monkeypatch, one=Hooks(hook))
    made["policies"]["one"] = common
    with caplog.at_level(logging.INFO), EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert noted(recorded(edge)) == {"failed:one": 1}
    assert "policy one failed" not in caplog.text


@pytest.mark.parametrize("common", [{"mode": "observe"}, {"failure": "open"}])
def test_a_policy_that_only_watches_or_fails_open_lets_pass(monkeypatch, trace, common, caplog):
    made = guarded(monkeypatch, one=Hooks(trace.failing("one")), two=Hooks(trace.access("two")))
    made["policies"]["one"] = common
    with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert trace.ran == ["one", "two"]
        assert noted(recorded(edge)) == {"failed:one": 1}


def test_what_an_observer_would_have_refused_is_recorded(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one", REFUSAL)))
    made["policies"]["one"] = {"mode": "observe"}
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 200
        found = recorded(edge)
        assert noted(found) == {"observed:one": 1}
        assert found.tokens[metrics.REFUSALS] == {}


# -- hooks that wait --------------------------------------------------------------------------------------------------


def test_hooks_that_wait_take_their_turn_too(monkeypatch, trace):
    made = guarded(
        monkeypatch,
        a=Hooks(trace.access("a")),
        b=Hooks(trace.waiting("b")),
        c=Hooks(trace.access("c")),
        d=Hooks(trace.waiting("d")),
        e=Hooks(trace.access("e")),
    )
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().body == b"static"
        assert trace.ran == ["a", "b", "b done", "c", "d", "d done", "e"]


@pytest.mark.parametrize("position", range(3))
def test_any_of_them_may_refuse(monkeypatch, trace, position):
    hooks = [Hooks(trace.waiting(str(at), REFUSAL if at == position else None)) for at in range(3)]
    made = guarded(monkeypatch, **{f"p{at}": each for at, each in enumerate(hooks)})
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (403, "not_you")
        assert [name for name in trace.ran if "done" not in name] == [str(at) for at in range(position + 1)]
        assert noted(recorded(edge)) == {f"refused:p{position}": 1}


@pytest.mark.parametrize("first", ["waits", "at once"])
def test_a_policy_that_fails_after_another_waited(monkeypatch, trace, first, caplog):
    async def fail(exchange: Exchange) -> None:
        await asyncio.sleep(0)
        raise LookupError

    failing = fail if first == "waits" else trace.failing("x")
    made = guarded(monkeypatch, a=Hooks(trace.waiting("a")), b=Hooks(failing))
    with caplog.at_level(logging.CRITICAL), EdgeThread(made) as edge, Caller(edge.port) as caller:
        assert caller.ask().code == "policy_failed"
        assert noted(recorded(edge)) == {"failed:b": 1}


def test_a_body_and_a_next_request_wait_with_it(monkeypatch, trace):
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            body = peer.read(10) if b"content-length" in head else b"none"
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    go = asyncio.Event()
    with ScriptedUpstream(script) as up:
        made = guarded(monkeypatch, proxied(up.port), one=Hooks(trace.waiting("one", until=go)))
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello")
            edge.until(lambda: trace.ran == ["one"])
            caller.send(b"worldGET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert up.peers == []
            edge.call(go.set)
            assert [caller.answer().body for _ in range(2)] == [b"helloworld", b"none"]


def test_a_body_that_is_too_large_ends_the_waiting(monkeypatch, trace):
    go = asyncio.Event()
    made = guarded(monkeypatch, one=Hooks(trace.waiting("one", until=go)), two=Hooks(trace.access("two")))
    made["routes"]["all"]["body"] = "3B"
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        assert caller.answer().code == "body_too_large"
        edge.call(go.set)
        edge.until(lambda: "one done" in trace.ran)
        assert "two" not in trace.ran
        assert recorded(edge).routes["all"].classes[REFUSED] == 1


def test_when_the_caller_has_left_nothing_more_is_asked_or_done(monkeypatch, trace):
    go = asyncio.Event()
    with ScriptedUpstream() as up:
        waiting = Hooks(trace.waiting("one", REFUSAL, go), log=trace.log)
        made = guarded(monkeypatch, proxied(up.port), one=waiting, two=Hooks(trace.access("two")))
        with EdgeThread(made) as edge:
            with Caller(edge.port) as caller:
                caller.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
                edge.until(lambda: trace.ran == ["one"])
                leave(caller)
            edge.until(lambda: edge.edge.connections == 0)
            edge.call(go.set)
            edge.until(lambda: trace.ran == ["one", "one done"])
            found = recorded(edge)
            assert found.routes["all"].classes[GONE] == 1
            assert found.tokens[metrics.REFUSALS] == {}
            assert trace.logged == [("/x", 499, "caller_gone")]
            assert up.peers == []


# -- limits and misses ------------------------------------------------------------------------------------------------


def test_a_body_beyond_the_routes_limit_is_refused_before_anyone_is_asked(monkeypatch, trace):
    made = guarded(monkeypatch, one=Hooks(trace.access("one")))
    made["routes"]["all"]["body"] = "3B"
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n")
        found = caller.answer()
        assert (found.status, found.code) == (413, "body_too_large")
        assert trace.ran == []


@pytest.mark.parametrize(("limit", "size", "status"), [("3B", 3, 200), ("3B", 4, 413), (0, 100_000, 200)])
def test_limits_are_inclusive_and_0_is_none(limit, size, status):
    made = {"routes": {"all": {"path": "/*", "body": limit, "reply": {}}}, "limits": {"body": "10B"}}
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        assert caller.answer().status == status


def test_what_matches_nothing():
    made = {"routes": {"get": {"path": "/a", "methods": ["GET", "PUT"], "reply": {}}}}
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        missing = caller.ask("/b")
        assert (missing.status, missing.code) == (404, "route_not_found")
        wrong = caller.ask("/a", method="DELETE")
        assert (wrong.status, wrong.code) == (405, "method_not_allowed")
        assert {each.strip() for each in wrong.headers["allow"].split(",")} >= {"GET", "PUT"}
        found = recorded(edge)
        assert found.routes[""].classes[REFUSED] == 2
        assert found.tokens[metrics.REFUSALS] == {"route_not_found": 1, "method_not_allowed": 1}


def test_preflights_are_answered_by_the_route_they_ask_for():
    made = {
        "routes": {"post": {"path": "/a", "methods": ["POST"], "reply": {}, "policies": ["cors"]}},
        "policies": {"cors": {"origins": ["https://portal.example"]}},
    }
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        asking = ("origin: https://portal.example", "access-control-request-method: POST")
        found = caller.ask("/a", *asking, method="OPTIONS")
        assert (found.status, found.headers["access-control-allow-origin"]) == (204, "https://portal.example")
        assert caller.ask("/a", asking[0], method="OPTIONS").status == 405
