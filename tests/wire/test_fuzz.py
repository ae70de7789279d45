"""Hostile requests through a real edge, judged by the bytes forwarded: by the invariant, by h11, and by llhttp.

`HYPOTHESIS_PROFILE=thorough` makes twenty thousand examples of the few hundred.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

import h11
import pytest
from hypothesis import HealthCheck, currently_in_test_context, given, note, settings
from hypothesis import strategies as st

from gatewayd.rfc.headers import connection_options, is_withheld
from gatewayd.rfc.host import check_host
from gatewayd.rfc.path import PathRules
from gatewayd.rfc.target import parse_target
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import WAIT
from tests.wire.hostile import SMUGGLED, cuts, hostile
from tests.wire.oracles import Message, Recorder, read_by_h11, read_by_llhttp

settings.register_profile(
    "edge", max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("edge-thorough", settings.get_profile("edge"), max_examples=20_000)
PROFILE = settings.get_profile("edge-thorough" if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else "edge")

OWN = {b"host", b"via", b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded",
       b"content-length", b"transfer-encoding", b"expect", b"connection", b"upgrade"}  # fmt: skip
"""What the gateway writes by itself."""


class House(NamedTuple):
    """An edge in front of an upstream that records."""

    up: Recorder
    edge: EdgeThread

    def send(self, wire: bytes, at: list[int]) -> bytes:
        """Send `wire`, cut at `at`, half-close, and return what comes back until the edge closes."""
        with socket.create_connection(("127.0.0.1", self.edge.port), timeout=WAIT) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = b""
            with contextlib.suppress(OSError):  # the edge may have closed already
                for begin, end in zip([0, *at], [*at, len(wire)], strict=True):
                    sock.sendall(wire[begin:end])
                sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while data := sock.recv(65536):
                    back += data
            return back


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with Recorder() as up:
        document = proxied(up.port)
        document["upstreams"]["up"] |= {"passive_health": {"enabled": False}, "breaker": {"enabled": False}}
        with EdgeThread(document) as edge:
            yield House(up, edge)


def read_replies(wire: bytes, house: House) -> list[int | None]:
    """The number of the recorded message that each reply in `wire` answers, as h11 reads them; None: our own answer."""
    found: list[int | None] = []
    while wire:
        head, _, rest = wire.partition(b"\r\n\r\n")
        mark = re.search(rb"\r\nx-message: ([0-9]+)\r\n", head)
        if mark is not None:
            method = house.up.messages[int(mark[1])][0].method
        else:
            method = b"GET" if rest[:1] == b"{" else b"HEAD"  # what the gateway answers itself is a problem document
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(wire)
        event = parser.next_event()
        assert isinstance(event, h11.Response), (event, wire)
        found.append(None if mark is None else int(mark[1]))
        while isinstance(event := parser.next_event(), h11.Data):
            pass
        assert isinstance(event, h11.EndOfMessage), (event, wire)
        wire = parser.trailing_data[0]
    return found


def expected(message: Message, raw: Message) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """What of `message`, as h11 read it from the caller, has to reach the target; `raw` is what did."""
    _, authority, path, query = parse_target(message.method, message.target, PathRules())
    assert authority is None or authority.split(b":")[0] == check_host(message.values(b"host")[0]).split(b":")[0]
    target = path if query is None else path + b"?" + query
    options = connection_options(message.values(b"connection")) if message.values(b"connection") else frozenset()
    fields = [(name, value) for name, value in message.headers if not is_withheld(name) and name not in options]
    if not fields and raw.values(b"accept") == [b"*/*"]:
        fields = [(b"accept", b"*/*")]
    return message.method, target, fields, message.body


def forwarded(message: Message) -> tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """What reached the target, less what the gateway adds by itself."""
    fields = [pair for pair in message.headers if pair[0] not in OWN]
    return message.method, message.target, fields, message.body


def judge(house: House, wire: bytes, at: list[int]) -> None:
    """Send `wire` and hold what was forwarded against every reading of it."""
    first = len(house.up.messages)
    back = house.send(wire, at)
    sent = house.up.messages[first:]
    read = read_by_h11(wire)
    if currently_in_test_context():
        note(f"back: {back!r}")
        note(f"forwarded: {[raw for _, raw in sent]}")
    assert house.up.flaws == []
    for message, raw in sent:
        assert read_by_h11(raw) == [message]
        assert read_by_llhttp(raw) == [message]
    whole = b"".join(raw for _, raw in sent)
    assert read_by_h11(whole) == read_by_llhttp(whole) == [message for message, _ in sent]
    replies = read_replies(back, house)
    assert [number for number in replies if number is not None] == list(range(first, first + len(sent)))
    for number, message in zip(replies, read, strict=False):  # what the gateway refuses is the last thing it reads
        if number is not None:
            kept = house.up.messages[number][0]
            assert forwarded(kept) == expected(message, kept)
            assert set(kept.trailers) <= set(message.trailers)


@PROFILE
@given(st.data())
def test_hostile_requests(house: House, data: st.DataObject) -> None:
    wire = data.draw(hostile())
    judge(house, wire, data.draw(cuts(wire)))


_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
_LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
_BEHIND = b"Content-Length: %d\r\n" % (len(b"0\r\n\r\n") + len(SMUGGLED))
_CHUNK = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "wire",
    [
        _HEAD + _BEHIND + _CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,  # CL.TE
        _HEAD + _CHUNKED + _BEHIND + b"\r\n0\r\n\r\n" + SMUGGLED,
        _HEAD + _CHUNKED + b"Content-Length: 4\r\n\r\n" + _CHUNK,  # TE.CL
        _HEAD + b"Content-Length: 4\r\n" + _CHUNKED + b"\r\n" + _CHUNK,
        _HEAD + _CHUNKED + b"Transfer-Encoding: x\r\n\r\n0\r\n\r\n" + SMUGGLED,  # TE.TE
        _HEAD + b"Transfer-Encoding: x\r\n" + _CHUNKED + b"Content-Length: 4\r\n\r\n" + _CHUNK,
        _HEAD + b"Transfer-Encoding:\x0bchunked\r\n" + _BEHIND + b"\r\n0\r\n\r\n" + SMUGGLED,
        _HEAD + b"Transfer_Encoding: chunked\r\n" + _BEHIND + b"\r\n0\r\n\r\n" + SMUGGLED,
        _HEAD + b"\r\n" + SMUGGLED,  # CL.0
        _HEAD + b"Content-Length: 0\r\n" + _LENGTH + b"\r\n" + SMUGGLED,
        _HEAD + _LENGTH + b"\r\n" + SMUGGLED,
        _HEAD + _LENGTH + b"Expect: 100-continue\r\n\r\n" + SMUGGLED,
        _HEAD + _LENGTH + b"Connection: Content-Length\r\n\r\n" + SMUGGLED,
        _HEAD + _CHUNKED + b"Connection: Transfer-Encoding\r\n\r\n0\r\n\r\n" + SMUGGLED,
        _HEAD + _CHUNKED + b"\r\n5;\nxx\r\nhello\r\n0\r\n\r\n" + SMUGGLED,  # a line feed in a chunk extension
        _HEAD + _CHUNKED + b"\r\n2\r\nxx%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),  # a chunk that spills over
        _HEAD + _CHUNKED + b"\r\n0\r\n" + _LENGTH + b"\r\n" + SMUGGLED,
        _HEAD + _CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + _LENGTH + b"\r\n" + SMUGGLED,
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n" + _CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + SMUGGLED,
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
        b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n" + SMUGGLED,
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
        SMUGGLED * 3,
    ],
)
@pytest.mark.parametrize("pieces", [1, 2, 1000])
def test_known_smuggling_attempts(house: House, wire: bytes, pieces: int) -> None:
    judge(house, wire, list(range(1, len(wire)))[:: max(1, len(wire) // pieces)] if pieces > 1 else [])
