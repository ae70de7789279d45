"""Bodies of any size: passed on as they come, with bounded memory, each side waiting for the other."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import tracemalloc

import pytest

from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream
from tests.wire.timing import TimedEdge, until

SIZE = 64 * 1024 * 1024
PIECE = bytes(range(256)) * 256
HELD = 1024 * 1024
"""What an edge may hold of one exchange, in bytes: a socket's read and its own high-water mark, and room to spare."""


def slow_peer(up: ScriptedUpstream) -> None:
    """Make the sockets that `up` accepts receive into a small buffer, so that the kernel hides little."""
    up._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)


class Upload:
    """A caller that sends a body of `SIZE` bytes in a thread of its own; `sent` counts what it could send."""

    def __init__(self, port: int, chunked: bool) -> None:
        self.caller = Caller(port)
        self.chunked = chunked
        self.sent = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        framing = b"transfer-encoding: chunked" if self.chunked else b"content-length: %d" % SIZE
        with contextlib.suppress(OSError):
            self.caller.sock.sendall(b"PUT / HTTP/1.1\r\nhost: a\r\n%b\r\n\r\n" % framing)
            for _ in range(0, SIZE, len(PIECE)):
                self.caller.sock.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if self.chunked else PIECE)
                self.sent += len(PIECE)
            if self.chunked:
                self.caller.sock.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_slow_target_makes_an_uploading_caller_wait(chunked: bool) -> None:
    read_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        read_on.wait(60)
        left, tail = SIZE - (len(peer.received) - peer._at), b""
        while left if not chunked else not tail.endswith(b"\r\n0\r\n\r\n"):
            data = peer.sock.recv(1 << 20)
            left -= len(data)
            tail = (tail + data)[-7:]
            assert data
        peer.send(OK)

    with ScriptedUpstream(script) as up:
        slow_peer(up)
        with TimedEdge(proxied(up.port)) as edge:
            tracemalloc.start()
            upload = Upload(edge.port, chunked)
            with upload.caller:
                until(lambda: edge.caller.paused and edge.onward.transport.get_write_buffer_size())
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert edge.buffered() < HELD
                assert peak < 8 * HELD
                assert upload.sent < SIZE
                read_on.set()
                assert upload.caller.answer().status == 200
            assert upload.sent == SIZE


def test_a_target_that_takes_nothing_more_is_given_up() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        gone.wait(60)

    gone = threading.Event()
    with ScriptedUpstream(script) as up:
        slow_peer(up)
        with TimedEdge(proxied(up.port, timeouts={"idle": "20s"}, retries={"attempts": 0})) as edge:
            upload = Upload(edge.port, chunked=False)
            with upload.caller:
                until(lambda: edge.caller.paused and edge.onward.transport.get_write_buffer_size())
                edge.pass_time(15)
                assert not edge.caller.replied
                edge.pass_time(10)
                assert upload.caller.sock.recv(100).startswith(b"HTTP/1.1 504 ")
            gone.set()


def test_a_slow_but_steady_target_is_not_given_up() -> None:
    step, over = threading.Semaphore(0), threading.Event()
    taken = [0]

    def script(peer: Peer) -> None:
        peer.read_head()
        while step.acquire(timeout=60) and not over.is_set():
            try:
                taken[0] += len(peer.sock.recv(256 * 1024))
            except OSError:
                return

    with ScriptedUpstream(script) as up:
        slow_peer(up)
        with TimedEdge(proxied(up.port, timeouts={"idle": "20s"}, retries={"attempts": 0})) as edge:
            upload = Upload(edge.port, chunked=False)
            with upload.caller:
                until(lambda: edge.caller.paused and edge.onward.transport.get_write_buffer_size())

                def read() -> None:
                    before = taken[0]
                    step.release()
                    until(lambda: taken[0] > before)

                edge.pass_time(100, each=read)
                assert edge.caller.exchange is not None
                assert not edge.caller.replied
        over.set()
        step.release()


@pytest.mark.parametrize("framing", ["content-length", "chunked", "open"])
def test_a_large_reply_arrives_whole_and_is_never_held_whole(framing: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        line = {"content-length": b"content-length: %d\r\n" % SIZE, "chunked": b"transfer-encoding: chunked\r\n"}
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n%b\r\n" % line.get(framing, b""))
        for _ in range(0, SIZE, len(PIECE)):
            peer.sock.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if framing == "chunked" else PIECE)
        if framing == "chunked":
            peer.sock.sendall(b"0\r\n\r\n")

    with ScriptedUpstream(script) as up, TimedEdge(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n")
        until(lambda: edge.caller.send_watch is not None and edge.onward.paused)
        assert edge.buffered() < HELD
        digest, size, head = hashlib.sha256(), 0, b""
        while b"\r\n\r\n" not in head:
            head += caller.sock.recv(1000)
        data = head.partition(b"\r\n\r\n")[2]
        while data:
            digest.update(data)
            size += len(data)
            data = caller.sock.recv(1 << 20)
        assert size == SIZE
        assert digest.digest() == hashlib.sha256(PIECE * (SIZE // len(PIECE))).digest()


@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked\r\n", b"", b"content-length: 100000\r\n"])
def test_server_sent_events_pass_at_once(framing: bytes) -> None:
    seen = [threading.Event() for _ in range(10)]

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n%b\r\n" % framing)
        for number, event in enumerate(seen):
            data = b"data: %d\n\n" % number
            peer.send(b"%x\r\n%b\r\n" % (len(data), data) if b"chunked" in framing else data)
            assert event.wait(20), "the event was held back"

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        got = b""
        for number, event in enumerate(seen):
            while b"data: %d\n\n" % number not in got:
                more = caller.sock.recv(10_000)
                assert more
                got += more
            event.set()


@pytest.mark.parametrize("chunked", [False, True])
def test_pieces_of_an_upload_pass_at_once(chunked: bool) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        for number in range(10):
            peer.read_until(b"piece %d\n" % number)
            peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")
        peer.send(OK)

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: 80"
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\n%b\r\n\r\n" % framing)
        for number in range(10):
            caller.send(b"8\r\npiece %d\n\r\n" % number if chunked else b"piece %d\n" % number)
            assert caller.sock.recv(27) == b"HTTP/1.1 102 Processing\r\n\r\n"
        if chunked:
            caller.send(b"0\r\n\r\n")
        assert caller.answer().status == 200


def test_both_ways_at_once() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(10):
            peer.read_until(b"ping %d\n" % number)
            peer.send(b"7\r\npong %d\n\r\n" % number)
        peer.read_until(b"0\r\n\r\n")
        peer.send(b"0\r\n\r\n")

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        got = b""
        for number in range(10):
            caller.send(b"7\r\nping %d\n\r\n" % number)
            while b"pong %d\n" % number not in got:
                got += caller.sock.recv(10_000)
        caller.send(b"0\r\n\r\n")
        while not got.endswith(b"\r\n0\r\n\r\n"):
            got += caller.sock.recv(10_000)
