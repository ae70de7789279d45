"""Leaving: nobody new, one more reply for everybody, time for what has begun, and an end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import h11
import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.gateway.edge import Edge
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
GRACE, DEADLINE = 5.0, 30.0


class Leaving:
    """An edge that drains on a clock moved by hand."""

    def __init__(self, edge: EdgeThread, clock: FakeClock) -> None:
        self.edge, self.clock = edge, clock
        self._drained: Future[None] | None = None

    @property
    def inner(self) -> Edge:
        return self.edge.edge

    def drain(self) -> None:
        """Begin to leave."""
        self.edge.call(self.inner.drain, DEADLINE, GRACE)
        self._drained = asyncio.run_coroutine_threadsafe(self.inner.drained(), self.edge.loop)
        self.edge.until(lambda: all(acceptor.closed for acceptor in self.inner._acceptors.values()))

    def seconds_pass(self, seconds: float) -> None:
        """Move the clock on and look around."""
        self.clock.advance(seconds)
        self.edge.call(self.inner._sweep_drain, self.clock.now)

    @property
    def gone(self) -> bool:
        """Whether the drain is over."""
        assert self._drained is not None
        return self._drained.done()

    def wait(self) -> None:
        """Until the drain is over."""
        assert self._drained is not None
        self._drained.result(20)


@contextmanager
def leaving(document: dict[str, Any]) -> Iterator[Leaving]:
    clock = FakeClock()
    with EdgeThread(document, clock) as edge:
        yield Leaving(edge, clock)


STATIC = {"routes": {"all": {"path": "/*", "reply": {"body": "static"}}}}


def test_without_connections_it_is_over_at_once() -> None:
    with leaving(STATIC) as it:
        it.drain()
        it.wait()
        assert it.inner.status()["draining"]
        with pytest.raises(ConnectionRefusedError):
            Caller(it.edge.port)


def test_everybody_gets_one_more_reply_which_says_so() -> None:
    with leaving(STATIC) as it, Caller(it.edge.port) as caller:
        assert "connection" not in caller.ask().headers
        it.drain()
        found = caller.ask()
        assert (found.body, found.headers["connection"]) == (b"static", "close")
        assert caller.to_end() == b""
        it.seconds_pass(0)
        it.wait()


def test_pipelined_requests_behind_that_reply_are_not_answered() -> None:
    with leaving(STATIC) as it, Caller(it.edge.port) as caller:
        assert caller.ask().status == 200
        it.drain()
        caller.send(GET * 3)
        assert caller.answer().headers["connection"] == "close"
        assert caller.to_end() == b""


def test_who_idles_may_do_so_for_the_grace() -> None:
    with leaving(STATIC) as it, Caller(it.edge.port) as used, Caller(it.edge.port) as fresh:
        assert used.ask().status == 200
        it.edge.until(lambda: it.inner.connections == 2)
        it.drain()
        it.seconds_pass(GRACE - 1)
        assert (it.inner.connections, it.gone) == (2, False)
        it.seconds_pass(1)
        assert [caller.to_end() for caller in (used, fresh)] == [b"", b""]
        it.edge.until(lambda: it.inner.connections == 0)
        it.seconds_pass(0)
        it.wait()


def test_a_head_that_has_begun_is_no_idling() -> None:
    with leaving(STATIC) as it, Caller(it.edge.port) as caller:
        caller.send(GET[:10])
        it.edge.until(lambda: any(each.buffer for each in it.inner._listeners["http"].connections))
        it.drain()
        it.seconds_pass(GRACE + 1)
        caller.send(GET[10:])
        assert caller.answer().body == b"static"


def test_what_has_begun_may_end() -> None:
    answering = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        assert answering.wait(20)
        peer.send(OK)

    with ScriptedUpstream(script) as up, leaving(proxied(up.port)) as it, Caller(it.edge.port) as caller:
        caller.send(GET)
        up.wait_for(lambda: bool(up.received))
        it.drain()
        it.seconds_pass(DEADLINE - 1)
        assert (it.inner.connections, it.gone) == (1, False)
        answering.set()
        found = caller.answer()
        assert (found.body, found.headers["connection"]) == (b"ok", "close")
        assert caller.to_end() == b""
        it.seconds_pass(0)
        it.wait()


def test_a_reply_that_began_before_the_drain_ends_and_so_does_its_connection_in_time() -> None:
    """Its head promised to keep the connection, so the next request is answered still."""
    go = threading.Event()

    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
            assert go.wait(20)
            peer.send(b"half")

    with ScriptedUpstream(script) as up, leaving(proxied(up.port)) as it, Caller(it.edge.port) as caller:
        caller.send(GET)
        assert b"connection: close" not in caller.sock.recv(1000)
        it.drain()
        go.set()
        assert caller.sock.recv(1000) == b"half"
        found = caller.ask()
        assert (found.body, found.headers["connection"]) == (b"halfhalf", "close")


def test_at_the_deadline_everything_ends() -> None:
    ended = []

    def script(peer: Peer) -> None:
        peer.read_head()
        ended.append(peer.read_to_end())

    with ScriptedUpstream(script) as up, leaving(proxied(up.port)) as it, Caller(it.edge.port) as caller:
        caller.send(GET)
        up.wait_for(lambda: bool(up.received))
        it.drain()
        it.seconds_pass(DEADLINE)
        it.wait()
        with pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            caller.answer()
        up.wait_for(lambda: ended == [b""])
        it.edge.until(lambda: it.inner.connections == 0)
        (target,) = it.inner._upstreams["up"].targets
        assert (target.in_flight, target.failures) == (0, 0)


def test_a_tunnel_lasts_to_the_deadline() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        with contextlib.suppress(OSError):
            while data := peer.sock.recv(1000):
                peer.send(data)

    with ScriptedUpstream(script) as up, leaving(proxied(up.port)) as it, Caller(it.edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        assert caller.sock.recv(1000).startswith(b"HTTP/1.1 101 ")
        it.drain()
        it.seconds_pass(DEADLINE - 1)
        caller.send(b"hello")
        assert caller.sock.recv(1000) == b"hello"
        it.seconds_pass(1)
        it.wait()
        assert caller.to_end() == b""
        it.edge.until(lambda: it.inner.connections == 0)
        assert it.inner._upstreams["up"].targets[0].pool.open == 0


def test_the_sweep_itself_ends_the_drain() -> None:
    """Short times, and nobody moves a clock."""
    with EdgeThread(STATIC) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 200
        edge.call(edge.edge.drain, 20.0, 0.05)
        edge.call(edge.edge.drained)
        assert caller.to_end() == b""


def test_a_reply_that_waits_to_be_written_is_not_lost_to_the_end_of_the_grace() -> None:
    with leaving(STATIC) as it, Caller(it.edge.port) as caller:
        assert caller.ask().status == 200
        (connection,) = it.inner._listeners["http"].connections

        def both() -> None:
            connection.data_received(GET)  # its reply is pending now
            connection.close_if_idle()

        it.edge.call(both)
        assert caller.answer().body == b"static"
        assert caller.to_end() == b""
