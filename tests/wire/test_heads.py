from __future__ import annotations

import pytest

from gatewayd.core.exchange import UNKNOWN_LENGTH
from gatewayd.errors import UpstreamError
from gatewayd.wire.heads import ReplyHead, read_reply_head


def reply(*lines: bytes, status: bytes = b"200 OK", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([version + b" " + status, *lines, b"", b""])


def parsed(head: bytes, method: bytes, max_headers: int) -> ReplyHead:
    return read_reply_head(head.removesuffix(b"\r\n\r\n"), method, max_headers)


@pytest.mark.parametrize(
    ("head", "method", "length", "chunked", "keep_alive"),
    [
        (reply(b"Content-Length: 3"), b"GET", 3, False, True),
        (reply(b"Transfer-Encoding: Chunked"), b"GET", UNKNOWN_LENGTH, True, True),
        (reply(), b"GET", UNKNOWN_LENGTH, False, False),
        (reply(b"Transfer-Encoding: identity"), b"GET", UNKNOWN_LENGTH, False, False),
        (reply(b"Transfer-Encoding: identity"), b"HEAD", UNKNOWN_LENGTH, False, False),
        (reply(), b"HEAD", UNKNOWN_LENGTH, False, True),
        (reply(status=b"304 Not Modified"), b"GET", UNKNOWN_LENGTH, False, True),
        (reply(status=b"204 No Content"), b"GET", UNKNOWN_LENGTH, False, True),
        (reply(b"Content-Length: 3", b"Connection: close"), b"GET", 3, False, False),
        (reply(b"Content-Length: 3", version=b"HTTP/1.0"), b"GET", 3, False, False),
        (reply(b"Content-Length: 3", b"Connection: Keep-Alive", version=b"HTTP/1.0"), b"GET", 3, False, True),
    ],
)
def test_framing_of_replies(head: bytes, method: bytes, length: int, chunked: bool, keep_alive: bool) -> None:
    read = parsed(head, method, 100)
    assert (read.length, read.chunked, read.keep_alive) == (length, chunked, keep_alive)


@pytest.mark.parametrize(
    "head",
    [
        reply(b"Content-Length: 3", b"Content-Length: 3"),
        reply(b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        reply(b"Transfer-Encoding: gzip, chunked"),
        reply(b"Transfer-Encoding: gzip"),
        reply(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"),
        reply(b"Content-Length: -3"),
        reply(b"X-A: a\r\n b"),
        reply(b"X-A: a\x00"),
        reply(status=b"99 Low"),
        reply(status=b"600 High"),
        reply(status=b"2000 Long"),
        reply(version=b"HTTP/2.0"),
        reply(version=b"ICY"),
        reply(*[b"X-A: a"] * 101),
    ],
)
def test_ambiguous_or_broken_replies_are_refused(head: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        parsed(head, b"GET", 100)
    assert (caught.value.status, caught.value.retry) == (502, "never")


def test_a_reply_has_one_date_and_loses_what_its_connection_names() -> None:
    read = parsed(reply(b"Connection: X-Hop, close", b"X-Hop: 1", b"X-End: 2"), b"GET", 100)
    assert [name for name, _ in read.headers] == [b"x-end", b"date"]
    dated = parsed(reply(b"Date: Mon, 01 Jan 2024 00:00:00 GMT", b"Content-Length: 0"), b"GET", 100)
    assert dated.headers == [(b"date", b"Mon, 01 Jan 2024 00:00:00 GMT")]
