from __future__ import annotations

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange
from gatewayd.errors import RequestError
from gatewayd.rfc.path import PathRules
from gatewayd.wire.request import LastLines, read_request


def read(head: bytes) -> tuple[Exchange, bool]:
    exchange = Exchange()
    return exchange, read_request(exchange, head, LastLines(), PathRules(), 100, 8192)


def request(*lines: bytes, start: bytes = b"GET /a HTTP/1.1") -> bytes:
    return b"\r\n".join([start, b"Host: a", *lines, b"", b""])


def test_a_head_is_taken_apart_and_what_must_not_go_on_is_withheld() -> None:
    head, keep_alive = read(request(b"X-A:  v \t", b"Connection: close", b"X_A: twin", b"Accept: */*"))
    assert (head.method, head.path, head.query, head.http_version) == (b"GET", b"/a", None, b"1.1")
    assert not keep_alive
    assert head.headers == [(b"x-a", b"v"), (b"accept", b"*/*")]
    assert head.withheld == [(b"host", b"a"), (b"connection", b"close"), (b"x_a", b"twin")]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(start=b"GET  /a HTTP/1.1"), 400),  # two spaces
        (request(start=b"GET /a  HTTP/1.1"), 400),
        (request(start=b"GET\t/a HTTP/1.1"), 400),
        (request(start=b"GET /a"), 400),  # HTTP/0.9
        (request(start=b"GET /a HTTP/1.2"), 505),
        (request(start=b"GET /a HTTP/2.0"), 505),
        (request(start=b"GET /a HTTP/01.1"), 400),
        (request(start=b"GET /a http/1.1"), 400),
        (request(start=b"GET /a RTSP/1.0"), 400),
        (request(start=b"get /a HTTP/1.1"), 400),
        (request(start=b"BREW /a HTTP/1.1"), 501),
        (request(start=b"BR EW /a HTTP/1.1"), 400),
        (request(start=b"PRI * HTTP/2.0"), 505),
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
        read(head)
    assert caught.value.status == status
    assert caught.value.close


_name = st.text("abcXYZ-_09:; \t", min_size=0, max_size=8).map(str.encode)
_value = st.binary(max_size=12)
_line = st.one_of(
    st.tuples(_name, _value).map(b": ".join),
    st.sampled_from(
        [
            b"Content-Length: 3",
            b"Transfer-Encoding: chunked",
            b"Connection: x-a",
            b"X-A: 1",
            b"Host: b",
            b" folded",
            b"\tx",
        ]
    ),
)


class Llhttp:
    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.target = b""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))


def as_h11_reads(wire: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(wire)
    try:
        event = parser.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    return event.method, event.target, sorted(event.headers)


def as_llhttp_reads(wire: bytes) -> tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None:
    reader = Llhttp()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(wire)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    return parser.get_method(), reader.target, sorted(reader.headers)


@settings(max_examples=400)
@given(
    st.lists(_line, max_size=4), st.sampled_from([b"GET", b"POST", b"OPTIONS"]), st.sampled_from([b"/", b"/a?b", b"*"])
)
@example([b"X-A: a\x80"], b"GET", b"/")
def test_whoever_accepts_a_head_reads_what_we_read(lines: list[bytes], method: bytes, target: bytes) -> None:
    wire = request(*lines, start=b"%b %b HTTP/1.1" % (method, target))
    wire = wire[: wire.index(b"\r\n\r\n") + 4]
    try:
        ours, _ = read(wire)
    except RequestError:
        return
    fields = sorted(ours.headers + [(name, value) for name, value in ours.withheld])
    theirs = as_h11_reads(wire)
    assert theirs is None or theirs == (method, target, fields)
    theirs = as_llhttp_reads(wire)
    assert theirs is None or theirs == (method, target, fields)


def test_what_the_connection_names_is_withheld() -> None:
    head, keep_alive = read(request(b"Connection: x-hop, keep-alive", b"X-Hop: 1", b"X-End: 2"))
    assert head.headers == [(b"x-end", b"2")]
    assert (b"x-hop", b"1") in head.withheld
    assert keep_alive


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([b"Content-Length: 5"], 5),
        ([b"Content-Length: 0"], 0),
        ([b"Transfer-Encoding: Chunked"], UNKNOWN_LENGTH),
        ([], 0),
    ],
)
def test_framing_of_requests(lines: list[bytes], length: int) -> None:
    assert read(request(*lines))[0].body_length == length


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "host_missing"),
        (request(b"Host: b"), 400, "host_repeated"),
        (request(b"Host: a"), 400, "host_repeated"),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400, "host_malformed"),
        (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400, "host_malformed"),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host_malformed"),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "host_malformed"),
        (request(start=b"GET http://b/ HTTP/1.1"), 400, "host_mismatch"),
        (request(start=b"GET ftp://a/ HTTP/1.1"), 400, "target_malformed"),
        (request(start=b"GET a HTTP/1.1"), 400, "target_malformed"),
        (request(b"Connection: authorization"), 400, "forbidden_connection_option"),
        (request(b"Connection: cookie"), 400, "forbidden_connection_option"),
        (request(b"Connection: Host"), 400, "forbidden_connection_option"),
        (request(b"Connection: content-length"), 400, "forbidden_connection_option"),
        (request(b"Expect: 200-ok"), 417, "expectation_failed"),
        (request(b"Transfer-Encoding: gzip"), 501, "transfer_coding_not_implemented"),
        (request(b"Transfer-Encoding: gzip, chunked"), 400, "ambiguous_framing"),
        (request(b"Transfer-Encoding: chunked", start=b"GET / HTTP/1.0"), 400, "ambiguous_framing"),
        (request(start=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), 414, "target_too_long"),
    ],
)
def test_ambiguous_requests_are_refused_by_name(head: bytes, status: int, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(head)
    assert (caught.value.status, caught.value.code) == (status, code)


def test_an_absolute_form_that_says_what_host_says() -> None:
    head, _ = read(request(start=b"GET http://A:80/x?y HTTP/1.1"))
    assert (head.host, head.path, head.query) == (b"a", b"/x", b"y")


@pytest.mark.parametrize(
    ("version", "lines", "keep_alive"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: Close"], False),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.1", [b"Connection: close, keep-alive"], False),
    ],
)
def test_persistence(version: bytes, lines: list[bytes], keep_alive: bool) -> None:
    assert read(request(*lines, start=b"GET / HTTP/" + version))[1] is keep_alive


def test_an_upgrade_needs_its_connection_option() -> None:
    assert read(request(b"Upgrade: websocket"))[0].upgrade == b""
    assert read(request(b"Upgrade: WebSocket", b"Connection: Upgrade"))[0].upgrade == b"websocket"


def test_an_http_1_0_request_needs_no_host() -> None:
    assert read(b"GET / HTTP/1.0\r\n\r\n")[0].host == b""


LINES = (
    b"",
    b"Host: a\r\n",
    b"Host: a\r\nAuthorization: Bearer one\r\n",
    b"Host: a\r\nAuthorization: Bearer two\r\n",
    b"Host: a\r\nConnection: close\r\n",
    b"Host: a\r\nConnection: x-hop\r\nX-Hop: 1\r\n",
    b"Host: a\r\nContent-Length: 3\r\n",
    b"Host: a\r\nTransfer-Encoding: chunked\r\n",
    b"Host: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
    b"Host: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n",
    b"Host: a\r\nVia: 1.1 other\r\n",
    b"Host: a\r\nX-Long: " + b"x" * 2_000 + b"\r\n",
)
READ = ("method", "http_version", "host", "path", "query", "headers", "withheld", "body_length", "via", "upgrade")
heads = st.builds(
    lambda path, version, lines: b"GET /%b HTTP/1.%d\r\n%b\r\n" % (path, version, lines),
    st.sampled_from((b"", b"a?b", b"c/../d")),
    st.integers(0, 1),
    st.sampled_from(LINES),
)


def what_is_read(head: bytes, last: LastLines) -> object:
    exchange = Exchange()
    try:
        keep_alive = read_request(exchange, head, last, PathRules(), 100, 8192)
    except RequestError as error:
        return error.code
    found = {name: getattr(exchange, name) for name in (*READ, "expects_continue")}
    found = {name: list(value) if isinstance(value, list) else value for name, value in found.items()}
    exchange.headers.append((b"x-policy", b"was here"))  # as policies do
    return keep_alive, found


@given(st.lists(heads, max_size=6))
def test_what_a_connection_said_before_changes_nothing(said: list[bytes]) -> None:
    last = LastLines()
    for head in said:
        assert what_is_read(head, last) == what_is_read(head, LastLines())
