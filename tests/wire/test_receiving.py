"""Request bodies, over real sockets: framed, limited, and never taken for what comes behind them."""

from __future__ import annotations

import pytest

from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream


def test_a_pipelined_body_is_kept_apart_from_the_next_request() -> None:
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            body = peer.read(5) if b"content-length" in head else b"none"
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfirst"
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nthird"
        )
        assert [caller.answer().body for _ in range(3)] == [b"first", b"none", b"third"]


def test_expect_100_continue_goes_to_the_target_and_its_answer_comes_back() -> None:
    def script(peer: Peer) -> None:
        assert b"expect: 100-continue" in peer.read_head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert peer.read(5) == b"hello"
        peer.send(OK)

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n")
        assert caller.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.send(b"hello")
        assert caller.answer().status == 200


def test_a_caller_that_expects_100_and_gets_a_refusal_need_not_send_its_body() -> None:
    document = proxied(1)
    document["limits"] = {"body": 10}
    with EdgeThread(document) as edge, Caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\nexpect: 100-continue\r\n\r\n")
        found = caller.answer()
        assert (found.status, found.code, found.headers["connection"]) == (413, "body_too_large", "close")


@pytest.mark.parametrize("framing", ["content-length: 100000", "transfer-encoding: chunked"])
def test_a_body_over_the_limit_is_413_and_the_reply_can_be_read(framing: str) -> None:
    with ScriptedUpstream(lambda peer: peer.read_to_end() and None) as up:
        document = proxied(up.port)
        document["limits"] = {"body": 10}
        with EdgeThread(document) as edge, Caller(edge.port) as caller:
            caller.send(f"POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n".encode())
            caller.send(b"14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n")
            found = caller.answer()
            assert (found.status, found.code) == (413, "body_too_large")
            assert caller.to_end() == b""


def test_a_small_unread_body_does_not_cost_the_connection() -> None:
    with EdgeThread({"routes": {}}) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            caller.send(b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello")
            assert caller.answer().status == 404


def test_a_large_unread_body_is_cut_off_after_the_reply() -> None:
    with EdgeThread({"routes": {}}) as edge, Caller(edge.port) as caller:
        caller.send(b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n" + b"x" * 100_000)
        found = caller.answer()
        assert (found.status, found.headers["connection"]) == (404, "close")


@pytest.mark.parametrize("body", [b"zz\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\r\nhelloo\r\n"])
def test_a_malformed_chunked_body_is_400_and_never_complete_for_the_target(body: bytes) -> None:
    with ScriptedUpstream(lambda peer: peer.read_to_end() and None) as up:
        with EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
            caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + body)
            found = caller.answer()
            assert (found.status, found.code) == (400, "malformed_body")
        assert b"\r\n0\r\n" not in up.received
