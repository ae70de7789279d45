"""Replies to a caller: how each is framed, what becomes of the connection, and how one is broken off."""

from __future__ import annotations

import pytest

from gatewayd.core.exchange import UNKNOWN_LENGTH
from gatewayd.wire.replying import BODY, CLOSED, DISCARDED, HEAD, LINGER, WAIT
from tests.wire.one_caller import OneCaller

POST = "POST / HTTP/1.1"


@pytest.mark.parametrize(
    ("start", "status", "length", "first", "wire"),
    [
        ("GET / HTTP/1.1", 200, 2, b"ok", b"content-length: 2\r\n\r\nok"),
        ("GET / HTTP/1.1", 200, 0, b"", b"content-length: 0\r\n\r\n"),
        ("GET / HTTP/1.1", 200, UNKNOWN_LENGTH, b"ok", b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET / HTTP/1.1", 200, UNKNOWN_LENGTH, b"", b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("HEAD / HTTP/1.1", 200, 2, b"ok", b"content-length: 2\r\n\r\n"),
        ("HEAD / HTTP/1.1", 200, UNKNOWN_LENGTH, b"", b"\r\n"),
        ("GET / HTTP/1.1", 204, 0, b"", b"\r\n"),
        ("GET / HTTP/1.1", 204, 2, b"ok", b"\r\n"),
        ("GET / HTTP/1.1", 304, 2, b"", b"content-length: 2\r\n\r\n"),
        ("GET / HTTP/1.1", 304, UNKNOWN_LENGTH, b"", b"\r\n"),
    ],
)
def test_how_a_reply_is_framed(start: str, status: int, length: int, first: bytes, wire: bytes) -> None:
    caller = OneCaller()
    caller.ask(start=start)
    caller.reply(status, length, first)
    written = caller.taken()
    assert written.startswith(b"HTTP/1.1 %d " % status)
    assert written.partition(b"\r\n")[2] == wire
    assert caller.connection.phase == HEAD
    assert [each.status for each in caller.ended] == [0]
    assert caller.exchange.body_sent == (2 if b"\nok" in wire else 0)


@pytest.mark.parametrize(
    ("start", "lines", "length", "kept", "line"),
    [
        ("GET / HTTP/1.1", [], 2, True, b""),
        ("GET / HTTP/1.1", ["connection: close"], 2, False, b"connection: close\r\n"),
        ("GET / HTTP/1.0", [], 2, False, b"connection: close\r\n"),
        ("GET / HTTP/1.0", ["connection: keep-alive"], 2, True, b"connection: keep-alive\r\n"),
        ("GET / HTTP/1.0", ["connection: keep-alive"], UNKNOWN_LENGTH, False, b"connection: close\r\n"),
    ],
)
def test_when_a_connection_is_kept(start: str, lines: list[str], length: int, kept: bool, line: bytes) -> None:
    caller = OneCaller()
    caller.ask(*lines, start=start)
    caller.reply(length=length)
    head = caller.taken().partition(b"\r\n\r\n")[0] + b"\r\n"
    assert (b"connection: " in head) is bool(line)
    assert line in head
    assert b"transfer-encoding" not in head
    assert (caller.transport.fate == "") is kept


def test_a_drain_ends_connections_with_their_next_reply() -> None:
    caller = OneCaller()
    caller.ask()
    caller.state.draining = True
    caller.reply()
    assert b"connection: close\r\n" in caller.taken()
    assert caller.transport.fate == "closed"


def test_the_last_request_of_a_connection_is_told_so() -> None:
    caller = OneCaller()
    caller.state.settings.limits = type(caller.state.settings.limits)(requests_per_connection=2)
    caller.ask()
    caller.reply()
    assert b"connection" not in caller.taken()
    caller.ask()
    caller.reply()
    assert b"connection: close\r\n" in caller.taken()


def test_a_body_goes_out_piece_by_piece_and_its_trailers_last() -> None:
    caller = OneCaller()
    caller.ask()
    caller.connection.start_reply(200, [(b"a", b"b")], UNKNOWN_LENGTH, b"")
    assert caller.taken() == b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
    for _ in range(2):
        caller.connection.send_body(b"hello")
        assert caller.taken() == b"5\r\nhello\r\n"
    caller.connection.end_reply([(b"x-sum", b"1")])
    assert caller.taken() == b"0\r\nx-sum: 1\r\n\r\n"
    assert caller.exchange.body_sent == 10
    assert caller.ended == [caller.exchange]


def test_a_body_to_head_is_not_sent() -> None:
    caller = OneCaller()
    caller.ask(start="HEAD / HTTP/1.1")
    caller.connection.start_reply(200, [], 10)
    caller.taken()
    caller.connection.send_body(b"helloworld")
    caller.connection.end_reply([])
    assert (caller.taken(), caller.exchange.body_sent) == (b"", 0)


def test_interim_replies_come_before_the_reply_and_only_to_http_1_1() -> None:
    caller = OneCaller()
    caller.ask("expect: 100-continue", "content-length: 2", start=POST)
    caller.connection.inform(103, [(b"link", b"</a>")])
    assert caller.taken() == b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    caller.connection.inform(100, [])
    assert not caller.exchange.expects_continue
    caller.taken()
    caller.connection.start_reply(200, [], 2)
    caller.taken()
    caller.connection.inform(102, [])
    assert caller.taken() == b""
    caller = OneCaller()
    caller.ask(start="GET / HTTP/1.0")
    caller.connection.inform(103, [])
    assert caller.taken() == b""


@pytest.mark.parametrize(
    ("framing", "kept"),
    [
        (["content-length: 10"], True),
        ([f"content-length: {DISCARDED}"], True),
        ([f"content-length: {DISCARDED + 1}"], False),
        (["transfer-encoding: chunked"], False),
        (["content-length: 10", "expect: 100-continue"], False),
    ],
)
def test_an_early_reply_keeps_the_connection_where_little_is_left_to_read(framing: list[str], kept: bool) -> None:
    caller = OneCaller()
    caller.ask(*framing, start=POST)
    caller.reply(413)
    assert (b"connection: close" in caller.taken()) is not kept
    assert caller.connection.phase == (BODY if kept else LINGER)
    assert caller.transport.ended is not kept
    if kept and framing == ["content-length: 10"]:
        caller.connection.data_received(b"helloworldGET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert len(caller.begun) == 2


def test_a_lingering_connection_reads_and_forgets_and_logs_once() -> None:
    caller = OneCaller()
    caller.ask("content-length: 1000000", start=POST)
    caller.reply(413)
    caller.connection.data_received(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    caller.connection.connection_lost(None)
    assert len(caller.begun) == len(caller.ended) == 1


def test_a_reply_broken_off_is_logged_once_and_says_no_more() -> None:
    caller = OneCaller()
    caller.ask()
    caller.connection.read_body(caller.sink)
    caller.connection.start_reply(200, [], 10, b"hel")
    caller.taken()
    caller.connection.abort()
    assert caller.transport.fate == "aborted"
    assert caller.sink.heard == ["gone"]
    caller.connection.send_body(b"lo")
    caller.connection.end_reply([])
    caller.connection.connection_lost(None)
    assert caller.taken() == b""
    assert caller.ended == [caller.exchange]
    assert caller.connection.phase == CLOSED


def test_nothing_is_said_to_who_has_gone() -> None:
    caller = OneCaller()
    exchange = caller.ask()
    caller.connection.connection_lost(ConnectionResetError())
    caller.transport.fate = "closed"
    caller.connection.inform(103, [])
    caller.reply()
    assert (exchange.status, exchange.reason) == (499, "caller_gone")
    assert caller.ended == [exchange]


def test_a_switch_hands_over_the_transport_and_what_came_behind_the_request() -> None:
    caller = OneCaller()
    caller.ask("connection: upgrade", "upgrade: echo", body=b"early")
    transport, early = caller.connection.upgrade([(b"a", b"b")], b"echo")
    assert (transport, early) == (caller.transport, b"early")
    assert caller.taken() == (
        b"HTTP/1.1 101 Switching Protocols\r\na: b\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
    )
    assert caller.connection.phase == WAIT
    caller.connection.tunnel_closed()
    assert caller.ended == [caller.exchange]
