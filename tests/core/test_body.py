"""Gathering a body: policies see all of it, and whoever reads it afterwards gets it as it came."""

from __future__ import annotations

import h11
import pytest

from gatewayd.core.body import gather
from gatewayd.core.policy import Hooks
from gatewayd.core.problem import problem
from tests.support.edge import EdgeThread, proxied
from tests.support.policies import install, policy
from tests.support.raw import Caller, leave
from tests.support.upstream import ScriptedUpstream

REFUSAL = problem(403, "not_this_body", "not this body")
TOO_LARGE = problem(413, "too_large", "too large")
LIMIT = 64 * 1024
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"


class Seen:
    """A policy that gathers bodies of at most 64 KiB and refuses those that begin with "no".

    A larger one is refused, or with `lenient` sent on.
    """

    lenient = False

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []

    def hooks(self) -> Hooks:
        async def access(exchange):
            body = await gather(exchange, LIMIT)
            self.bodies.append(body)
            if body is None:
                return None if self.lenient else TOO_LARGE
            return REFUSAL if body.startswith(b"no") else None

        return Hooks(access=access, log=lambda exchange: self.statuses.append(exchange.status))


@pytest.fixture
def seen(monkeypatch):
    found = Seen()
    install(monkeypatch, seen=policy(found.hooks()))
    return found


def guarded(port, **route):
    document = proxied(port)
    document["routes"]["all"] |= {"policies": ["seen"], **route}
    return {**document, "policies": {"seen": {}}}


def taking(length):
    """A script that takes requests with `length` bytes behind the head, and answers with them."""

    def script(peer):
        while peer.read_head():
            body = peer.read(length)
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    return script


def test_a_body_in_pieces_is_seen_whole_and_goes_on(seen):
    with ScriptedUpstream(taking(10)) as upstream, EdgeThread(guarded(upstream.port)) as edge:
        with Caller(edge.port) as caller:
            for _ in range(2):  # the connection is as good as before
                caller.send(HEAD + b"content-length: 10\r\n\r\n01234")
                edge.until(lambda: edge.edge.connections == 1)
                caller.send(b"56789")
                assert caller.answer("POST").body == b"0123456789"
        assert seen.bodies == [b"0123456789"] * 2


def test_a_chunked_body_and_its_trailers(seen):
    def script(peer):
        peer.read_head()
        peer.read_until(b"x-trailer: yes\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with ScriptedUpstream(script) as upstream, EdgeThread(guarded(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: yes\r\n\r\n")
        assert caller.answer("POST").status == 200
        assert seen.bodies == [b"abcde"]


def test_an_empty_chunked_body(seen):
    def script(peer):
        peer.read_head()
        peer.read_until(b"0\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    with ScriptedUpstream(script) as upstream, EdgeThread(guarded(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        assert caller.answer("POST").status == 200
        assert seen.bodies == [b""]


def test_a_refused_body_reaches_nobody_and_the_connection_serves_on(seen):
    with ScriptedUpstream(taking(3)) as upstream, EdgeThread(guarded(upstream.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(HEAD + b"content-length: 3\r\n\r\nno!")
            assert caller.answer("POST").code == "not_this_body"
            caller.send(HEAD + b"content-length: 3\r\n\r\nyes")
            assert caller.answer("POST").body == b"yes"
        assert b"no!" not in upstream.received


def test_a_caller_that_waits_for_leave_to_send_gets_it(seen):
    with ScriptedUpstream(taking(3)) as upstream, EdgeThread(guarded(upstream.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(HEAD + b"expect: 100-continue\r\ncontent-length: 3\r\n\r\n")
            assert caller.sock.recv(100).startswith(b"HTTP/1.1 100 ")
            caller.send(b"abc")
            assert caller.answer("POST").body == b"abc"
        assert b"expect" not in upstream.received


def test_too_large_a_body_is_not_gathered(seen):
    with ScriptedUpstream() as upstream, EdgeThread(guarded(upstream.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(HEAD + b"content-length: %d\r\n\r\n" % (LIMIT + 1))
            assert caller.answer("POST").code == "too_large"
        with Caller(edge.port) as caller:
            caller.send(HEAD + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(5):
                caller.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
            assert caller.answer("POST").code == "too_large"
        edge.until(lambda: seen.statuses == [413, 413])
        assert upstream.received == b""


@pytest.mark.parametrize("chunks", [5, 60])
def test_too_large_a_body_can_be_sent_on_for_all_that(seen, chunks):
    seen.lenient = True
    whole = b"4000\r\n" + bytes(0x4000) + b"\r\n"

    def script(peer):
        peer.read_head()
        taken = peer.read_until(b"0\r\nX-Trailer: yes\r\n\r\n".lower())
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-taken: %d\r\n\r\n" % taken.count(0))

    with ScriptedUpstream(script) as upstream, EdgeThread(guarded(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(HEAD + b"transfer-encoding: chunked\r\n\r\n" + whole * chunks + b"0\r\nx-trailer: yes\r\n\r\n")
        assert caller.answer("POST").headers["x-taken"] == str(0x4000 * chunks)
        assert seen.bodies == [None]


def test_the_route_s_limit_holds_while_and_after_a_body_is_gathered(seen):
    seen.lenient = True
    with (
        ScriptedUpstream(lambda peer: peer.read_to_end()) as upstream,  # it answers nothing
        EdgeThread(guarded(upstream.port, body=2 * LIMIT)) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(HEAD + b"transfer-encoding: chunked\r\n\r\n" + (b"4000\r\n" + bytes(0x4000) + b"\r\n") * 9)
        assert caller.answer("POST").code == "body_too_large"


def test_the_largest_body_is_gathered(seen):
    with (
        ScriptedUpstream(taking(LIMIT)) as upstream,
        EdgeThread(guarded(upstream.port)) as edge,
        Caller(edge.port) as caller,
    ):
        caller.send(HEAD + b"content-length: %d\r\n\r\n" % LIMIT + bytes(LIMIT))
        assert caller.answer("POST").body == bytes(LIMIT)


def test_a_caller_that_leaves_ends_it(seen):
    with ScriptedUpstream() as upstream, EdgeThread(guarded(upstream.port)) as edge:
        with Caller(edge.port) as caller:
            caller.send(HEAD + b"content-length: 10\r\n\r\n01234")
            edge.until(lambda: edge.edge.connections == 1)
            leave(caller)
            edge.until(lambda: seen.statuses == [499])
        assert upstream.received == b""


def test_another_attempt_sends_it_again(seen):
    def script(peer):
        peer.read_head()
        if peer.number == 0:
            peer.read(3)
            peer.reset()
            return
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n" + peer.read(3))

    with ScriptedUpstream(script) as upstream, EdgeThread(guarded(upstream.port)) as edge, Caller(edge.port) as caller:
        caller.send(HEAD.replace(b"POST", b"PUT") + b"content-length: 3\r\n\r\nabc")
        try:
            assert caller.answer("PUT").body == b"abc"
        except h11.RemoteProtocolError:
            pytest.fail("no second attempt")
