"""Hostile replies through a real edge: what a caller reads is what h11 reads from the target, or no success at all."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import h11
import httptools
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from gatewayd.rfc.headers import WITHHELD_FROM_REPLIES
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import WAIT
from tests.support.upstream import Peer, ScriptedUpstream
from tests.wire.hostile import damaged

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"

_starts = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 X",
     b"HTTP/1.1 404", b"HTTP/1.1 599 \xff", b"HTTP/1.1 100 Continue",
     b"HTTP/1.1 103 Hints\r\na: b\r\n\r\nHTTP/1.1 200 OK", b"HTTP/2.0 200 OK",
     b"HTTP/1.1 200\tOK", b"HTTP/1.1  200 OK", b"HTTP/1.1 2000", b"HTTP/1.1 101 X"]
)  # fmt: skip
_framings = st.sampled_from(
    [b"content-length: 5", b"Content-Length:5", b"content-length: 0", b"content-length: 3", b"content-length: 9",
     b"content-length: 5, 5", b"content-length: +5", b"content-length: 5\r\ncontent-length: 5", b"content-length : 5",
     b"content-length: 5\r\ncontent-length: 6", b"content-length:", b"Content-Length: 0x5",
     b"transfer-encoding: chunked", b"Transfer-Encoding: Chunked", b"transfer-encoding: gzip, chunked",
     b"transfer-encoding: identity", b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", b"transfer-encoding:",
     b"transfer-encoding : chunked", b"transfer-encoding: chunked\r\ncontent-length: 5", b" transfer-encoding: chunked"]
)  # fmt: skip
_fields = st.sampled_from(
    [b"a: b", b"a:b", b"A:  b  ", b"a:", b"Connection: close", b"Connection: keep-alive", b"Connection: a",
     b"Trailer: x", b"Date: Mon, 01 Jan 2024 00:00:00 GMT", b"a: b\r\n c", b"a: \x00", b"a: \xe4", b"a b: c",
     b": c", b"no colon",
     b"set-cookie: a=b", b"Set-Cookie: c=d", b"a: b\rc", b"a: b\nd: e", b"X-Request-Id: 1", b"Via: 1.1 x"]
)  # fmt: skip
_bodies = st.sampled_from(
    [b"", b"hello", b"hel", b"hello!", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", b"5\r\nhel",
     b"5\r\nhello\r\n", b"0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5;a\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n",
     b"z\r\n", b"5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
     b"helloHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno"]
)  # fmt: skip
_replies = st.builds(
    lambda start, framings, fields, body: b"\r\n".join([start, *framings, *fields, b"", body]),
    st.one_of(st.just(b"HTTP/1.1 200 OK"), _starts),
    st.one_of(
        st.just([b"content-length: 5"]), st.just([b"transfer-encoding: chunked"]), st.lists(_framings, max_size=2)
    ),
    st.one_of(st.just([b"a: b"]), st.lists(_fields, max_size=2)),
    _bodies,
)


@dataclass
class Reply:
    """A reply as somebody reads it; `complete`, or broken off."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False


def read_by_h11(wire: bytes, method: str) -> Reply | None:
    """The final reply in `wire`, behind which the connection was closed; None if it breaks the rules."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=64 * 1024)
    parser.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(wire)
    parser.receive_data(b"")
    reply = Reply()
    try:
        while True:
            event: Any = parser.next_event()
            if isinstance(event, h11.Response):
                fields = [(bytes(name), bytes(value)) for name, value in event.headers]
                reply.status, reply.headers = event.status_code, fields
            elif isinstance(event, h11.Data):
                reply.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                reply.complete = True
                return reply
            elif not isinstance(event, h11.InformationalResponse):
                return reply if reply.status else None
    except h11.RemoteProtocolError as error:
        broken_off = "closed" in str(error) or "incomplete" in str(error)
        return reply if reply.status and broken_off else None


class _Llhttp:
    def __init__(self) -> None:
        self.reply = Reply()
        self.parser = httptools.HttpResponseParser(self)

    def on_status(self, _: bytes) -> None:
        self.reply = Reply(self.parser.get_status_code())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.reply.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.reply.status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.reply.body += data

    def on_message_complete(self) -> None:
        self.reply.complete = True


class House:
    """An edge in front of an upstream that answers with `reply`, and closes."""

    def __init__(self) -> None:
        self.reply = b""
        self.up = ScriptedUpstream(self.script)

    def script(self, peer: Peer) -> None:
        if peer.read_head():
            peer.send(self.reply)

    def ask(self, port: int, method: str) -> tuple[bytes, bool]:
        """What the caller gets until the connection ends, and whether that was by a reset."""
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as sock:
            sock.sendall(f"{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".encode())
            back = b""
            with contextlib.suppress(ConnectionResetError):
                while data := sock.recv(65536):
                    back += data
                return back, False
            return back, True


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[House, EdgeThread]]:
    house = House()
    with house.up:
        document = proxied(house.up.port, retries={"attempts": 0})
        document["upstreams"]["up"] |= {"passive_health": {"enabled": False}, "breaker": {"enabled": False}}
        with EdgeThread(document) as edge:
            yield house, edge


def passed(reply: Reply) -> list[tuple[bytes, bytes]]:
    """The fields of a reply that go on to the caller."""
    named = {name.strip().lower() for key, value in reply.headers if key == b"connection" for name in value.split(b",")}
    kept = {b"set-cookie"}
    return [
        pair
        for pair in reply.headers
        if pair[0] not in WITHHELD_FROM_REPLIES and (pair[0] not in named or pair[0] in kept) and pair[0] != b"date"
    ]


def announced(reply: Reply) -> list[bytes]:
    """What a reply says its length is; nothing where its body is chunked."""
    chunked = any(name == b"transfer-encoding" for name, _ in reply.headers)
    return [] if chunked else [value.lstrip(b"0") for name, value in reply.headers if name == b"content-length"]


@settings(
    max_examples=20_000 if THOROUGH else 300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.one_of(_replies, damaged(_replies)), st.sampled_from(["GET", "GET", "HEAD"]))
def test_hostile_replies(house: tuple[House, EdgeThread], wire: bytes, method: str) -> None:
    scene, edge = house
    scene.reply = wire
    back, reset = scene.ask(edge.port, method)
    note(f"back: {back!r}, {reset=}")
    got, said = read_by_h11(back, method), read_by_h11(wire, method)
    if got is not None and got.status == 502 and (b"content-type", b"application/problem+json") in got.headers:
        assert not reset
        return
    if reset or got is None or not got.complete:
        assert reset, "an incomplete reply does not end like a complete one"
        assert said is None or not said.complete
        return
    if method == "GET":
        llhttp = _Llhttp()
        llhttp.parser.feed_data(back)
        assert (llhttp.reply.status, llhttp.reply.body, llhttp.reply.complete) == (got.status, got.body, True)
    if said is not None:
        assert said.complete, "more than the target said"
        assert (got.status, got.body) == (said.status, said.body)
        if got.status == 304 or (method == "HEAD" and got.status != 204):
            assert announced(got) == announced(said), "the length of what is not sent is made up"
        ours = [pair for pair in passed(got) if pair[0] != b"via"]
        assert ours == [pair for pair in passed(said) if pair[0] != b"via"]
