from __future__ import annotations

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatewayd.core.exchange import UNKNOWN_LENGTH
from gatewayd.errors import RequestError, UpstreamError
from gatewayd.wire.heads import read_reply_head, read_request_head


def request(*lines: bytes, start: bytes = b"GET /a HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: a", *lines, b"", b""])


def test_a_head_is_taken_apart_and_what_must_not_go_on_is_withheld() -> None:
    head = read_request_head(request(b"X-A:  v \t", b"Connection: close", b"X_A: twin", b"Accept: */*"), 100)
    assert head.method == b"GET"
    assert head.target == b"/a"
    assert head.http_version == b"1.1"
    assert head.headers == [(b"x-a", b"v"), (b"accept", b"*/*")]
    assert head.withheld == [(b"host", b"a"), (b"connection", b"close"), (b"x_a", b"twin")]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(start=b"GET  /a HTTP/1.1"), 400),  # two spaces
        (request(start=b"GET /a  HTTP/1.1"), 400),
        (request(start=b"GET\t/a HTTP/1.1"), 400),
        (request(start=b"GET /a"), 400),  # HTTP/0.9
        (request(start=b"GET /a HTTP/1.2"), 400),
        (request(start=b"GET /a HTTP/2.0"), 505),
        (request(start=b"GET /a HTTP/01.1"), 400),
        (request(start=b"GET /a http/1.1"), 400),
        (request(start=b"GET /a RTSP/1.0"), 400),
        (request(start=b"get /a HTTP/1.1"), 400),
        (request(start=b"BREW /a HTTP/1.1"), 501),
        (request(start=b"BR EW /a HTTP/1.1"), 501),
        (request(start=b"PRI * HTTP/2.0"), 400),
        (request(b"X-A: a\r\n b"), 400),  # obs-fold
        (request(b"X-A : a"), 400),
        (request(b": a"), 400),
        (request(b"X-A: a\x00b"), 400),
        (request(b"X-A: a\x07b"), 400),
        (request(b"X-A: a\rb"), 400),
        (request(b"X-A: a\nX-B: b"), 400),
        (request(b"X\xe4: a"), 400),
        (request(b"X A: a"), 400),
        (request(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
        (request(b"Content-Length: 5", b"Content-Length: 5"), 400),
        (request(b"Content-Length: 5, 5"), 400),
        (request(b"Content-Length: +5"), 400),
        (request(b"Content-Length: 99999999999999999999"), 400),
        (request(b"Transfer-Encoding:"), 400),
        (request(b"Transfer-Encoding: xchunked"), 400),
        (request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        (request(*[b"X-A: a"] * 100), 431),
    ],
)
def test_malformed_heads_are_refused(head: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        read_request_head(head, 100)
    assert caught.value.status == status
    assert caught.value.close


_name = st.text("abcXYZ-_09:; \t", min_size=0, max_size=8).map(str.encode)
_value = st.binary(max_size=12)
_line = st.one_of(
    st.tuples(_name, _value).map(b": ".join),
    st.sampled_from(
        [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: x-a", b"X-A: 1", b"Host: b", b" folded", b"\tx"]
    ),
)


@given(st.lists(_line, max_size=4), st.sampled_from([b"GET", b"POST", b"OPTIONS"]), st.sampled_from([b"/", b"/a?b", b"*"]))
@example([b"X-A: a\x80"], b"GET", b"/")
def test_h11_and_we_read_the_same_head_or_one_of_us_refuses(lines: list[bytes], method: bytes, target: bytes) -> None:
    wire = request(*lines, start=b"%b %b HTTP/1.1" % (method, target))
    wire = wire[: wire.index(b"\r\n\r\n") + 4]
    try:
        ours = read_request_head(wire, 100)
    except RequestError:
        return
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(wire)
    try:
        theirs = parser.next_event()
    except h11.RemoteProtocolError:
        return
    assert isinstance(theirs, h11.Request)
    assert (theirs.method, theirs.target) == (ours.method, ours.target)
    assert sorted(theirs.headers) == sorted(ours.headers + ours.withheld)


def reply(*lines: bytes, status: bytes = b"200 OK", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([version + b" " + status, *lines, b"", b""])


@pytest.mark.parametrize(
    ("head", "method", "length", "chunked", "keep_alive"),
    [
        (reply(b"Content-Length: 3"), b"GET", 3, False, True),
        (reply(b"Transfer-Encoding: Chunked"), b"GET", UNKNOWN_LENGTH, True, True),
        (reply(), b"GET", UNKNOWN_LENGTH, False, False),
        (reply(), b"HEAD", UNKNOWN_LENGTH, False, True),
        (reply(status=b"304 Not Modified"), b"GET", UNKNOWN_LENGTH, False, True),
        (reply(status=b"204 No Content"), b"GET", UNKNOWN_LENGTH, False, True),
        (reply(b"Content-Length: 3", b"Connection: close"), b"GET", 3, False, False),
        (reply(b"Content-Length: 3", version=b"HTTP/1.0"), b"GET", 3, False, False),
        (reply(b"Content-Length: 3", b"Connection: Keep-Alive", version=b"HTTP/1.0"), b"GET", 3, False, True),
    ],
)
def test_framing_of_replies(head: bytes, method: bytes, length: int, chunked: bool, keep_alive: bool) -> None:
    read = read_reply_head(head, method, 100)
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
        read_reply_head(head, b"GET", 100)
    assert (caught.value.status, caught.value.retry) == (502, "never")


def test_a_reply_has_one_date_and_loses_what_its_connection_names() -> None:
    read = read_reply_head(reply(b"Connection: X-Hop, close", b"X-Hop: 1", b"X-End: 2"), b"GET", 100)
    assert [name for name, _ in read.headers] == [b"x-end", b"date"]
    dated = read_reply_head(reply(b"Date: Mon, 01 Jan 2024 00:00:00 GMT", b"Content-Length: 0"), b"GET", 100)
    assert dated.headers == [(b"date", b"Mon, 01 Jan 2024 00:00:00 GMT")]
