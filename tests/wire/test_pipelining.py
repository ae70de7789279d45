"""Callers that send many requests at once and are slow to read the replies: what piles up for them is bounded."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import Hooks
from tests.support.edge import EdgeThread, proxied
from tests.support.policies import install, policy
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream, answer

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
MANY = 2_000_000
"""Requests: more than the kernel holds for an edge that reads none."""
BOUND = 4 * 2**20
"""Bytes that a connection may hold for a caller at most; a batch of what one read brought is far below."""


def connection_of(edge: EdgeThread) -> Any:
    edge.until(lambda: edge.edge.connections == 1)
    (connection,) = edge.edge._listeners["http"].connections
    return connection


def flood(caller: Caller, edge: EdgeThread) -> int:
    """Send requests until the edge reads no more; how many were sent."""
    connection = connection_of(edge)
    caller.sock.settimeout(0.1)
    sent = 0
    while sent < MANY * len(REQUEST):
        try:
            sent += caller.sock.send(REQUEST * 1000)
        except TimeoutError:
            if connection.paused:
                break
    caller.sock.settimeout(20)
    return sent // len(REQUEST)


def little_room(caller: Caller) -> Caller:
    caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    return caller


def static(size: int) -> dict[str, Any]:
    return {"routes": {"all": {"path": "/*", "reply": {"body": "x" * size}}}}


@pytest.mark.parametrize("size", [10, 100_000])
def test_replies_made_here_do_not_pile_up(size: int) -> None:
    with EdgeThread(static(size)) as edge, little_room(Caller(edge.port)) as caller:
        assert flood(caller, edge) < MANY
        assert connection_of(edge).transport.get_write_buffer_size() < BOUND


def test_all_of_them_are_answered_when_the_caller_reads_on() -> None:
    with EdgeThread(static(100_000)) as edge, little_room(Caller(edge.port)) as caller:
        caller.send(REQUEST * 300)
        edge.until(lambda: connection_of(edge).send_watch is not None)
        assert connection_of(edge).requests < 300
        assert all(caller.answer().body == b"x" * 100_000 for _ in range(300))
        assert caller.ask().status == 200


def test_a_caller_that_reads_late_keeps_its_connection() -> None:
    clock = FakeClock()
    made = static(100_000) | {"timeouts": {"keepalive": "60s"}}
    with EdgeThread(made, clock) as edge, little_room(Caller(edge.port)) as caller:
        caller.send(REQUEST * 300)
        edge.until(lambda: connection_of(edge).send_watch is not None)
        assert all(caller.answer().status == 200 for _ in range(300))
        clock.advance(30)
        edge.call(edge.edge._sweep_connections, clock.now)
        assert caller.ask().status == 200, "a reader is idle only when it has read all"


def test_a_caller_that_reads_nothing_is_cut_off() -> None:
    clock = FakeClock()
    with EdgeThread(static(100_000), clock) as edge, little_room(Caller(edge.port)) as caller:
        flood(caller, edge)
        for _ in range(3):
            clock.advance(31)
            edge.call(edge.edge._sweep_connections, clock.now)
        edge.until(lambda: edge.edge.connections == 0)


@pytest.mark.parametrize("size", [20_000, 400_000])
def test_replies_of_targets_do_not_pile_up(size: int) -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"y" * size
    with (
        ScriptedUpstream(answer(reply)) as up,
        EdgeThread(proxied(up.port)) as edge,
        little_room(Caller(edge.port)) as caller,
    ):
        caller.send(REQUEST * 1000)
        edge.until(lambda: connection_of(edge).send_watch is not None)
        flood(caller, edge)
        assert connection_of(edge).transport.get_write_buffer_size() < BOUND
        assert connection_of(edge).requests < 1000


def test_a_request_behind_a_reply_that_is_not_read_is_not_begun() -> None:
    """Its reply could not be held back: there is no connection to a target yet that would stop reading."""
    with ScriptedUpstream() as up:
        made = proxied(up.port)
        made["routes"]["static"] = {"path": "/static", "reply": {"body": "x" * 8_000_000}}
        with EdgeThread(made) as edge, little_room(Caller(edge.port)) as caller:
            caller.send(REQUEST.replace(b"/ ", b"/static ") + REQUEST)
            edge.until(lambda: connection_of(edge).send_watch is not None)
            assert connection_of(edge).requests == 1
            assert len(caller.answer().body) == 8_000_000
            assert caller.answer().body == b"ok"


def test_a_body_that_waited_for_a_policy_feels_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before the handler did must not make the connection read on past a target that is full."""
    go, stop = asyncio.Event(), threading.Event()

    async def wait(exchange: Any) -> None:
        await go.wait()

    install(monkeypatch, waits=policy(Hooks(access=wait)))
    with ScriptedUpstream(lambda peer: stop.wait(20) and None) as up:
        made = proxied(up.port) | {"policies": {"waits": {}}}
        made["routes"]["all"]["policies"] = ["waits"]
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n")
            caller.send(b"x" * 500_000)
            edge.until(lambda: connection_of(edge).early is not None)
            edge.call(go.set)
            caller.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                while True:
                    caller.sock.send(b"x" * 65536)
            sink = connection_of(edge).sink
            assert sink.connection.transport.get_write_buffer_size() < BOUND
            stop.set()


def test_requests_behind_a_long_upload_wait_for_their_turn() -> None:
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            if b"content-length" in head:
                peer.read(300_000)
            peer.send(OK)

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        upload = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000
        caller.send(upload + REQUEST * 5 + upload + REQUEST * 5)
        assert [caller.answer().body for _ in range(12)] == [b"ok"] * 12
