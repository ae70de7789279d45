"""What reaches the upstream: each place where a trusted proxy falls short is a test, judged by the bytes forwarded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Answer, Caller
from tests.wire.oracles import Message, Recorder, read_by_h11, read_by_llhttp

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
GUARDED = {"status": 403, "body": "not from outside"}


class House(NamedTuple):
    """An edge in front of an upstream that records."""

    up: Recorder
    edge: EdgeThread

    def ask(self, wire: bytes, method: str = "GET") -> Answer:
        """Send `wire` and read one reply."""
        with Caller(self.edge.port) as caller:
            caller.send(wire)
            return caller.answer(method)

    def forwarded(self, wire: bytes) -> Message:
        """Send one request and return what reached the upstream, which h11 and llhttp read alike."""
        found = self.ask(wire)
        assert found.status == 200, found
        message, raw = self.up.messages[int(found.headers["x-message"])]
        assert self.up.flaws == []
        for read in (read_by_h11, read_by_llhttp):
            assert read(raw) == [message]
        return message

    def refused(self, wire: bytes, status: int, code: str = "") -> None:
        """Send one request, see it refused and its connection closed, and nothing forwarded."""
        before = len(self.up.messages)
        with Caller(self.edge.port) as caller:
            caller.send(wire)
            found = caller.answer()
            assert (found.status, found.code) == (status, code or found.code)
            assert found.code
            assert found.headers["connection"] == "close"
            assert caller.to_end() == b""
        assert len(self.up.messages) == before


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with Recorder() as up:
        document = proxied(up.port)
        document["routes"] |= {
            "admin": {"path": "/admin", "reply": GUARDED},
            "any-upgrade": {"path": "/up/*", "service": "up", "upgrades": ["*"]},
            "no-upgrade": {"path": "/down/*", "service": "up", "upgrades": []},
            "traced": {"path": "/traced", "service": "up", "methods": ["TRACE"]},
        }
        with EdgeThread(document) as edge:
            yield House(up, edge)


def request(*lines: bytes, start: bytes = b"GET /a HTTP/1.1", host: bytes = b"Host: a", body: bytes = b"") -> bytes:
    """A request's bytes; `lines` are header lines as they are."""
    return b"\r\n".join([start, *([host] if host else []), *lines, b"", body])


def names(message: Message) -> set[bytes]:
    """The field names of a message."""
    return {name for name, _ in message.headers}


OWN = {b"host", b"accept", b"via", b"x-request-id", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
       b"forwarded"}  # fmt: skip


# -- the table -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"/a", b"/up/a", b"/down/a"])
@pytest.mark.parametrize("protocol", [b"h2c", b"H2C", b"h2c-14", b"websocket, h2c", b"h2c, websocket"])
def test_an_upgrade_to_h2c_is_never_forwarded(house: House, path: bytes, protocol: bytes) -> None:
    lines = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABk")
    message = house.forwarded(request(*lines, start=b"GET %b HTTP/1.1" % path))
    assert names(message) == OWN


@pytest.mark.parametrize(
    ("path", "protocol", "forwarded"),
    [
        (b"/a", b"websocket", [b"websocket"]),
        (b"/a", b"WebSocket", [b"websocket"]),
        (b"/a", b"echo", []),
        (b"/up/a", b"echo", [b"echo"]),
        (b"/down/a", b"websocket", []),
    ],
)
def test_an_upgrade_is_forwarded_where_the_route_allows_it(
    house: House, path: bytes, protocol: bytes, forwarded: list[bytes]
) -> None:
    lines = (b"Connection: upgrade", b"Upgrade: " + protocol)
    message = house.forwarded(request(*lines, start=b"GET %b HTTP/1.1" % path))
    assert message.values(b"upgrade") == forwarded
    assert message.values(b"connection") == [b"upgrade"] * len(forwarded)


def test_an_upgrade_without_its_connection_option_or_with_a_body_is_not_forwarded(house: House) -> None:
    assert names(house.forwarded(request(b"Upgrade: websocket"))) == OWN
    lines = (b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 2")
    assert house.forwarded(request(*lines, body=b"ok")).values(b"upgrade") == []
    assert house.forwarded(request(*lines[:2], start=b"GET / HTTP/1.0")).values(b"upgrade") == []


@pytest.mark.parametrize("option", [b"X-Hop", b"close, x-hop", b",, x-hop ,", b"keep-alive,X-HOP", b"x-hop\t, te"])
def test_a_field_named_in_connection_is_stripped(house: House, option: bytes) -> None:
    message = house.forwarded(request(b"X-Hop: 1", b"Connection: " + option, b"x-hop: 2", b"X-End: 3"))
    assert names(message) == OWN - {b"accept"} | {b"x-end"}


@pytest.mark.parametrize(
    "option",
    [b"Authorization", b"cookie", b"Host", b"Content-Length", b"transfer-encoding", b"close, authorization",
     b"X-Forwarded-For", b"Forwarded", b"Via", b"content-type", b"range"],
)  # fmt: skip
def test_a_field_that_targets_decide_by_cannot_be_named_in_connection(house: House, option: bytes) -> None:
    wire = request(b"Authorization: Basic eDp5", b"Connection: " + option)
    house.refused(wire, 400, "forbidden_connection_option")
    house.refused(request(b"Connection: keep-alive", b"Connection: " + option), 400, "forbidden_connection_option")


@pytest.mark.parametrize(
    "line",
    [b"Proxy-Authorization: Basic eDp5", b"Proxy-Connection: keep-alive", b"Proxy-Authenticate: Basic", b"Proxy: x",
     b"TE: trailers", b"Trailer: x-sum", b"Keep-Alive: timeout=5", b"HTTP2-Settings: AAMAAABk",
     b"X_Forwarded_For: 127.0.0.1", b"X_FORWARDED_FOR: 127.0.0.1", b"X-Forwarded_For: 127.0.0.1",
     b"Content_Length: 5", b"Transfer_Encoding: chunked", b"Authorization_: x", b"X-Consumer-Id: root",
     b"X-Original-URL: /admin", b"X-Rewrite-URL: /admin", b"X-Real-IP: 127.0.0.1", b"True-Client-IP: 127.0.0.1",
     b"X-Forwarded-Prefix: /x", b"X-Forwarded-User: root"],
)  # fmt: skip
def test_fields_for_the_gateway_alone_are_not_forwarded(house: House, line: bytes) -> None:
    assert names(house.forwarded(request(line))) == OWN


@pytest.mark.parametrize(
    "line", [b"X-Forwarded-For: 6.6.6.6", b"Forwarded: for=6.6.6.6", b"X-Forwarded-Host: evil", b"X-Request-Id: 6666"]
)
def test_what_a_stranger_says_about_the_origin_is_written_anew(house: House, line: bytes) -> None:
    message = house.forwarded(request(line))
    assert names(message) == OWN
    assert not any(b"666" in value or b"6.6" in value or b"evil" in value for _, value in message.headers)
    assert message.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert message.values(b"forwarded") == [b"for=127.0.0.1;host=a;proto=http"]


@pytest.mark.parametrize(
    ("target", "host"),
    [(b"http://b/x", b"a"), (b"http://a:81/x", b"a"), (b"http://a/x", b"a:8080"), (b"HTTP://evil/", b"a"),
     (b"http://a.b/", b"a")],
)  # fmt: skip
def test_an_absolute_target_that_differs_from_host_is_refused(house: House, target: bytes, host: bytes) -> None:
    house.refused(request(start=b"GET %b HTTP/1.1" % target, host=b"Host: " + host), 400, "host_mismatch")


@pytest.mark.parametrize(
    ("target", "host"), [(b"http://a/x?y=1", b"a"), (b"http://A:80/x?y=1", b"a"), (b"http://a/x?y=1", b"a:80")]
)
def test_an_absolute_target_that_says_what_host_says_is_sent_on_as_a_path(
    house: House, target: bytes, host: bytes
) -> None:
    message = house.forwarded(request(start=b"GET %b HTTP/1.1" % target, host=b"Host: " + host))
    assert (message.target, message.values(b"host")) == (b"/x?y=1", [host])


@pytest.mark.parametrize(
    "target",
    [b"/a/../admin", b"/a/%2e%2e/admin", b"/a/.%2E/admin", b"//admin", b"/./admin", b"/%61dmin", b"/x/..//admin"],
)
def test_one_form_of_the_path_for_routes(house: House, target: bytes) -> None:
    found = house.ask(request(start=b"GET %b HTTP/1.1" % target))
    assert (found.status, found.body) == (403, b"not from outside")


@pytest.mark.parametrize(
    ("target", "sent"),
    [(b"/a/../b", b"/b"), (b"/a/%2e%2e/b", b"/b"), (b"/a//b", b"/a/b"), (b"/%7eb/%c3%a9", b"/~b/%C3%A9"),
     (b"/a/.", b"/a/"), (b"/a/b/..", b"/a/"), (b"/a?b=/../c", b"/a?b=/../c"), (b'/"<b>', b"/%22%3Cb%3E"),
     (b"//a/b@c:http://", b"/a/b@c:http:/")],
)  # fmt: skip
def test_and_the_same_form_for_the_target(house: House, target: bytes, sent: bytes) -> None:
    assert house.forwarded(request(start=b"GET %b HTTP/1.1" % target)).target == sent


@pytest.mark.parametrize(
    "target",
    [b"/a%00", b"/a?b=%00", b"/a#b", b"/a?b#c", b"/a\\..\\admin", b"/a?b=\\", b"/a%5cb", b"/a%0d%0aX:1", b"/a%2fb",
     b"/../a", b"/%2e%2e/a", b"/a;x=1", b"/..;/a", b"/a%zz", b"/a%", b"/a%ff", b"/a\x80", b"/a\x7f", b"/a\x01", b"a",
     b"?a", b"#", b"*", b"ftp://a/", b"http:///a", b"http://u@a/"],
)  # fmt: skip
def test_targets_that_servers_read_differently_are_refused(house: House, target: bytes) -> None:
    house.refused(request(start=b"GET %b HTTP/1.1" % target), 400)


@pytest.mark.parametrize("start", [b"TRACE /a HTTP/1.1", b"TRACE /traced/x HTTP/1.1", b"CONNECT a:443 HTTP/1.1"])
def test_trace_and_connect_are_for_routes_that_name_them(house: House, start: bytes) -> None:
    before = len(house.up.messages)
    assert house.ask(request(start=start, host=b"Host: a:443")).status == 405
    assert len(house.up.messages) == before


def test_trace_where_a_route_names_it(house: House) -> None:
    assert house.forwarded(request(start=b"TRACE /traced HTTP/1.1")).method == b"TRACE"


def test_options_star_belongs_to_no_route(house: House) -> None:
    before = len(house.up.messages)
    assert house.ask(request(start=b"OPTIONS * HTTP/1.1"), "OPTIONS").status == 404
    assert len(house.up.messages) == before


# -- strictness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [b"u@a", b"u:p@a", b"a/b", b"/a", b"", b" ", b"a,b", b"a, a", b"a b", b"a;b", b"a?b", b"a#b", b"http://a", b"a:b",
     b"a:0", b"a:65536", b"a:80:80", b"a..b", b".a", b"a%2eb", b"[::1", b"::1", b"[::1%25eth0]", b"[a]", b"127.1",
     b"0x7f.1", b"a\x80", b"*", b"a\\b", b'"a"'],
)  # fmt: skip
def test_a_host_that_is_no_host(house: House, value: bytes) -> None:
    house.refused(request(host=b"Host: " + value), 400, "host_malformed")


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (request(host=b""), "host_missing"),
        (request(b"Host: a"), "host_repeated"),
        (request(b"Host: b"), "host_repeated"),
        (request(b"host: a", b"HOST: a"), "host_repeated"),
        (request(b"Host: a", start=b"GET / HTTP/1.0"), "host_repeated"),
    ],
)
def test_one_host(house: House, wire: bytes, code: str) -> None:
    house.refused(wire, 400, code)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: "],
        [b"Transfer-Encoding: identity, chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: chunked,"],
        [b"Transfer-Encoding: ,chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked;q=1"],
        [b'Transfer-Encoding: "chunked"'],
        [b"Transfer-Encoding: \x0bchunked"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding\t: chunked"],
        [b" Transfer-Encoding: chunked"],
        [b"Transfer-Encoding:\r\n chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length:"],
        [b"Content-Length: +5"],
        [b"Content-Length: -5"],
        [b"Content-Length: 5 5"],
        [b"Content-Length: 0x5"],
        [b"Content-Length: 5.0"],
        [b"Content-Length: 1_0"],
        [b"Content-Length: \xef\xbc\x95"],
        [b"Content-Length: \xb2"],
        [b"Content-Length: 9999999999999999999999"],
        [b"Content-Length : 5"],
    ],
    ids=repr,
)
def test_framing_that_readers_differ_on(house: House, lines: list[bytes]) -> None:
    body = b"5\r\nhello\r\n0\r\n\r\n"
    house.refused(request(*lines, start=b"POST / HTTP/1.1", body=body) + SMUGGLED, 400)


@pytest.mark.parametrize("coding", [b"gzip", b"identity", b"deflate", b"x"])
def test_transfer_codings_other_than_chunked_are_not_known(house: House, coding: bytes) -> None:
    house.refused(request(b"Transfer-Encoding: " + coding), 501, "transfer_coding_not_implemented")


def test_transfer_encoding_is_not_for_http_1_0(house: House) -> None:
    wire = request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.0", body=b"0\r\n\r\n")
    house.refused(wire, 400, "ambiguous_framing")


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET / HTTP/1.2", 505), (b"GET / HTTP/1.9", 505), (b"GET / HTTP/0.9", 505), (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/9.9", 505), (b"GET / HTTP/1.10", 400), (b"GET / HTTP/1.01", 400), (b"GET / HTTP/1.", 400),
        (b"GET / HTTP/1", 400), (b"GET / HTTP/11", 400), (b"GET / HTTP/1,1", 400), (b"GET / HTTP/1.1 ", 400),
        (b"GET / http/1.1", 400), (b"GET / HTTPS/1.1", 400), (b"GET / HTTP/+1.1", 400), (b"GET / HTTP/-1.1", 400),
        (b"GET / HTTP/ 1.1", 400), (b"GET /", 400), (b"GET", 400), (b"GET / / HTTP/1.1", 400),
        (b" GET / HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400), (b"GET /  HTTP/1.1", 400), (b"GET\t/\tHTTP/1.1", 400), (b"GET\x0b/ HTTP/1.1", 400),
        (b"G\x00T / HTTP/1.1", 400), (b"GET / HTTP/1.1\x00", 400), (b"get / HTTP/1.1", 400), (b"G(T / HTTP/1.1", 400),
        (b"\xc7ET / HTTP/1.1", 400), (b"BREW / HTTP/1.1", 501), (b"PRI * HTTP/2.0", 505),
    ],
)  # fmt: skip
def test_odd_request_lines(house: House, start: bytes, status: int) -> None:
    house.refused(request(start=start), status)


@pytest.mark.parametrize(
    "line",
    [b"X-A: a\r\n b", b"X-A: a\r\n\tb", b"X-A:\r\n b", b" X-A: a", b"\tX-A: a", b"X-A : a", b"X-A\t: a", b": a", b":",
     b"X-A", b"X A: a", b"X(A: a", b"X\xe4: a", b"X\xc3\xa4: a", b"X-A\x00: a", b"X-A: a\x00b", b"X-A: \x00",
     b"X-A: a\rb", b"X-A: a\nb", b"X-A: a\nX-B: b", b"X-A: a\n\nGET /b HTTP/1.1", b"\rX-A: a", b"X-A: a\r",
     b"X-A: \x7f", b"X-A: \x1b[0m", b"X-A: a\x0b", b"X-A: a\x0c", b"X-A: \x08", b"\x00",
     b'"X-A": a', b"X-A[]: a", b"X-A/B: a"],
)  # fmt: skip
def test_lines_that_are_no_fields(house: House, line: bytes) -> None:
    house.refused(request(line), 400, "malformed_request")
    house.refused(request(b"X-First: 1", line, b"X-Last: 1"), 400, "malformed_request")


@pytest.mark.parametrize(
    "wire", [b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\n\r\n", b"GET / HTTP/1.1\rHost: a\r\r",
             b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"]
)  # fmt: skip
def test_line_ends_are_crlf(house: House, wire: bytes) -> None:
    house.refused(wire + b"\r\n\r\n", 400, "malformed_request")


@pytest.mark.parametrize(
    "line",
    [b"5 ", b" 5", b"5\t", b"5 ;a", b"5; a", b"5;", b"5;a=", b"5;a b", b"5;\x00", b"5;a=\x00", b'5;a="\x00"', b"5;a\nb",
     b"5;a\rb", b'5;a="b', b"5;\x80", b"5;=b", b"0x5", b"+5", b"-5", b"5h", b"5_0", b"", b"\xef\xbc\x95", b"\xb2",
     b"10000000000000005", b"5" + b";a" * 200],
)  # fmt: skip
def test_chunk_sizes_that_readers_differ_on(house: House, line: bytes) -> None:
    body = line + b"\r\nhello\r\n0\r\n\r\n"
    wire = request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.1", body=body)
    house.refused(wire + SMUGGLED, 400, "malformed_body")


@pytest.mark.parametrize(
    "body",
    [b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhelloo\r\n0\r\n\r\n",
     b"5\r\nhello\r\n0\n\n", b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n",
     b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n", b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n", b"5\r\nhello\r\n0\r\nX\r\n\r\n",
     b"5\r\nhello\r\n0\r\nX-A: b\nX-B: c\r\n\r\n", b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n"],
)  # fmt: skip
def test_chunks_and_trailers_that_readers_differ_on(house: House, body: bytes) -> None:
    wire = request(b"Transfer-Encoding: chunked", start=b"POST / HTTP/1.1", body=body)
    house.refused(wire + SMUGGLED, 400, "malformed_body")


def test_a_chunked_body_is_sent_on_without_its_extensions_and_with_harmless_trailers(house: House) -> None:
    chunks = b'5;a=b;c="d e"\r\nhello\r\n0005\r\nworld\r\n000;x\r\n'
    body = chunks + b"X-Sum: 1\r\nX-Consumer-Id: root\r\nHost: b\r\nX_A: 1\r\n\r\n"
    message = house.forwarded(request(b"Transfer-Encoding: Chunked", start=b"POST / HTTP/1.1", body=body))
    assert message.body == b"helloworld"
    assert message.trailers == [(b"x-sum", b"1")]


@pytest.mark.parametrize(
    ("method", "lines", "body", "framing"),
    [
        (b"GET", [], b"", []),
        (b"POST", [], b"", [(b"content-length", b"0")]),
        (b"POST", [b"Content-Length: 0"], b"", [(b"content-length", b"0")]),
        (b"POST", [b"Content-Length: 0005"], b"hello", [(b"content-length", b"5")]),
        (b"GET", [b"Content-Length: 5"], b"hello", [(b"content-length", b"5")]),
        (b"DELETE", [b"Transfer-Encoding: CHUNKED"], b"0\r\n\r\n", [(b"transfer-encoding", b"chunked")]),
    ],
)
def test_framing_is_written_anew(
    house: House, method: bytes, lines: list[bytes], body: bytes, framing: list[tuple[bytes, bytes]]
) -> None:
    message = house.forwarded(request(*lines, start=b"%b / HTTP/1.1" % method, body=body))
    found = [pair for pair in message.headers if pair[0] in (b"content-length", b"transfer-encoding")]
    assert found == framing


def test_http_1_0_without_a_host_reaches_the_target_as_http_1_1_with_one(house: House) -> None:
    message = house.forwarded(b"GET /a HTTP/1.0\r\n\r\n")
    assert message.values(b"host") == [b"127.0.0.1:%d" % house.up.port]
    assert message.values(b"via") == [b"1.0 gatewayd"]
