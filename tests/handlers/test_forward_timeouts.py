"""Deadlines of a forwarded exchange: whose turn it is, and who is to blame. Where time matters it is moved by hand."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.gateway.dial import Dialler
from tests.support.edge import EdgeThread
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream

from .scenes import Gate, document, post, reasons, saying, settled, sweep, targets

BROKEN = (h11.RemoteProtocolError, ConnectionResetError)


def silent(peer: Peer) -> None:
    """A script that reads and never answers."""
    peer.read_to_end()


# -- real, and short --------------------------------------------------------------------------------------------------


def test_no_connection_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedUpstream() as up:
        gate = Gate(up.port)
        monkeypatch.setattr(Dialler, "_open", gate.dial)
        made = document(up.port, timeouts={"connect": "50ms"}, retries={"attempts": 1})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            found = caller.ask()
            assert (found.status, found.code) == (504, "connect_timeout")
            assert gate.waiting == 2
            assert targets(edge)[0].failures == 2
            settled(edge)


@pytest.mark.parametrize(("method", "made"), [(b"GET", 2), (b"POST", 1)])
def test_no_first_byte_in_time(method: bytes, made: int) -> None:
    with ScriptedUpstream(silent) as up:
        limits = {"timeouts": {"first_byte": "50ms"}, "retries": {"attempts": 1}}
        with EdgeThread(document(up.port, **limits)) as edge, Caller(edge.port) as caller:
            caller.send(post(method=method))
            found = caller.answer()
            assert (found.status, found.code) == (504, "first_byte_timeout")
            assert up.received.count(method + b" / ") == made
            assert targets(edge)[0].failures == made
            settled(edge)


def test_a_silent_target_is_left_for_another() -> None:
    with ScriptedUpstream(silent) as bad, ScriptedUpstream() as good:
        made = document(bad.port, good.port, timeouts={"first_byte": "50ms"})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            assert [caller.ask().status for _ in range(4)] == [200] * 4
            settled(edge)


@pytest.mark.parametrize("framing", [b"content-length: 9", b"transfer-encoding: chunked"])
def test_a_reply_that_stops_is_broken_off(framing: bytes) -> None:
    begun = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n4\r\nhalf"
    with (
        ScriptedUpstream(saying(begun, silent)) as up,
        EdgeThread(document(up.port, timeouts={"idle": "50ms"})) as edge,
    ):
        with Caller(edge.port) as caller, pytest.raises(BROKEN):
            caller.ask()
        assert reasons(edge) == {"reply_timeout": 1}
        assert up.received.count(b"GET") == 1
        settled(edge)


def test_the_time_for_all_attempts_together() -> None:
    with ScriptedUpstream(silent) as up:
        limits = {"timeouts": {"total": "100ms", "first_byte": "0s"}, "retries": {"attempts": 5}}
        with EdgeThread(document(up.port, **limits)) as edge, Caller(edge.port) as caller:
            found = caller.ask()
            assert (found.status, found.code) == (504, "total_timeout")
            assert len(up.peers) == 1
            settled(edge)


def test_the_time_for_all_includes_a_reply_that_goes_on_and_on() -> None:
    stop = threading.Event()

    def drip(peer: Peer) -> None:
        while not stop.wait(0.01):
            peer.send(b"x")

    with (
        ScriptedUpstream(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n", drip)) as up,
        EdgeThread(document(up.port, timeouts={"total": "100ms"})) as edge,
    ):
        with Caller(edge.port) as caller, pytest.raises(BROKEN):
            caller.ask()
        stop.set()
        assert reasons(edge) == {"total_timeout": 1}
        settled(edge)


# -- whose turn it is -------------------------------------------------------------------------------------------------


class Moved:
    """An edge whose clock is moved by hand."""

    def __init__(self, edge: EdgeThread, clock: FakeClock) -> None:
        self.edge, self.clock = edge, clock

    def seconds_pass(self, seconds: float) -> None:
        """Move the clock on, and sweep."""
        self.clock.advance(seconds)
        sweep(self.edge)


@contextmanager
def moved(port: int, **options: Any) -> Iterator[Moved]:
    """An edge before `port` on a clock that stands."""
    clock = FakeClock()
    with EdgeThread(document(port, **options), clock) as edge:
        yield Moved(edge, clock)


BEGUN = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello"
QUICK = {"timeouts": {"first_byte": "2s", "idle": "2s"}}


def test_a_slow_caller_is_no_fault_of_the_targets() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read(10)
        peer.send(OK)

    with ScriptedUpstream(script) as up, moved(up.port, **QUICK) as at, Caller(at.edge.port) as caller:
        caller.send(BEGUN)
        up.wait_for(lambda: b"hello" in up.received)
        at.seconds_pass(5)
        caller.send(b"world")
        assert caller.answer().status == 200
        assert targets(at.edge)[0].failures == 0
        assert len(up.peers) == 1


def test_once_the_request_has_ended_it_is_the_targets_turn() -> None:
    with (
        ScriptedUpstream(silent) as up,
        moved(up.port, **QUICK, retries={"attempts": 0}) as at,
        Caller(at.edge.port) as caller,
    ):
        caller.send(BEGUN)
        up.wait_for(lambda: b"hello" in up.received)
        at.seconds_pass(5)
        caller.send(b"world")
        up.wait_for(lambda: b"helloworld" in up.received)
        at.seconds_pass(1.5)
        assert at.edge.edge.connections == 1
        at.seconds_pass(1)
        found = caller.answer()
        assert (found.status, found.code) == (504, "first_byte_timeout")
        settled(at.edge)


def test_a_caller_that_waits_for_100_waits_for_the_target() -> None:
    with (
        ScriptedUpstream(silent) as up,
        moved(up.port, **QUICK, retries={"attempts": 0}) as at,
        Caller(at.edge.port) as caller,
    ):
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n")
        up.wait_for(lambda: b"expect: 100-continue" in up.received)
        at.seconds_pass(3)
        assert caller.answer().code == "first_byte_timeout"


def test_after_100_it_is_the_callers_turn() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.read(10)
        peer.send(OK)

    with ScriptedUpstream(script) as up, moved(up.port, **QUICK) as at, Caller(at.edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n")
        assert caller.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.send(b"hello")
        up.wait_for(lambda: b"hello" in up.received)
        at.seconds_pass(5)
        caller.send(b"world")
        assert caller.answer().status == 200


def forward_of(edge: EdgeThread) -> Any:
    """What the only exchange's connection delivers its body to."""
    (connection,) = edge.edge._listeners["http"].connections
    return connection.sink


def flood(caller: Caller, edge: EdgeThread) -> int:
    """Send until nothing is taken any more, for the target is full as well; how many bytes were sent."""
    caller.sock.settimeout(0.05)
    sent = 0
    while True:
        try:
            sent += caller.sock.send(b"x" * 65536)
        except TimeoutError:
            if forward_of(edge).send_watch is not None:
                caller.sock.settimeout(20)
                return sent


UPLOAD = b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n"


def test_a_target_that_takes_nothing_of_the_request() -> None:
    stop = threading.Event()
    with (
        ScriptedUpstream(lambda peer: stop.wait(20) and None) as up,
        moved(up.port, **QUICK) as at,
        Caller(at.edge.port) as caller,
    ):
        caller.send(UPLOAD)
        sent = flood(caller, at.edge)
        assert forward_of(at.edge).connection.transport.get_write_buffer_size() < 2**20
        assert sent < 64 * 2**20, "what is held is bounded"
        at.seconds_pass(1)
        at.seconds_pass(1)
        assert at.edge.edge.connections == 1
        at.seconds_pass(2)
        found = caller.answer()
        assert (found.status, found.code) == (504, "send_timeout")
        stop.set()
        settled(at.edge)


def test_a_target_that_takes_the_request_slowly_is_waited_for() -> None:
    go = threading.Semaphore(0)
    took = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while go.acquire(timeout=20) and peer.sock.recv(200_000):
                took.release()

    with ScriptedUpstream(script) as up, moved(up.port, timeouts={"idle": "4s"}) as at, Caller(at.edge.port) as caller:
        caller.send(UPLOAD)
        flood(caller, at.edge)
        for _ in range(12):
            at.seconds_pass(1)
            go.release()
            assert took.acquire(timeout=20)
        assert at.edge.edge.connections == 1
        assert targets(at.edge)[0].failures == 0
        go.release(1000)


def test_a_caller_that_reads_slowly_is_no_fault_of_the_targets() -> None:
    size = 20_000_000

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"y" * size)

    with ScriptedUpstream(script) as up, moved(up.port, **QUICK) as at, Caller(at.edge.port) as caller:
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        caller.send(b"GET / HTTP/1.0\r\n\r\n")
        connections = at.edge.edge._listeners["http"].connections
        up.wait_for(lambda: any(connection.send_watch is not None for connection in connections))
        at.seconds_pass(30)
        assert len(caller.to_end().partition(b"\r\n\r\n")[2]) == size
        assert targets(at.edge)[0].failures == 0
        settled(at.edge)


def test_a_target_that_stops_while_the_caller_uploads_is_given_time_by_every_piece() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        peer.read(10)
        peer.send(b"0\r\n\r\n")

    with ScriptedUpstream(script) as up, moved(up.port, **QUICK) as at, Caller(at.edge.port) as caller:
        caller.send(BEGUN[:-5])
        assert caller.sock.recv(1000).startswith(b"HTTP/1.1 200")
        for piece in (b"he", b"ll", b"ow", b"or"):
            at.seconds_pass(1.5)
            caller.send(piece)
            up.wait_for(lambda piece=piece: up.received.endswith(piece))
        caller.send(b"ld")
        assert caller.sock.recv(1000) == b"0\r\n\r\n"
