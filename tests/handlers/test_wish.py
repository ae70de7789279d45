"""Connections that come late: for an attempt that was given up, or an exchange that is over."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gatewayd.gateway.dial import Dialler
from tests.support.edge import EdgeThread
from tests.support.raw import Caller, leave
from tests.support.upstream import OK, Peer, ScriptedUpstream

from .scenes import GET, Gate, document, post, recorded, settled, targets


def gated(monkeypatch: pytest.MonkeyPatch, port: int) -> Gate:
    gate = Gate(port)
    monkeypatch.setattr(Dialler, "_open", gate.dial)
    return gate


def impatient(*ports: int, **options: Any) -> dict[str, Any]:
    """A service that waits shortly for connections, where another lets dials take their time."""
    made = document(*ports, timeouts={"connect": "50ms"}, **options)
    made["services"]["patient"] = {"upstream": "up", "timeouts": {"connect": "20s"}}
    return made


def test_a_connection_for_an_attempt_that_was_given_up_is_not_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read(5)
        assert answering.wait(20)
        peer.send(OK)
        peer.read_to_end()

    with ScriptedUpstream(lambda peer: peer.read_to_end() and None) as slow, ScriptedUpstream(script) as quick:
        gate = gated(monkeypatch, slow.port)
        with EdgeThread(impatient(slow.port, quick.port)) as edge, Caller(edge.port) as caller:
            caller.send(post())
            quick.wait_for(lambda: b"hello" in quick.received)  # the second attempt; the first one's dial goes on
            gate.open(edge)
            first = targets(edge)[0]
            quick.wait_for(lambda: len(first.pool.idle) == 1)
            answering.set()
            assert caller.answer().body == b"ok"
            assert slow.received == b"", "the request is sent once"
            assert recorded(edge).routes["all"].retries == 1
            settled(edge)


def test_a_dial_that_fails_after_its_attempt_was_given_up_fails_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        assert answering.wait(20)
        peer.send(OK)
        peer.read_to_end()

    with ScriptedUpstream() as slow, ScriptedUpstream(script) as quick:
        gate = gated(monkeypatch, slow.port)
        gate.error = ConnectionRefusedError(111, "refused at last")
        with EdgeThread(impatient(slow.port, quick.port)) as edge, Caller(edge.port) as caller:
            caller.send(GET)
            quick.wait_for(lambda: bool(quick.received))
            gate.open(edge)
            first = targets(edge)[0]
            quick.wait_for(lambda: first.pool.open == 0)
            answering.set()
            assert caller.answer().status == 200
            assert first.failures == 1, "the timeout, not the refusal as well"
            settled(edge)


def test_a_connection_that_comes_when_the_caller_has_left_is_kept_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedUpstream() as up:
        gate = gated(monkeypatch, up.port)
        with EdgeThread(document(up.port)) as edge:
            with Caller(edge.port) as caller:
                caller.send(GET)
                up.wait_for(lambda: gate.waiting == 1)
                leave(caller)
            up.wait_for(lambda: edge.edge.connections == 0)
            gate.open(edge)
            (target,) = targets(edge)
            up.wait_for(lambda: len(target.pool.idle) == 1)
            assert up.received == b""
            with Caller(edge.port) as caller:
                assert caller.ask().status == 200
            assert len(up.peers) == 1
            assert target.failures == 0
            settled(edge)


# -- in line for the pool ---------------------------------------------------------------------------------------------


def held(answering: threading.Event) -> Any:
    """A script that answers every request once `answering` is set."""

    def script(peer: Peer) -> None:
        while peer.read_head():
            assert answering.wait(20)
            peer.send(OK)

    return script


ONE = {"pool": {"connections": 1, "queue": 10}}


def test_whoever_waits_gets_the_connection_when_it_is_free() -> None:
    answering = threading.Event()
    with ScriptedUpstream(held(answering)) as up, EdgeThread(document(up.port, upstream=ONE)) as edge:
        callers = [Caller(edge.port) for _ in range(4)]
        for waiting, caller in enumerate(callers):
            caller.send(GET)
            pool = targets(edge)[0].pool
            up.wait_for(lambda waiting=waiting, pool=pool: pool.open == 1 and len(pool._waiting) == waiting)
        answering.set()
        assert [caller.answer().status for caller in callers] == [200] * 4
        assert len(up.peers) == 1
        settled(edge)
        for caller in callers:
            caller.sock.close()


def test_who_no_longer_waits_does_not_get_it() -> None:
    answering = threading.Event()
    with ScriptedUpstream(held(answering)) as up:
        made = document(up.port, upstream=ONE)
        made["services"]["hasty"] = {"upstream": "up", "timeouts": {"connect": "50ms"}, "retries": {"attempts": 2}}
        made["routes"]["hasty"] = {"path": "/hasty", "service": "hasty"}
        with EdgeThread(made) as edge, Caller(edge.port) as first, Caller(edge.port) as second:
            first.send(GET)
            up.wait_for(lambda: bool(up.received))
            found = second.ask("/hasty")
            assert (found.status, found.code) == (504, "connect_timeout")
            assert recorded(edge).routes["hasty"].attempts == 3, "each in line for itself, none of them left over"
            answering.set()
            assert first.answer().status == 200
            assert up.received.count(b"GET") == 1
            settled(edge)
            assert second.ask("/hasty").status == 200


def test_a_line_of_those_who_left_is_no_line() -> None:
    """They are forgotten before anybody is turned away for them."""
    answering = threading.Event()
    with ScriptedUpstream(held(answering)) as up:
        one = {"pool": {"connections": 1, "queue": 1}}
        made = document(up.port, upstream=one)
        with EdgeThread(made) as edge, Caller(edge.port) as first, Caller(edge.port) as last:
            first.send(GET)
            up.wait_for(lambda: bool(up.received))
            pool = targets(edge)[0].pool
            with Caller(edge.port) as leaving:
                leaving.send(GET)
                up.wait_for(lambda: len(pool._waiting) == 1)
                leave(leaving)
            up.wait_for(lambda: edge.edge.connections == 2)
            last.send(GET)
            up.wait_for(lambda: bool(pool._waiting) and not pool._waiting[0].gone)
            answering.set()
            assert [caller.answer().status for caller in (first, last)] == [200, 200]
            settled(edge)


def test_a_full_line_is_503_and_no_fault_of_the_targets() -> None:
    answering = threading.Event()
    with ScriptedUpstream(held(answering)) as up:
        full = {"pool": {"connections": 1, "queue": 0}, "passive_health": {"enabled": True, "failures": 1}}
        made = document(up.port, upstream=full, retries={"attempts": 1})
        with EdgeThread(made) as edge, Caller(edge.port) as first, Caller(edge.port) as second:
            first.send(GET)
            up.wait_for(lambda: bool(up.received))
            found = second.ask()
            assert (found.status, found.code) == (503, "pool_exhausted")
            (target,) = targets(edge)
            assert (target.failures, target.available) == (0, True)
            answering.set()
            assert first.answer().status == 200
            settled(edge)


def test_a_full_line_sends_exchanges_elsewhere() -> None:
    answering = threading.Event()
    with ScriptedUpstream(held(answering)) as busy, ScriptedUpstream() as free:
        made = document(busy.port, free.port, upstream={"pool": {"connections": 1, "queue": 0}})
        with EdgeThread(made) as edge, Caller(edge.port) as first, Caller(edge.port) as second:
            first.send(GET)
            busy.wait_for(lambda: bool(busy.received))
            assert [second.ask().status for _ in range(4)] == [200] * 4
            assert busy.received.count(b"GET") == 1
            answering.set()
            assert first.answer().status == 200
            settled(edge)
