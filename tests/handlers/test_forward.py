"""Attempts: which failures are tried again, where, and what must never be sent or answered twice."""

from __future__ import annotations

import socket
from typing import Any

import h11
import pytest

from gatewayd.wire.framing import ChunkedReader
from tests.support.edge import EdgeThread
from tests.support.raw import Caller
from tests.support.upstream import OK, Peer, ScriptedUpstream, answer

from .scenes import GET, closed_port, document, post, reasons, recorded, saying, settled

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
