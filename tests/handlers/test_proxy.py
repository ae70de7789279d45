"""The proxy handler, over real sockets: what exactly a target receives, and what is undone in its replies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewayd.handlers.proxy import path_rewriter
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.sent import Sent, asked, forwarded
from tests.support.targets import UnixUpstream
from tests.support.upstream import OK, Peer, ScriptedUpstream, answer


def sent(*lines: str, method: str = "GET", target: str = "/", body: bytes = b"", **options: Any) -> Sent:
    """What arrives for a request of these field lines; `options` change the document (`route`, `listener`, service)."""
    request = "\r\n".join([f"{method} {target} HTTP/1.1", *(lines or ["host: a.example"]), "", ""]).encode()
    found, reply = forwarded(lambda port: document(port, **options), request + body)
    assert reply.status == 200
    return found


def document(port: int, route: Any = None, listener: Any = None, gateway: Any = None, **service: Any) -> dict[str, Any]:
    """Everything to `port`, with options for the parts."""
    made = proxied(port, **service)
    made["routes"]["all"] |= route or {}
    made["listeners"] = {"http": listener or {}}
    made["gateway"] = gateway or {}
    return made


# -- the request line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", b"/"),
        ("/a/b.c;v", b"/a/b.c;v"),
        ("/a/./b/../c", b"/a/c"),
        ("/a//b", b"/a/b"),
        ("/%7euser/%41", b"/~user/A"),
        ("/caf%c3%a9", b"/caf%C3%A9"),
        ("/a?x=1&y=/../%2e%2e//", b"/a?x=1&y=/../%2e%2e//"),
        ("/a?", b"/a?"),
        ("/a?x=%2F%7e;b", b"/a?x=%2F%7e;b"),
        ("http://a.example/b?c", b"/b?c"),
        ("http://a.example", b"/"),
    ],
)
def test_the_path_is_normalised_and_the_query_is_left_alone(target: str, expected: bytes) -> None:
    found = sent(target=target, gateway={"paths": {"semicolon": "keep"}})
    assert found.line == b"GET " + expected + b" HTTP/1.1"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "REPORT"])
def test_methods_are_passed_on(method: str) -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        assert caller.ask("/x", method=method).status == 200
        assert up.received.startswith(method.encode() + b" /x HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("OPTIONS", "5", b"4"),
        ("TRACE", "1", b"0"),
        ("OPTIONS", "0010", b"9"),
        ("OPTIONS", "many", b"many"),
        ("GET", "0", b"0"),
    ],
)
def test_max_forwards_is_counted_down_where_it_counts(method: str, given: str, expected: bytes) -> None:
    found = sent("host: a", f"max-forwards: {given}", method=method, route={"methods": ["GET", "OPTIONS", "TRACE"]})
    assert found.values(b"max-forwards") == [expected]


@pytest.mark.parametrize(("method", "status"), [("OPTIONS", 204), ("TRACE", 501)])
def test_where_max_forwards_ends_the_gateway_answers(method: str, status: int) -> None:
    made = document(1, route={"methods": ["GET", "OPTIONS", "TRACE"]})
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(f"{method} / HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n".encode())
        assert caller.answer(method).status == status


def test_http_1_0_is_sent_on_as_1_1() -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert caller.answer().status == 200
        found = asked(up)
        assert found.line == b"GET /old HTTP/1.1"
        assert found.values(b"host") == [f"127.0.0.1:{up.port}".encode()], "it brought none, and 1.1 needs one"
        assert found.values(b"via") == [b"1.0 gatewayd"]


# -- Host -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [("preserve", b"shop.example:8080"), ("target", b"127.0.0.1:%d"), ("inner.example", b"inner.example")],
)
def test_the_host_a_target_gets(host: str, expected: bytes) -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port, host=host)) as edge, Caller(edge.port) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n")
        assert caller.answer().status == 200
        assert asked(up).values(b"host") == [expected % up.port if b"%d" in expected else expected]


# -- who asked --------------------------------------------------------------------------------------------------------

CLAIMS = [
    "host: a.example",
    "x-forwarded-for: 198.51.100.9, 10.1.1.1",
    "x-forwarded-proto: https",
    "x-forwarded-host: evil.example",
    "x-forwarded-port: 1",
    "x-forwarded-anything: 1",
    "x_forwarded_for: 198.51.100.9",
    "x-real-ip: 198.51.100.9",
    "x-consumer-id: admin",
    "x-request-id: theirs",
    "x-original-url: /admin",
]


def test_what_a_caller_says_about_itself_is_replaced() -> None:
    found = sent(*CLAIMS, "forwarded: for=198.51.100.9;proto=https")
    assert found.values(b"x-forwarded-for") == [b"127.0.0.1"]
    assert found.values(b"x-forwarded-proto") == [b"http"]
    assert found.values(b"x-forwarded-host") == [b"a.example"]
    assert found.values(b"forwarded") == [b"for=127.0.0.1;host=a.example;proto=http"]
    names = {name for name, _ in found.fields}
    assert names == {b"host", b"accept", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded",
                     b"via", b"x-request-id"}  # fmt: skip
    assert b"theirs" not in dict(found.fields)[b"x-request-id"]


def test_a_trusted_proxy_is_believed_from_right_to_left() -> None:
    trusted = {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}
    lines = ["host: a.example", "x-forwarded-for: 203.0.113.66, 198.51.100.9", "x-forwarded-for: 10.1.1.1"]
    found = sent(*lines, "x-forwarded-proto: https", "x-forwarded-host: Shop.Example", listener=trusted)
    assert found.values(b"x-forwarded-for") == [b"198.51.100.9, 10.1.1.1, 127.0.0.1"], (
        "who is not trusted is the client"
    )
    assert found.values(b"x-forwarded-proto") == [b"https"]
    assert found.values(b"x-forwarded-host") == [b"shop.example"]
    first = b"for=198.51.100.9;host=shop.example;proto=https"
    assert found.values(b"forwarded") == [first + b", for=10.1.1.1, for=127.0.0.1"]


def test_an_untrusted_proxy_in_the_chain_ends_it() -> None:
    found = sent(*CLAIMS[:2], listener={"trusted_proxies": ["127.0.0.0/8"]})
    assert found.values(b"x-forwarded-for") == [b"10.1.1.1, 127.0.0.1"]


def test_one_connection_of_a_trusted_proxy_brings_many_callers() -> None:
    made = {"trusted_proxies": ["127.0.0.0/8"]}
    with (
        ScriptedUpstream() as up,
        EdgeThread(document(up.port, listener=made)) as edge,
        Caller(edge.port) as caller,
    ):
        for client in ("198.51.100.1", "198.51.100.2", "2001:db8::1"):
            assert caller.ask("/", f"x-forwarded-for: {client}").status == 200
            assert asked(up).values(b"x-forwarded-for") == [f"{client}, 127.0.0.1".encode()]


# -- Via, X-Request-Id ------------------------------------------------------------------------------------------------


def test_via_is_appended_both_ways() -> None:
    reply = b"HTTP/1.1 200 OK\r\nvia: 1.1 cache\r\ncontent-length: 0\r\n\r\n"
    request = b"GET / HTTP/1.1\r\nhost: a\r\nvia: 1.0 fred\r\nvia: 1.1 p.example (x)\r\n\r\n"
    with ScriptedUpstream(answer(reply)) as up, EdgeThread(document(up.port, gateway={"name": "edge-7"})) as edge:
        with Caller(edge.port) as caller:
            caller.send(request)
            raw = caller.sock.recv(65536)
        assert asked(up).values(b"via") == [b"1.0 fred, 1.1 p.example (x), 1.1 edge-7"]
    assert raw.count(b"\r\nvia: ") == 2
    assert raw.index(b"via: 1.1 cache") < raw.index(b"via: 1.1 edge-7")


def test_a_request_that_goes_round_in_circles_is_stopped() -> None:
    with ScriptedUpstream() as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        assert caller.ask("/", "via: " + ", ".join(["1.1 gatewayd"] * 4)).status == 200
        found = caller.ask("/", "via: " + ", ".join(["1.1 gatewayd"] * 5))
        assert (found.status, found.code) == (508, "loop_detected")
        assert up.received.count(b"GET / ") == 1


def test_a_gateway_that_is_its_own_target_stops_by_itself() -> None:
    made = proxied(1)
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        edge.apply(proxied(edge.port))
        found = caller.ask()
        assert (found.status, found.code) == (508, "loop_detected")


def test_the_request_id_is_made_once_and_told_to_both_sides() -> None:
    reply = b"HTTP/1.1 200 OK\r\nx-request-id: the-targets\r\ncontent-length: 0\r\n\r\n"
    with ScriptedUpstream(answer(reply)) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        ids = set()
        for _ in range(3):
            told = caller.ask("/", "x-request-id: mine").headers["x-request-id"]
            assert asked(up).values(b"x-request-id") == [told.encode()]
            ids.add(told)
        assert len(ids) == 3
        assert not ids & {"mine", "the-targets"}


# -- fields and framing -----------------------------------------------------------------------------------------------


def test_fields_keep_their_order_and_their_bytes() -> None:
    lines = ["Accept: a", "X-B:  two  words\t", "x-a: 1", "X-B: again", "cookie: a=\xe9"]
    found = sent("host: a.example", *lines)
    assert found.fields[1:6] == [
        (b"accept", b"a"),
        (b"x-b", b"two  words"),
        (b"x-a", b"1"),
        (b"x-b", b"again"),
        (b"cookie", "a=\xe9".encode()),
    ]


def test_nothing_about_the_callers_connection_is_passed_on() -> None:
    lines = ["connection: x-mine, keep-alive", "x-mine: 1", "keep-alive: 5", "proxy-connection: keep-alive",
             "te: gzip", "trailer: x", "upgrade: h2c", "http2-settings: x", "proxy-authorization: Basic x",
             "accept: a"]  # fmt: skip
    names = [name for name, _ in sent("host: a.example", *lines).fields]
    assert names == [b"host", b"accept", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded",
                     b"via", b"x-request-id"]  # fmt: skip


def test_a_request_without_fields_gets_one() -> None:
    assert sent("host: a.example").values(b"accept") == [b"*/*"], "which asks for the same"
    assert sent("host: a.example", "x-a: 1").values(b"accept") == []


@pytest.mark.parametrize(
    ("method", "lines", "body", "framing"),
    [
        ("GET", [], b"", []),
        ("DELETE", [], b"", []),
        ("POST", [], b"", [(b"content-length", b"0")]),
        ("PUT", ["content-length: 0"], b"", [(b"content-length", b"0")]),
        ("PATCH", [], b"", [(b"content-length", b"0")]),
        ("POST", ["content-length: 5"], b"hello", [(b"content-length", b"5")]),
        ("GET", ["content-length: 005"], b"hello", [(b"content-length", b"5")]),
        ("POST", ["transfer-encoding: Chunked"], b"5\r\nhello\r\n0\r\n\r\n", [(b"transfer-encoding", b"chunked")]),
    ],
)
def test_bodies_are_framed_once(method: str, lines: list[str], body: bytes, framing: list[tuple[bytes, bytes]]) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        if framing == [(b"transfer-encoding", b"chunked")]:
            assert peer.read_until(b"0\r\n\r\n") == b"5\r\nhello\r\n0\r\n\r\n"
        else:
            assert peer.read(len(body)) == body
        peer.send(OK)

    with ScriptedUpstream(script) as up, EdgeThread(proxied(up.port)) as edge, Caller(edge.port) as caller:
        caller.send("\r\n".join([f"{method} / HTTP/1.1", "host: a", *lines, "", ""]).encode() + body)
        assert caller.answer(method).status == 200
        names = (b"content-length", b"transfer-encoding")
        assert [pair for pair in asked(up).fields if pair[0] in names] == framing


# -- prefixes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strip", "add", "path", "expected"),
    [
        ("/v1", "", b"/v1/x", b"/x"),
        ("/v1/", "", b"/v1/x", b"/x"),
        ("/v1", "", b"/v1", b"/"),
        ("/v1", "", b"/v1/", b"/"),
        ("/v1", "", b"/v10/x", b"/v10/x"),
        ("/v1", "", b"/other", b"/other"),
        ("", "/inner", b"/x", b"/inner/x"),
        ("", "/inner/", b"/", b"/inner/"),
        ("/v1", "/inner", b"/v1/x", b"/inner/x"),
        ("/v1", "/inner", b"/v1", b"/inner"),
        ("/v1", "/v1", b"/v1/x", b"/v1/x"),
    ],
)
def test_paths_are_rewritten_by_whole_segments(strip: str, add: str, path: bytes, expected: bytes) -> None:
    rewrite = path_rewriter(strip, add)
    assert rewrite is not None
    assert rewrite(path) == expected


@pytest.mark.parametrize(("strip", "add"), [("", ""), ("/", ""), ("/", "/")])
def test_prefixes_that_change_nothing_cost_nothing(strip: str, add: str) -> None:
    assert path_rewriter(strip, add) is None


STRIPPED = {"path": "/v1/*", "strip_prefix": "/v1", "add_prefix": "/inner"}
REDIRECTING = (
    b"HTTP/1.1 302 Found\r\nlocation: %b\r\ncontent-location: /inner/y\r\n"
    b"set-cookie: a=1; Path=/inner; Domain=127.0.0.1\r\nset-cookie: b=2; Path=/\r\ncontent-length: 0\r\n\r\n"
)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (b"/inner/login?x", "/v1/login?x"),
        (b"http://127.0.0.1:%d/inner/login", "http://shop.example/v1/login"),
        (b"http://shop.example/inner/", "http://shop.example/v1/"),
        (b"https://elsewhere.example/inner/login", "https://elsewhere.example/inner/login"),
        (b"/outside", "/outside"),
    ],
)
def test_what_was_done_to_the_path_is_undone_in_replies(location: bytes, expected: str) -> None:
    with ScriptedUpstream() as up:
        up.script = answer(REDIRECTING % (location % up.port if b"%d" in location else location))
        with EdgeThread(document(up.port, route=STRIPPED)) as edge, Caller(edge.port) as caller:
            caller.send(b"GET /v1/x HTTP/1.1\r\nhost: shop.example\r\n\r\n")
            raw = caller.sock.recv(65536).decode()
        assert asked(up).line == b"GET /inner/x HTTP/1.1"
    lines = raw.split("\r\n")
    assert f"location: {expected}" in lines
    assert "content-location: /v1/y" in lines
    assert "set-cookie: a=1; Path=/v1" in lines


def test_replies_are_left_alone_where_that_is_wanted() -> None:
    route = STRIPPED | {"rewrite_location": False}
    _, reply = forwarded(
        lambda port: document(port, route=route),
        b"GET /v1/x HTTP/1.1\r\nhost: a\r\n\r\n",
        REDIRECTING % b"/inner/login",
    )
    assert (reply.headers["location"], reply.headers["content-location"]) == ("/inner/login", "/inner/y")


def test_a_tail_does_not_match_what_begins_alike() -> None:
    with ScriptedUpstream() as up, EdgeThread(document(up.port, route=STRIPPED)) as edge, Caller(edge.port) as caller:
        assert caller.ask("/v10/x").status == 404
        assert caller.ask("/v1/../v1/x").status == 200
        assert asked(up).line == b"GET /inner/x HTTP/1.1"


# -- unix sockets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "expected"), [("preserve", b"test"), ("target", b"localhost")])
def test_a_target_on_a_unix_socket(tmp_path: Path, host: str, expected: bytes) -> None:
    path = str(tmp_path / "target")
    made = proxied(1, host=host)
    made["upstreams"]["up"]["targets"] = [{"address": f"unix:{path}"}]
    with UnixUpstream(path) as up, EdgeThread(made) as edge, Caller(edge.port) as caller:
        for _ in range(3):
            assert caller.ask("/x").body == b"ok"
        assert asked(up).values(b"host") == [expected]
        assert len(up.peers) == 1, "its connections are kept like any other"
