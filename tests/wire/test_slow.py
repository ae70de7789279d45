"""Slow callers: what each may take, and what becomes of it. The clock is the test's, so nothing is timed here."""

from __future__ import annotations

import socket
import threading

import pytest

from tests.support.edge import proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream
from tests.wire.timing import TimedEdge, until

PARTIAL_HEAD = b"GET / HTTP/1.1\r\nhost: a\r\n"
PARTIAL_BODY = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhello"


def refused(caller: Caller, code: str) -> None:
    """The caller is told so, and that is the end."""
    found = caller.answer()
    assert (found.status, found.code, found.headers["connection"]) == (408, code, "close")
    assert caller.to_end() == b""


def test_a_silent_caller_may_stay_as_long_as_a_head_may_take() -> None:
    with TimedEdge({"routes": {}}) as edge, Caller(edge.port) as caller:
        assert edge.caller
        edge.pass_time(9.9)
        assert edge.callers
        edge.pass_time(0.2)
        assert caller.to_end() == b""


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\n", PARTIAL_HEAD, PARTIAL_HEAD + b"\r", b"\r\n\r\nG"])
def test_a_partial_head_is_waited_for_ten_seconds(begun: bytes) -> None:
    with TimedEdge({"routes": {}}) as edge, Caller(edge.port) as caller:
        caller.send(begun)
        until(lambda: edge.caller.buffer)
        edge.pass_time(9.9)
        assert edge.callers
        edge.pass_time(0.2)
        refused(caller, "head_too_slow")


def test_a_dripping_head_gets_no_more_time() -> None:
    with TimedEdge({"routes": {}}) as edge, Caller(edge.port) as caller:
        edge.caller  # noqa: B018  (waited for)
        sent = 0

        def drip() -> None:
            nonlocal sent
            caller.send(PARTIAL_HEAD[sent : sent + 1])
            sent += 1
            until(lambda: len(edge.caller.buffer) == sent)

        edge.pass_time(9.9, each=drip)
        edge.pass_time(0.2)
        refused(caller, "head_too_slow")


def test_the_head_of_a_later_request_has_its_time_from_its_first_byte() -> None:
    with TimedEdge({"routes": {}}) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 404
        edge.pass_time(70)
        caller.send(b"\r\n")
        caller.send(PARTIAL_HEAD)
        until(lambda: edge.caller.buffer)
        edge.pass_time(9.9)
        assert edge.callers
        edge.pass_time(0.2)
        refused(caller, "head_too_slow")


@pytest.mark.parametrize("before", [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /up HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_so_has_one_that_begins_behind_another(before: bytes) -> None:
    with ScriptedUpstream() as up:
        document = proxied(up.port)
        document["routes"] = {"up": {"path": "/up", "service": "up"}}
        with TimedEdge(document) as edge, Caller(edge.port) as caller:
            caller.send(before + PARTIAL_HEAD)
            caller.answer()
            edge.pass_time(9.9)
            assert edge.callers
            edge.pass_time(0.2)
            refused(caller, "head_too_slow")


@pytest.mark.parametrize("path", [b"/", b"/up"])
def test_a_bare_line_feed_behind_another_request_is_refused_at_once(path: bytes) -> None:
    with ScriptedUpstream() as up:
        document = proxied(up.port)
        document["routes"] = {"up": {"path": "/up", "service": "up"}}
        with TimedEdge(document) as edge, Caller(edge.port) as caller:
            caller.send(b"GET %b HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\nhost: a\r\n" % path)
            caller.answer()
            assert caller.answer().status == 400


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with TimedEdge({"routes": {}}) as edge, Caller(edge.port) as caller:
        for _ in range(2):
            assert caller.ask().status == 404
            edge.pass_time(74.9)
        assert edge.callers
        edge.pass_time(0.2)
        assert caller.to_end() == b""


def test_blank_lines_do_not_keep_an_idle_connection() -> None:
    with TimedEdge({"routes": {}}) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 404
        edge.pass_time(75.1, each=lambda: edge.callers and caller.send(b"\r\n"))
        assert caller.to_end() == b""


def test_a_body_that_stops_is_given_up_and_the_target_told() -> None:
    closed: list[bytes] = []
    script = lambda peer: closed.append(peer.read_to_end())  # noqa: E731
    with ScriptedUpstream(script) as up, TimedEdge(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(PARTIAL_BODY + bytes(9_995))  # enough for the minimum rate
        until(lambda: edge.caller.exchange and edge.caller.exchange.body_received == 10_000)
        edge.pass_time(29)
        assert edge.callers
        edge.pass_time(3)
        refused(caller, "body_too_slow")
        until(lambda: closed)
        assert closed[0].endswith(b"\r\n\r\nhello" + bytes(9_995))


@pytest.mark.parametrize(("rate", "kept"), [(100, False), (300, True)])
def test_a_dripping_body_has_to_keep_up_a_minimum_rate(rate: int, kept: bool) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        if len(peer.read(100_000)) == 100_000:
            peer.send(OK)

    with ScriptedUpstream(script) as up, TimedEdge(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(PARTIAL_BODY)
        until(lambda: edge.caller.exchange and edge.caller.exchange.body_received == 5)
        connection, sent = edge.caller, 5

        def drip() -> None:
            nonlocal sent
            if connection.exchange is not None and not connection.replied:
                caller.send(b"x" * rate)
                sent += rate
                until(lambda: connection.exchange is None or connection.exchange.body_received == sent)

        edge.pass_time(9, each=drip)
        assert connection.exchange is not None
        edge.pass_time(60, each=drip)
        if kept:
            assert connection.exchange is not None
            caller.send(b"x" * (100_000 - sent))
            assert caller.answer().status == 200
        else:
            refused(caller, "body_too_slow")


def test_a_caller_that_waits_for_100_is_not_slow() -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        go_on.wait(20)
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.read(5)
        peer.send(OK)

    with ScriptedUpstream(script) as up, TimedEdge(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
        until(lambda: up.received)
        edge.pass_time(50)
        go_on.set()
        assert caller.sock.recv(100).startswith(b"HTTP/1.1 100")
        caller.send(b"hello")
        assert caller.answer().status == 200


def large(size: int, sent: list[int]) -> ScriptedUpstream:
    """An upstream whose reply is so large; `sent[0]` counts the bytes it could send."""

    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
            try:
                for _ in range(0, size, 65536):
                    peer.sock.sendall(bytes(65536))
                    sent[0] += 65536
            except OSError:
                return

    return ScriptedUpstream(script)


def slow_caller(port: int) -> Caller:
    """A caller with a small receive buffer, so that the kernel hides little of its slowness."""
    caller = Caller(port)
    caller.sock.close()
    caller.sock = socket.socket()
    caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    caller.sock.settimeout(20)
    caller.sock.connect(("127.0.0.1", port))
    return caller


SIZE = 64 * 1024 * 1024
HELD = 1024 * 1024
"""What an edge may hold of one exchange, in bytes: a socket's read and its own high-water mark, and room to spare."""


def test_a_caller_that_reads_nothing_is_cut_off_and_its_target_freed() -> None:
    sent = [0]
    with large(SIZE, sent) as up, TimedEdge(proxied(up.port)) as edge, slow_caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: edge.caller.send_watch is not None and edge.onward.paused)
        edge.pass_time(59)
        assert edge.callers
        edge.pass_time(5)
        until(lambda: not edge.callers)
        with pytest.raises(ConnectionResetError):
            while caller.sock.recv(65536):
                pass
        until(lambda: not any(thread.is_alive() for thread in up._threads))


def test_a_slow_but_steady_reader_is_served_to_the_end_and_its_target_waits() -> None:
    sent = [0]
    with large(SIZE, sent) as up, TimedEdge(proxied(up.port)) as edge, slow_caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: edge.caller.send_watch is not None and edge.onward.paused)
        got = len(caller.sock.recv(65536))

        def read() -> None:
            nonlocal got
            got += len(caller.sock.recv(128 * 1024))

        edge.pass_time(200, each=read)
        assert edge.buffered() < HELD
        assert got < sent[0] < SIZE / 2 + got, "the target was not paused"
        while got < SIZE:
            more = caller.sock.recv(1 << 20)
            assert more
            got += len(more)
        until(lambda: edge.caller.exchange is None)


def test_a_connection_is_not_idle_while_its_last_reply_is_being_read() -> None:
    document = {"routes": {"all": {"path": "/*", "reply": {"body": "x" * 8_000_000}}}}
    with TimedEdge(document) as edge, slow_caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: edge.caller.send_watch is not None)
        got = 0

        def read() -> None:
            nonlocal got
            got += len(caller.sock.recv(16 * 1024))

        edge.pass_time(100, each=read)
        while got < 8_000_000:
            got += len(caller.sock.recv(1 << 20))
        until(lambda: edge.caller.send_watch is None)
        edge.pass_time(10)
        caller.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"200 OK" in caller.sock.recv(1 << 20)


def test_pipelined_requests_wait_until_their_replies_are_read() -> None:
    document = {"routes": {"all": {"path": "/*", "reply": {"body": "x" * 100_000}}}}
    with TimedEdge(document) as edge, slow_caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 500)
        until(lambda: edge.caller.send_watch is not None)
        assert edge.buffered() < HELD
        for _ in range(500):
            assert len(caller.answer().body) == 100_000


def test_pipelined_replies_of_targets_wait_too() -> None:
    sent = [0]
    with large(SIZE, sent) as up, TimedEdge(proxied(up.port)) as edge, slow_caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 3)
        until(lambda: edge.caller.send_watch is not None and edge.onward.paused)
        got = 0
        while got < 2 * SIZE:
            got += len(caller.sock.recv(1 << 20))
            assert got or edge.buffered() < HELD
        assert edge.buffered() < HELD


def test_a_caller_that_uploads_but_does_not_read_is_cut_off_too() -> None:
    sent = [0]

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE)
        threading.Thread(target=peer.read_to_end, daemon=True).start()
        try:
            while True:
                peer.sock.sendall(bytes(65536))
                sent[0] += 65536
        except OSError:
            return

    with ScriptedUpstream(script) as up, TimedEdge(proxied(up.port)) as edge, slow_caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello")
        until(lambda: edge.caller.send_watch is not None and edge.onward.paused)
        caller.send(b"world")
        until(lambda: edge.caller.reader is None)
        edge.pass_time(65)
        until(lambda: not edge.callers)


def test_who_goes_on_sending_after_a_refusal_is_listened_to_for_a_moment() -> None:
    with TimedEdge({"routes": {}}) as edge, Caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n" + bytes(200_000))
        assert caller.answer().status == 404
        caller.send(bytes(200_000))
        assert edge.callers
        edge.pass_time(2.1)
        until(lambda: not edge.callers)
