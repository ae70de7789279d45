"""Attempts: which failures are tried again, where, and what must never be sent or answered twice."""

from __future__ import annotations

import socket
import threading
from typing import Any

import h11
import pytest

from gatewayd.wire.framing import ChunkedReader
from tests.support.edge import EdgeThread
from tests.support.raw import Caller, leave
from tests.support.upstream import OK, Peer, ScriptedUpstream, answer

from .scenes import GET, closed_port, document, post, reasons, recorded, saying, settled, targets

BROKEN = (h11.RemoteProtocolError, ConnectionResetError)


def count(up: ScriptedUpstream, method: bytes) -> int:
    return up.received.count(method + b" / HTTP/1.1\r\n")


# -- no connection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_bytes", [GET, post(), post(method=b"PATCH")], ids=["GET", "POST", "PATCH"])
def test_a_refused_connection_is_tried_elsewhere_whatever_the_method(request_bytes: bytes) -> None:
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            assert peer.read(5 if b"content-length" in head else 0) in (b"hello", b"")
            peer.send(OK)

    with (
        closed_port() as dead,
        ScriptedUpstream(script) as up,
        EdgeThread(document(dead, up.port)) as edge,
        Caller(edge.port) as caller,
    ):
        for _ in range(4):
            caller.send(request_bytes)
            assert caller.answer().status == 200
        found = recorded(edge).routes["all"]
        assert (found.attempts, found.retries) == (6, 2), "every other request begins at the dead one"
        settled(edge)


@pytest.mark.parametrize(("attempts", "made"), [(0, 1), (1, 2), (4, 5)])
def test_attempts_are_limited(attempts: int, made: int) -> None:
    with closed_port() as dead, EdgeThread(document(dead, retries={"attempts": attempts})) as edge:
        with Caller(edge.port) as caller:
            found = caller.ask()
            assert (found.status, found.code) == (502, "connect_failed")
        assert recorded(edge).routes["all"].attempts == made
        assert reasons(edge) == {"connect_failed": 1}
        settled(edge)


# -- stale connections ------------------------------------------------------------------------------------------------


def stale(edge: EdgeThread, caller: Caller, peer: Peer, request: bytes) -> None:
    """Send `request`, then close the pooled connection; the edge's loop sees both at once, the request first."""

    def both() -> None:
        caller.send(request)
        peer.sock.shutdown(socket.SHUT_RDWR)

    edge.call(both)


def test_an_idempotent_request_on_a_stale_connection_is_sent_again() -> None:
    with ScriptedUpstream() as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 200
        stale(edge, caller, up.peers[0], GET)
        assert caller.answer().status == 200
        assert len(up.peers) == 2
        assert recorded(edge).routes["all"].retries == 1
        settled(edge)


def test_a_post_looks_at_its_connection_first_and_is_sent_once() -> None:
    def script(peer: Peer) -> None:
        while head := peer.read_head():
            peer.read(5 if b"content-length" in head else 0)
            peer.send(OK)

    with ScriptedUpstream(script) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 200
        stale(edge, caller, up.peers[0], post())
        assert caller.answer().status == 200
        assert [b"POST" in peer.received for peer in up.peers] == [False, True]
        assert recorded(edge).routes["all"].retries == 0
        settled(edge)


def test_a_post_takes_a_sound_connection_from_the_pool() -> None:
    def script(peer: Peer) -> None:
        while peer.read_head():
            peer.read(5)
            peer.send(OK)

    with ScriptedUpstream(script) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            caller.send(post())
            assert caller.answer().status == 200
        assert len(up.peers) == 1


def test_a_target_that_closes_every_connection_at_once() -> None:
    """The connection may be gone before the exchange has it in hands."""

    def script(peer: Peer) -> None:
        if peer.number >= 3:
            answer()(peer)

    with ScriptedUpstream(script) as up:
        made = document(up.port, retries={"attempts": 8})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            assert caller.ask().status == 200
            assert len(up.peers) == 4
            settled(edge)


# -- closed without a reply -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "made"), [(b"GET", 2), (b"PUT", 2), (b"DELETE", 2), (b"POST", 1), (b"PATCH", 1)])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_request_without_a_reply_is_sent_again_only_if_that_changes_nothing(
    method: bytes, made: int, reset: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.read(5)
        if reset:
            peer.reset()

    with ScriptedUpstream(script) as up:
        with EdgeThread(document(up.port, retries={"attempts": 1})) as edge, Caller(edge.port) as caller:
            caller.send(post(method=method))
            found = caller.answer()
            assert (found.status, found.code) == (502, "closed_before_reply")
            settled(edge)
        assert count(up, method) == made


@pytest.mark.parametrize("piece", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"])
def test_after_the_first_byte_of_a_head_nothing_is_sent_again(piece: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(piece)

    with ScriptedUpstream(script) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (502, "closed_in_reply")
        assert count(up, b"GET") == 1
        settled(edge)


def test_after_a_head_the_reply_is_broken_off() -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")

    with ScriptedUpstream(script) as up, EdgeThread(document(up.port)) as edge:
        with Caller(edge.port) as caller, pytest.raises(BROKEN):
            caller.ask()
        assert count(up, b"GET") == 1
        assert reasons(edge) == {"closed_in_reply": 1}
        settled(edge)


# -- replies that are tried again -------------------------------------------------------------------------------------

REPLIES = {
    "length": b"HTTP/1.1 503 X\r\ncontent-length: 3\r\n\r\nbad",
    "empty": b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n",
    "chunked": b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\n\r\n",
    "trailers": b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n3\r\nbad\r\n0\r\nx-sum: 1\r\n\r\n",
    "closing": b"HTTP/1.1 503 X\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbad",
    "unfinished": b"HTTP/1.1 503 X\r\ncontent-length: 300\r\n\r\nbad",
    "unfinished chunks": b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n30\r\nbad",
    "open": b"HTTP/1.1 503 X\r\n\r\nbad",
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_a_status_is_tried_elsewhere_and_nothing_of_that_reply_is_seen(reply: bytes) -> None:
    with ScriptedUpstream(saying(reply)) as bad, ScriptedUpstream() as good:
        made = document(bad.port, good.port, retries={"statuses": [503]})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            pipelined = b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(6))
            caller.send(pipelined)
            found = [caller.answer() for _ in range(6)]
            assert [(each.status, each.body) for each in found] == [(200, b"ok")] * 6
            assert all("x-sum" not in each.headers for each in found)
            settled(edge)


def test_the_last_reply_is_passed_on_whatever_it_says() -> None:
    with ScriptedUpstream(answer(REPLIES["chunked"])) as up:
        made = document(up.port, retries={"statuses": [503], "attempts": 2})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            found = caller.ask()
            assert (found.status, found.body, found.code) == (503, b"bad", "")
            assert count(up, b"GET") == 3
            settled(edge)


def test_a_status_is_never_tried_again_for_a_post() -> None:
    with ScriptedUpstream(saying(REPLIES["length"], lambda peer: peer.read(5) and None)) as up:
        made = document(up.port, retries={"statuses": [503]})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.send(post())
            assert caller.answer().status == 503
            assert count(up, b"POST") == 1


def test_other_statuses_are_not_tried_again() -> None:
    with ScriptedUpstream(answer(REPLIES["length"])) as up, EdgeThread(document(up.port)) as edge:
        with Caller(edge.port) as caller:
            assert caller.ask().status == 503
        assert count(up, b"GET") == 1


# -- bodies -----------------------------------------------------------------------------------------------------------


def first_fails(reading: int) -> Any:
    """A script whose first connection reads so much of a body and closes; others answer with the body's end."""

    def script(peer: Peer) -> None:
        head = peer.read_head()
        if peer.number == 0:
            peer.read(reading)
            peer.sock.shutdown(socket.SHUT_WR)
            peer.read_to_end()
            return
        if b"transfer-encoding" in head:
            body = peer.read_until(b"\r\n\r\n")
        else:
            body = peer.read(int(head.partition(b"content-length: ")[2].partition(b"\r")[0]))
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    return script


@pytest.mark.parametrize("size", [1, 1000])
def test_a_body_within_the_limit_is_sent_again(size: int) -> None:
    body = bytes(65 + n % 26 for n in range(size))
    with (
        ScriptedUpstream(first_fails(size)) as up,
        EdgeThread(document(up.port, retries={"body": "1000B"})) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(post(body, b"PUT"))
        assert caller.answer().body == body
        settled(edge)


def test_a_body_beyond_the_limit_is_not() -> None:
    with (
        ScriptedUpstream(first_fails(1001)) as up,
        EdgeThread(document(up.port, retries={"body": "1000B"})) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(post(b"x" * 1001, b"PUT"))
        found = caller.answer()
        assert (found.status, found.code) == (502, "closed_before_reply")
        assert count(up, b"PUT") == 1
        settled(edge)


def test_a_body_beyond_the_limit_still_finds_another_target_if_none_of_it_was_sent() -> None:
    body = b"x" * 200_000

    def script(peer: Peer) -> None:
        peer.read_head()
        assert peer.read(len(body)) == body
        peer.send(OK)

    with (
        closed_port() as dead,
        ScriptedUpstream(script) as up,
        EdgeThread(document(dead, up.port, retries={"body": "1000B"})) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(post(body))
        assert caller.answer().status == 200


def test_a_chunked_body_is_sent_again_with_its_trailers() -> None:
    with ScriptedUpstream(first_fails(30)) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        caller.send(b"5\r\nhello\r\n5\r\nworld\r\n0\r\nx-sum: 7\r\n\r\n")
        reader = ChunkedReader()
        assert reader.feed(caller.answer().body) == b"helloworld"
        assert reader.trailers == [(b"x-sum", b"7")]


def test_a_body_of_which_some_is_still_to_come_is_sent_again_as_a_whole() -> None:
    with ScriptedUpstream(first_fails(5)) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello")
        up.wait_for(lambda: len(up.peers) == 2 and b"hello" in up.peers[1].received)
        caller.send(b"world")
        assert caller.answer().body == b"helloworld"
        settled(edge)


def test_pipelined_requests_are_not_swallowed_by_a_body_that_is_sent_again() -> None:
    with ScriptedUpstream(first_fails(5)) as up, EdgeThread(document(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(post(method=b"PUT") + post(b"again", b"PUT"))
        assert [caller.answer().body for _ in range(2)] == [b"hello", b"again"]


# -- the budget -------------------------------------------------------------------------------------------------------


def test_retries_are_a_share_of_requests() -> None:
    with closed_port() as dead:
        made = document(dead, retries={"attempts": 3, "budget": 0.0, "budget_min": 2})
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            for _ in range(5):
                assert caller.ask().code == "connect_failed"
            found = recorded(edge).routes["all"]
            assert (found.attempts, found.retries) == (7, 2)


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
