"""Ambiguous and broken replies: the caller gets 502, or an end it can tell from success, and nobody the wrong reply."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def once(misbehave: Callable[[Peer], None]) -> Callable[[Peer], None]:
    """A script that misbehaves on its first connection until that is closed, and answers properly on the others."""

    def script(peer: Peer) -> None:
        if peer.number == 0:
            misbehave(peer)
            peer.read_to_end()
            return
        while peer.read_head():
            peer.send(OK)

    return script


def replying(reply: bytes, then: str = "") -> Callable[[Peer], None]:
    """Answers the first request with `reply`, and then closes or resets the connection, or keeps it."""

    def misbehave(peer: Peer) -> None:
        peer.read_head()
        peer.send(reply)
        if then == "close":
            peer.close()
        elif then == "reset":
            peer.reset()

    return misbehave


def without_retries(up: ScriptedUpstream, **service: Any) -> dict[str, Any]:
    """A document that sends everything to `up`, once."""
    document = proxied(up.port, retries={"attempts": 0}, **service)
    document["limits"] = {"reply_head": "1KiB", "reply_headers": 10}
    return document


def sound_afterwards(up: ScriptedUpstream, edge: EdgeThread) -> None:
    """The connection that misbehaved has been closed, and the next request does not meet it."""
    with Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.body) == (200, b"ok")
    assert [peer.number for peer in up.peers] == [0, 1]
    assert up.peers[0].received.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(
    "reply",
    [
        HEAD + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"content-length: 2\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok",
        HEAD + b"content-length: 2, 2\r\n\r\nok",
        HEAD + b"content-length: +2\r\n\r\nok",
        HEAD + b"content-length: -2\r\n\r\nok",
        HEAD + b"content-length: 0x2\r\n\r\nok",
        HEAD + b"content-length:\r\n\r\nok",
        HEAD + b"content-length : 2\r\n\r\nok",
        HEAD + b"content-length: 99999999999999999999\r\n\r\nok",
        HEAD + b"transfer-encoding: gzip\r\n\r\nok",
        HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: xchunked\r\n\r\nok",
        HEAD + b"transfer-encoding: identity\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding: br\r\n\r\nok",
        HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"transfer-encoding:\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        HEAD + b"x-a: b\r\n folded\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b" content-length: 2\r\n\r\nok",
        HEAD + b"x-a : b\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"no colon\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b": no name\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"x-a: \x00\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"x-a: a\rb\r\ncontent-length: 2\r\n\r\nok",
        HEAD + b"x-a: a\nx-b: b\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
        b"HTTP/1.1 200 OK\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\n\nok",
        b"HTTP/1.1 200 OK\rcontent-length: 2\r\rok",
        b"HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 600 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 200 O\x00K\r\ncontent-length: 2\r\n\r\nok",
        b"ICY 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"220 mail.example ESMTP ready\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",  # an HTTP/2 SETTINGS frame
        HEAD + b"x-a: " + b"a" * 1100 + b"\r\n\r\n",
        HEAD + b"x-a: " + b"a" * 1100,
        HEAD + b"x-a: a\r\n" * 11 + b"\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK,
        b"HTTP/1.1 103 Early Hints\r\ncontent-length: 2\r\n\r\nok" + OK,
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nframes",
        CHUNKED + b"x\r\n",
        CHUNKED + b"2 \r\nok\r\n0\r\n\r\n",
        CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"fffffffffffffffff\r\nok\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nokk\r\n0\r\n\r\n",
        CHUNKED + b"2\nok\n0\n\n",
    ],
)  # fmt: skip
def test_a_reply_nobody_may_understand_is_502(reply: bytes) -> None:
    with ScriptedUpstream(once(replying(reply))) as up, EdgeThread(without_retries(up)) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
            found = caller.answer()
            assert (found.status, found.headers["content-type"]) == (502, "application/problem+json")
            assert found.code in ("malformed_reply", "reply_head_too_large", "unasked_upgrade")
        sound_afterwards(up, edge)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1",
        HEAD,
        HEAD + b"content-length: 2\r\n",
        HEAD + b"content-length: 2\r\n\r",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_a_close_before_the_reply_or_in_its_head_is_502(reply: bytes, then: str) -> None:
    with ScriptedUpstream(once(replying(reply, then))) as up, EdgeThread(without_retries(up)) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"POST /x HTTP/1.1\r\nhost: a\r\n\r\n")
            found = caller.answer()
            assert (found.status, found.headers["content-type"]) == (502, "application/problem+json")
        sound_afterwards(up, edge)


@pytest.mark.parametrize(
    ("reply", "then"),
    [
        (HEAD + b"content-length: 5\r\n\r\nhel", "close"),
        (HEAD + b"content-length: 5\r\n\r\n", "close"),
        (HEAD + b"content-length: 5\r\n\r\nhel", "reset"),
        (CHUNKED + b"5\r\nhel", "close"),
        (CHUNKED + b"5\r\nhello\r\n", "close"),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", "close"),
        (CHUNKED + b"5\r\nhello\r\n0\r\nx-sum: 1\r\n", "close"),
        (CHUNKED + b"5\r\nhello\r\n", "reset"),
        (HEAD + b"\r\nhel", "reset"),  # whose end is the connection's: a reset is none
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_cut_off_cannot_be_taken_for_a_complete_one(reply: bytes, then: str, version: bytes) -> None:
    head_passed = threading.Event()

    def misbehave(peer: Peer) -> None:
        peer.read_head()
        peer.send(reply)
        head_passed.wait(20)
        (peer.close if then == "close" else peer.reset)()

    with ScriptedUpstream(once(misbehave)) as up, EdgeThread(without_retries(up)) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"GET /x HTTP/%b\r\nhost: a\r\n\r\n" % version)
            begun = caller.sock.recv(10_000)
            assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
            head_passed.set()
            with pytest.raises(ConnectionResetError):
                while caller.sock.recv(10_000):
                    pass
        sound_afterwards(up, edge)


@pytest.mark.parametrize("more", [b"zz\r\n", b"5\nhello", b"5\r\nhelloo\r\n", b"0\r\nx y\r\n\r\n", b"5;\x00\r\nhello"])
def test_a_body_that_turns_out_malformed_is_broken_off(more: bytes) -> None:
    head_passed = threading.Event()

    def misbehave(peer: Peer) -> None:
        peer.read_head()
        peer.send(CHUNKED + b"5\r\nhello\r\n")
        head_passed.wait(20)
        peer.send(more)

    with ScriptedUpstream(once(misbehave)) as up, EdgeThread(without_retries(up)) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
            assert caller.sock.recv(10_000).startswith(b"HTTP/1.1 200 OK\r\n")
            head_passed.set()
            with pytest.raises(ConnectionResetError):
                while caller.sock.recv(10_000):
                    pass
        sound_afterwards(up, edge)


@pytest.mark.parametrize(
    ("method", "reply", "status", "body"),
    [
        ("GET", OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong", 200, b"ok"),
        ("GET", OK + b"\r\n", 200, b"ok"),
        ("GET", CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 200, b"ok"),
        ("HEAD", OK, 200, b""),
        ("HEAD", CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\nwrong", 204, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nwrong", 204, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\nwrong", 304, b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nwrong", 304, b""),
        ("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nwrong", 200, b""),
        ("GET", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
        ("GET", b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok"),
    ],
)
def test_a_connection_with_more_bytes_than_its_reply_is_not_kept(
    method: str, reply: bytes, status: int, body: bytes
) -> None:
    with ScriptedUpstream(once(replying(reply))) as up, EdgeThread(without_retries(up)) as edge:
        with Caller(edge.port) as caller:
            found = caller.ask(method=method)
            assert (found.status, found.body) == (status, body)
        sound_afterwards(up, edge)


def test_a_reply_before_its_request_is_nobodys() -> None:
    idle = threading.Event()

    def misbehave(peer: Peer) -> None:
        peer.read_head()
        peer.send(OK)
        idle.wait(20)
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong")

    with ScriptedUpstream(once(misbehave)) as up, EdgeThread(without_retries(up)) as edge:
        with Caller(edge.port) as caller:
            assert caller.ask().body == b"ok"
            idle.set()
            up.wait_for(lambda: not threads_of(up))
            assert caller.ask().body == b"ok"
        sound_afterwards(up, edge)


def threads_of(up: ScriptedUpstream) -> list[threading.Thread]:
    """The scripts that still run: those of connections that are open."""
    return [thread for thread in up._threads if thread.is_alive()]


def test_interim_replies_are_counted_per_request() -> None:
    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 16 + OK)

    with ScriptedUpstream(script) as up, EdgeThread(without_retries(up)) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            assert caller.ask().status == 200
        assert len(up.peers) == 1
