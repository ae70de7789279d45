"""Callers' connections, over real sockets: what a caller sees, and what the target gets."""

from __future__ import annotations

import socket

import h11
import pytest

from gatewayd.wire.framing import ChunkedReader
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller, exchange
from tests.support.upstream import OK, Peer, ScriptedUpstream, answer


def test_pipelined_requests_are_answered_in_order() -> None:
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            path = head.split(b" ")[1]
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(path), path))

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(50)))
        assert [caller.answer().body for _ in range(50)] == [b"/%d" % n for n in range(50)]


@pytest.mark.parametrize("cut", [1, 7])
def test_requests_cut_into_small_pieces(cut: int) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + ChunkedReader().feed(peer.read_until(b"0\r\n\r\n")))

    wire = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(wire), cut):
            caller.send(wire[at : at + cut])
        assert caller.answer().body == b"hello"


def test_a_half_closed_caller_gets_its_answer() -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge:
        reply = exchange(edge.port, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        assert reply.endswith(b"ok")


@pytest.mark.parametrize(
    ("request_line", "connection", "kept"),
    [(b"1.1", b"", True), (b"1.1", b"close", False), (b"1.0", b"", False), (b"1.0", b"keep-alive", True)],
)
def test_connections_are_kept_as_asked(request_line: bytes, connection: bytes, kept: bool) -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        lines = [b"GET / HTTP/" + request_line, b"host: a"] + ([b"connection: " + connection] if connection else [])
        wire = b"\r\n".join([*lines, b"", b""])
        caller.send(wire)
        assert caller.answer().status == 200
        if kept:
            caller.send(wire)
            assert caller.answer().status == 200
        else:
            assert caller.to_end() == b""


def test_http_1_0_gets_an_open_body_to_the_end_of_the_connection_and_no_chunks() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with ScriptedUpstream(answer(chunked)) as up, EdgeThread(proxied(up.port)) as edge:
        reply = exchange(edge.port, b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        head, _, body = reply.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert body == b"abcde"


def test_an_open_reply_becomes_chunked_and_its_trailers_are_kept() -> None:
    chunked = (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\ncontent-length: 9\r\n\r\n"
    )
    with ScriptedUpstream(answer(chunked)) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        reply = caller.to_end()
        assert reply.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_replies_without_a_body_keep_the_connection(status: int) -> None:
    reply = b'HTTP/1.1 %d X\r\netag: "a"\r\n\r\n' % status
    with ScriptedUpstream(answer(reply)) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            found = caller.ask()
            assert (found.status, found.body) == (status, b"")
        assert len(up.peers) == 1


def test_head_announces_the_length_and_sends_nothing() -> None:
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: 541\r\n\r\n"
    with ScriptedUpstream(answer(reply)) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            found = caller.ask(method="HEAD")
            assert (found.status, found.headers["content-length"], found.body) == (200, "541", b"")
        assert len(up.peers) == 1


def test_a_refusal_to_head_has_no_body_either() -> None:
    with EdgeThread({"routes": {}}) as edge, Caller(edge.port) as caller:
        for _ in range(2):
            assert caller.ask(method="HEAD").status == 404


def test_interim_replies_are_passed_on() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK)

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        reply = caller.to_end()
        assert reply.startswith(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_a_caller_that_leaves_takes_its_request_with_it() -> None:
    gone: list[bool] = []

    def script(peer: Peer) -> None:
        peer.read_head()
        gone.append(peer.read_to_end() == b"")

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge:
        caller = Caller(edge.port)
        caller.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        up.wait_for(lambda: bool(up.peers) and b"\r\n\r\n" in up.peers[0].received)
        caller.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        caller.sock.close()
        up.wait_for(lambda: gone == [True])
        edge.call(edge.edge._record, 0.0)
        assert edge.totals().routes["all"].classes[5] == 1


@pytest.mark.parametrize(
    ("limit", "wire", "status", "code"),
    [
        ({"head": 200}, b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 200, 431, "head_too_large"),
        ({"head": 200}, b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 200 + b"\r\n\r\n", 431, "head_too_large"),
        ({"headers": 3}, b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: a\r\n" * 3 + b"\r\n", 431, "too_many_headers"),
        ({"target": 50}, b"GET /" + b"a" * 50 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414, "target_too_long"),
        ({"target": 50}, b"GET /" + b"a" * 500, 414, "target_too_long"),
        ({}, b"GET / HTTP/1.1\nhost: a\n\n", 400, "malformed_request"),
        ({}, b"GET / HTTP/1.1\r\nhost: a\n", 400, "malformed_request"),
        ({}, b"\r\n" * 10 + b"GET", 400, "malformed_request"),
        ({}, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "malformed_request"),
    ],
)
def test_heads_beyond_the_limits_are_refused_as_soon_as_that_is_known(
    limit: dict[str, int], wire: bytes, status: int, code: str
) -> None:
    with EdgeThread({"limits": limit, "routes": {}}) as edge, Caller(edge.port) as caller:
        caller.send(wire)
        found = caller.answer()
        assert (found.status, found.code, found.headers["connection"]) == (status, code, "close")
        assert caller.to_end() == b""


def test_a_reply_broken_off_cannot_be_taken_for_a_complete_one() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        peer.close()

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge:
        with Caller(edge.port) as caller, pytest.raises((h11.RemoteProtocolError, ConnectionResetError)):
            caller.ask()
        with Caller(edge.port) as caller:  # an open body to HTTP/1.0: only a reset can tell
            caller.send(b"GET / HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                while caller.sock.recv(1000):
                    pass


def test_connections_over_the_limit_are_refused_politely_and_counted() -> None:
    with EdgeThread({"routes": {}, "limits": {"connections_per_address": 2}}) as edge:
        with Caller(edge.port) as first, Caller(edge.port) as second:
            assert [caller.ask().status for caller in (first, second)] == [404, 404]
            with Caller(edge.port) as third:
                assert third.to_end().startswith(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n")
        assert {"connections_per_address": 1} in edge.totals().tokens


def test_every_worker_wide_connection_is_counted_out_again() -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge:
        for _ in range(5):
            with Caller(edge.port) as caller:
                assert caller.ask().status == 200
        up.wait_for(lambda: edge.edge.connections == 0)
        assert edge.edge._tally.open == 0
        assert edge.edge._tally.by_address == {}
