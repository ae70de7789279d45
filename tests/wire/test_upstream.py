"""A target's connection, without sockets: what is read from a reply however it is cut, and when it is kept."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.exchange import Headers
from gatewayd.errors import UpstreamError
from gatewayd.wire.heads import ReplyHead
from gatewayd.wire.outbox import Outbox
from gatewayd.wire.upstream import MAX_INTERIM, UpstreamConnection
from tests.wire.transports import FakeTransport, PromptOutbox

OK = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\na: b\r\n\r\n"


class Recorded:
    """A `wire.upstream.Receiver` that writes down what it hears."""

    def __init__(self) -> None:
        self.informed: list[int] = []
        self.head: ReplyHead | None = None
        self.body = b""
        self.trailers: Headers | None = None  # of a complete reply
        self.tunnelled: bytes | None = None
        self.error: UpstreamError | None = None
        self.paused = False

    def reply_informs(self, status: int, headers: Headers) -> None:
        self.informed.append(status)

    def reply_head(self, head: ReplyHead, first: bytes, complete: bool) -> None:
        assert self.head is None
        self.head, self.body = head, first
        if complete:
            self.reply_end([])

    def reply_body(self, data: bytes) -> None:
        assert data
        assert self.trailers is None
        self.body += data

    def reply_end(self, trailers: Headers) -> None:
        assert self.trailers is None
        self.trailers = trailers

    def reply_upgrade(self, head: ReplyHead, rest: bytes) -> None:
        self.head, self.tunnelled = head, rest

    def reply_failed(self, error: UpstreamError) -> None:
        assert self.error is None
        self.error = error

    def pause_request(self) -> None:
        self.paused = True

    def resume_request(self) -> None:
        self.paused = False


class Scene:
    """A connection that has sent one request."""

    def __init__(self, method: bytes = b"GET", ended: bool = True, **limits: int) -> None:
        self.freed: list[UpstreamConnection] = []
        self.lost: list[UpstreamConnection] = []
        self.connection = UpstreamConnection(self.freed.append, self.lost.append, **limits, outbox=PromptOutbox())
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)
        self.heard = Recorded()
        self.ask(method, ended)

    def ask(self, method: bytes = b"GET", ended: bool = True) -> Recorded:
        """Send a request; what is heard of it."""
        self.heard = Recorded()
        self.connection.send_request(b"request", self.heard, method, ended)
        return self.heard

    def feed(self, wire: bytes, *cuts: int) -> Recorded:
        """Receive `wire`, cut into pieces, as far as anybody listens."""
        for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            if not self.connection.closed and begin < end:
                self.connection.data_received(wire[begin:end])
        return self.heard

    @property
    def kept(self) -> bool:
        """The connection went back to its pool and is open."""
        assert self.connection.closed == (self.transport.fate != "") == bool(self.lost)
        return bool(self.freed) and not self.lost


@pytest.mark.parametrize(
    ("wire", "method", "status", "body", "kept"),
    [
        (OK + b"content-length: 5\r\n\r\nhello", b"GET", 200, b"hello", True),
        (OK + b"content-length: 0\r\n\r\n", b"GET", 200, b"", True),
        (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n", b"GET", 200, b"hello", True),
        (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"GET", 200, b"", True),
        (OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello", b"GET", 200, b"hello", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"GET", 200, b"hello", False),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", b"GET", 200, b"hello", True),
        (OK + b"content-length: 5\r\n\r\n", b"HEAD", 200, b"", True),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"HEAD", 200, b"", True),
        (OK + b"\r\n", b"HEAD", 200, b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"GET", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b"GET", 304, b"", True),
        (INTERIM + OK + b"content-length: 2\r\n\r\nok", b"GET", 200, b"ok", True),
        (OK + b"content-length: 5\r\n\r\nhello!", b"GET", 200, b"hello", False),
        (OK + b"content-length: 0\r\n\r\n!", b"GET", 200, b"", False),
        (OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n!", b"GET", 200, b"", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n!", b"GET", 204, b"", False),
        (OK + b"content-length: 5\r\n\r\nhello", b"HEAD", 200, b"", False),
    ],
)  # fmt: skip
@given(st.data())
def test_a_reply_is_read_alike_however_it_is_cut(
    wire: bytes, method: bytes, status: int, body: bytes, kept: bool, data: st.DataObject
) -> None:
    scene = Scene(method)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    heard = scene.feed(wire, *cuts)
    assert heard.error is None
    assert heard.head is not None
    assert (heard.head.status, heard.body, heard.trailers) == (status, body, [])
    assert scene.kept is kept


def test_trailers_follow_the_body() -> None:
    scene = Scene()
    heard = scene.feed(OK + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n")
    assert (heard.body, heard.trailers) == (b"ok", [(b"x-sum", b"1")])
    assert scene.kept


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    scene = Scene()
    heard = scene.feed(OK + b"\r\nhel", len(OK) + 3)
    scene.connection.data_received(b"lo")
    assert heard.trailers is None
    assert scene.connection.eof_received() is False
    assert (heard.body, heard.trailers) == (b"hello", [])
    assert not scene.kept


@pytest.mark.parametrize("end", ["reset", "cut"])
def test_a_body_without_a_length_is_incomplete_unless_the_target_ended_it(end: str) -> None:
    scene = Scene()
    heard = scene.feed(OK + b"\r\nhello")
    scene.connection.connection_lost(ConnectionResetError() if end == "reset" else None)
    assert heard.trailers is None
    assert heard.error is not None
    assert (heard.error.reason, heard.error.retry) == ("closed_in_reply", "never")


@pytest.mark.parametrize(
    ("wire", "reason", "retry"),
    [
        (b"", "closed_before_reply", "idempotent"),
        (b"HTTP/1.1 2", "closed_in_reply", "never"),
        (OK + b"content-length: 5\r\n\r\nhel", "closed_in_reply", "never"),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "closed_in_reply", "never"),
    ],
)
@pytest.mark.parametrize("reset", [False, True])
def test_an_early_end(wire: bytes, reason: str, retry: str, reset: bool) -> None:
    scene = Scene()
    heard = scene.feed(wire)
    if reset:
        scene.connection.connection_lost(ConnectionResetError())
    else:
        scene.connection.eof_received()
        scene.connection.connection_lost(None)
    assert heard.error is not None
    assert (heard.error.status, heard.error.reason, heard.error.retry) == (502, reason, retry)
    assert scene.lost == [scene.connection]


@pytest.mark.parametrize(
    "wire",
    [b"H", b"HTTP/1.", b"HTTP/1.1 200 OK\r", OK, OK + b"content-le", OK + b"a: b\r\n\r"],
)  # fmt: skip
def test_the_beginning_of_a_head_is_waited_for(wire: bytes) -> None:
    scene = Scene()
    heard = scene.feed(wire)
    assert (heard.error, heard.head) == (None, None)


@pytest.mark.parametrize("wire", [b"X", b"HTTP/2", b"http/1.1", b"\r\n", b"HTTP/1.1 200\n", b"HTTP/1.1 200\rX", b" "])
def test_what_cannot_become_a_head_is_not(wire: bytes) -> None:
    scene = Scene()
    heard = scene.feed(wire)
    assert heard.error is not None
    assert heard.error.reason == "malformed_reply"
    assert not scene.kept


def test_limits_of_heads() -> None:
    for wire, limits in (
        (OK + b"a: " + b"b" * 100, {"max_head": 100}),
        (OK + b"a: " + b"b" * 100 + b"\r\n\r\n", {"max_head": 100}),
        (OK + b"a: b\r\n" * 5 + b"\r\n", {"max_headers": 5}),
    ):
        scene = Scene(**limits)
        heard = scene.feed(wire)
        assert heard.error is not None
        assert heard.error.reason in ("reply_head_too_large", "malformed_reply")


def test_interim_replies_are_passed_on_up_to_a_number() -> None:
    scene = Scene()
    scene.feed(b"HTTP/1.1 102 X\r\n\r\n" * MAX_INTERIM)
    assert scene.heard.informed == [102] * MAX_INTERIM
    assert scene.heard.error is None
    scene.feed(b"HTTP/1.1 102 X\r\n\r\n")
    assert scene.heard.error is not None


def test_a_switch_hands_the_rest_over_and_nothing_more_is_read() -> None:
    scene = Scene()
    heard = scene.feed(b"HTTP/1.1 101 X\r\nupgrade: echo\r\n\r\nrest")
    assert heard.tunnelled == b"rest"
    assert (scene.freed, scene.lost, scene.transport.fate) == ([], [], "")


def test_a_reply_to_half_a_request_is_passed_on_but_the_connection_is_not_kept() -> None:
    scene = Scene(b"POST", ended=False)
    heard = scene.feed(b"HTTP/1.1 413 X\r\ncontent-length: 2\r\n\r\nno")
    assert heard.body == b"no"
    assert not scene.kept


def test_a_body_is_sent_in_chunks_or_as_it_is() -> None:
    scene = Scene(b"POST", ended=False)
    scene.connection.send_body(b"hello", True)
    scene.connection.end_request([(b"x-sum", b"1")], True)
    assert scene.transport.written == b"request5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"
    scene = Scene(b"POST", ended=False)
    scene.connection.send_body(b"hello", False)
    scene.connection.end_request([], False)
    assert scene.transport.written == b"requesthello"
    scene.feed(OK + b"content-length: 0\r\n\r\n")
    assert scene.kept


def test_nothing_is_sent_on_a_closed_connection() -> None:
    scene = Scene(b"POST", ended=False)
    scene.connection.drop()
    scene.connection.send_body(b"hello", True)
    scene.connection.end_request([], True)
    assert scene.transport.written == b"request"
    assert scene.lost == [scene.connection]


def test_bytes_between_two_requests_close_the_connection() -> None:
    scene = Scene()
    scene.feed(OK + b"content-length: 0\r\n\r\n")
    assert scene.kept
    scene.connection.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert scene.lost == [scene.connection]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_bytes_from_before_the_request_was_written_are_no_reply_to_it(method: bytes) -> None:
    async def test() -> None:
        outbox = Outbox()
        lost: list[UpstreamConnection] = []
        connection = UpstreamConnection(lambda _: None, lost.append, outbox=outbox)
        transport = FakeTransport()
        connection.connection_made(transport)
        heard = Recorded()
        connection.send_request(b"request", heard, method, True)
        connection.data_received(OK + b"content-length: 5\r\n\r\nstale")
        assert heard.head is None
        assert heard.error is not None
        assert (heard.error.status, heard.error.retry) == (502, "always")
        await asyncio.sleep(0)
        assert (transport.written, lost) == (b"", [connection])

    asyncio.run(test())


def test_one_connection_serves_many() -> None:
    scene = Scene()
    for count in range(1, 4):
        heard = scene.feed(OK + b"content-length: 1\r\n\r\n%d" % count)
        assert heard.body == b"%d" % count
        assert scene.connection.served == count
        scene.ask()
    assert len(scene.freed) == 3


def test_a_paused_reply_is_read_again_before_the_connection_serves_another() -> None:
    scene = Scene()
    scene.feed(OK + b"content-length: 5\r\n\r\nhel")
    scene.connection.pause_reply()
    assert not scene.transport.reading
    scene.connection.data_received(b"lo")  # was in the loop's hands already
    assert scene.kept
    assert scene.transport.reading


def test_back_pressure_of_the_target_reaches_who_sends() -> None:
    scene = Scene(b"POST", ended=False)
    scene.connection.pause_writing()
    assert scene.heard.paused
    scene.connection.resume_writing()
    assert not scene.heard.paused
    scene.connection.drop()
    scene.connection.pause_writing()
    assert not scene.heard.paused


def test_who_drops_a_connection_hears_no_more_of_it() -> None:
    scene = Scene()
    scene.feed(OK + b"content-length: 5\r\n\r\nhel")
    scene.connection.drop()
    scene.connection.data_received(b"lo")
    scene.connection.connection_lost(None)
    assert (scene.heard.error, scene.heard.trailers) == (None, None)
    assert scene.lost == [scene.connection]


def test_a_close_that_waits_in_the_kernel_can_be_seen() -> None:
    near, far = socket.socketpair()
    with near, far:
        connection = UpstreamConnection(lambda _: None, lambda _: None)
        connection.connection_made(FakeTransport(socket=near))
        assert not connection.readable()
        far.send(b"x")
        assert connection.readable()
    assert "served=0 open" in repr(connection)


def test_a_connection_that_was_never_used_can_be_thrown_away() -> None:
    lost: list[Any] = []
    connection = UpstreamConnection(lost.append, lost.append)
    transport = FakeTransport()
    connection.connection_made(transport)
    connection.discard()
    connection.connection_lost(None)
    assert (transport.fate, lost) == ("aborted", [])
