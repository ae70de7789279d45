"""How exchanges end: odd replies, no target, callers that leave."""

from __future__ import annotations

import threading

import h11
import pytest

from tests.support.edge import EdgeThread
from tests.support.raw import Caller, leave
from tests.support.upstream import Peer, ScriptedUpstream, answer

from .scenes import GET, closed_port, document, reasons, saying, settled, targets

BROKEN = (h11.RemoteProtocolError, ConnectionResetError)


def count(up: ScriptedUpstream, method: bytes) -> int:
    return up.received.count(method + b" / HTTP/1.1\r\n")


# -- replies without a body, and other oddities -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "reply", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", None),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n", "77"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", None),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\n\r\n", "77"),
        ("GET", b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", None),
    ],
)
def test_no_length_is_made_up_for_replies_without_a_body(method: str, reply: bytes, length: str | None) -> None:
    with ScriptedUpstream(answer(reply)) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        for _ in range(2):
            assert caller.ask(method=method).headers.get("content-length") == length
        assert len(up.peers) == 1


def test_an_upgrade_that_nobody_asked_for_is_refused_and_its_connection_closed() -> None:
    switched = b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with ScriptedUpstream(saying(switched, Peer.read_to_end)) as up, EdgeThread(document(up.port)) as edge:
        with Caller(edge.port) as caller:
            found = caller.ask()
            assert (found.status, found.code) == (502, "unasked_upgrade")
            assert targets(edge)[0].pool.open == 0
            asking = ("connection: upgrade", "upgrade: other")
            assert caller.ask("/", *asking).code == "unasked_upgrade", "the route takes websocket only"
        settled(edge)


def test_the_targets_reply_does_not_wait_for_the_body() -> None:
    """And a connection whose request was not read to its end never serves another."""
    refusing = saying(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig", Peer.read_to_end)
    with ScriptedUpstream(refusing) as up, EdgeThread(document(up.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n")
            found = caller.answer()
            assert (found.status, found.body, found.headers["connection"]) == (413, b"big", "close")
        assert targets(edge)[0].pool.open == 0
        settled(edge)


def test_a_target_may_answer_while_it_still_reads() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(3):
            piece = peer.read(5)
            peer.send(b"5\r\n%b\r\n" % piece)
        peer.send(b"0\r\n\r\n")
        peer.read_to_end()

    with ScriptedUpstream(script) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 15\r\n\r\n")
        got = b""
        for piece in (b"aaaaa", b"bbbbb", b"ccccc"):
            caller.send(piece)
            while piece not in got:
                got += caller.sock.recv(65536)
        while not got.endswith(b"0\r\n\r\n"):
            got += caller.sock.recv(65536)
        assert len(targets(edge)[0].pool.idle) == 1, "both messages ended, so the connection is kept"
        settled(edge)


# -- no target --------------------------------------------------------------------------------------------------------


def test_an_upstream_without_targets_is_503() -> None:
    made = document(1)
    made["upstreams"]["up"]["targets"][0]["weight"] = 0
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (503, "no_available_target")


def test_an_open_breaker_is_503_and_the_target_is_left_alone() -> None:
    with ScriptedUpstream(lambda peer: peer.read_head() and None) as up:
        breaker = {"enabled": True, "min_requests": 3, "failure_share": 0.5, "open_for": "1h"}
        made = document(up.port, upstream={"breaker": breaker}, retries={"attempts": 0})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            assert [caller.ask().code for _ in range(5)] == ["closed_before_reply"] * 3 + ["breaker_open"] * 2
            assert caller.ask().status == 503
            assert count(up, b"GET") == 3
            settled(edge)


# -- callers that leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"], ids=["before", "within"])
def test_a_caller_that_leaves_takes_the_request_along_and_blames_nobody(before: bytes) -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(before)
        peer.read_to_end()
        ended.set()

    with ScriptedUpstream(script) as up, EdgeThread(document(up.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(GET)
            if before:
                caller.sock.recv(65536)
            else:
                up.wait_for(lambda: bool(up.received))
            leave(caller)
            assert ended.wait(20)
        up.wait_for(lambda: edge.edge.connections == 0)
        assert reasons(edge) == {"caller_gone": 1}
        assert targets(edge)[0].failures == 0
        settled(edge)


def test_a_caller_that_leaves_in_the_middle_of_its_body() -> None:
    with ScriptedUpstream(lambda peer: peer.read_to_end() and None) as up, EdgeThread(document(up.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello")
            up.wait_for(lambda: b"hello" in up.received)
        up.wait_for(lambda: edge.edge.connections == 0)
        assert count(up, b"PUT") == 1, "it is not tried elsewhere"
        assert targets(edge)[0].failures == 0
        settled(edge)


def test_a_refusal_for_want_of_a_target_says_when_to_come_back() -> None:
    breaker = {"enabled": True, "min_requests": 1, "open_for": "30s"}
    with (
        closed_port() as port,
        EdgeThread(document(port, upstream={"breaker": breaker})) as edge,
        Caller(edge.port) as caller,
    ):
        failed, refused = caller.ask(), caller.ask()
    assert (failed.status, failed.code, "retry-after" in failed.headers) == (502, "connect_failed", False)
    assert (refused.status, refused.code) == (503, "breaker_open")
    assert refused.headers["retry-after"] in ("29", "30")
