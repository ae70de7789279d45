"""Accepting callers: plain, with TLS, behind the PROXY protocol, on unix sockets; and ceasing to without losing any."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import pytest

from gatewayd.config.model import Certificate
from gatewayd.errors import ConfigError
from gatewayd.gateway.accept import Acceptor
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.sent import asked
from tests.support.upstream import ScriptedUpstream
from tests.wire.certificates import Authority

GET = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def static(**listener: Any) -> dict[str, Any]:
    """One listener, and a reply to everything."""
    return {"listeners": {"http": listener}, "routes": {"all": {"path": "/*", "reply": {"body": "static"}}}}


def acceptor(edge: EdgeThread) -> Acceptor:
    return edge.edge._acceptors["http"]


# -- the PROXY protocol -----------------------------------------------------------------------------------------------

BEHIND = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
HEADERS = {
    "version 1": (b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n", b"198.51.100.7"),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", b"2001:db8::7"),
    "version 2": (
        V2 + b"\x21\x11\0\x0c" + socket.inet_aton("198.51.100.7") + socket.inet_aton("192.0.2.1") + b"\x12\x67\x01\xbb",
        b"198.51.100.7",
    ),
    "version 2, local": (V2 + b"\x20\0\0\0", b"127.0.0.1"),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
}


@pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("together", [True, False])
def test_the_caller_is_who_the_header_says(header: bytes, client: bytes, together: bool) -> None:
    with ScriptedUpstream() as up:
        made = proxied(up.port) | {"listeners": {"http": {**BEHIND}}}
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in [header + GET] if together else [header[:9], header[9:], GET]:
                caller.send(piece)
            assert caller.answer().status == 200
            assert asked(up).values(b"x-forwarded-for") == [client]
            assert caller.ask().status == 200
            assert asked(up).values(b"x-forwarded-for") == [client], "for the whole connection"


def test_a_source_that_is_a_trusted_proxy_itself_is_believed() -> None:
    with ScriptedUpstream() as up:
        listener = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}
        made = proxied(up.port) | {"listeners": {"http": listener}}
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            caller.send(b"PROXY TCP4 10.0.0.1 192.0.2.1 4711 443\r\n")
            assert caller.ask("/", "x-forwarded-for: 198.51.100.7").status == 200
            assert asked(up).values(b"x-forwarded-for") == [b"198.51.100.7, 10.0.0.1"]


@pytest.mark.parametrize("said", [GET, b"PROXY TCP4 nonsense\r\n" + GET, b"\x16\x03\x01\x02\x00"])
def test_without_a_proper_header_nobody_is_served(said: bytes) -> None:
    with EdgeThread(static(**BEHIND)) as edge, Caller(edge.port) as caller:
        caller.send(said)
        assert caller.to_end() == b""
        assert edge.edge.connections == 0


def test_a_header_from_somebody_who_is_not_trusted_is_refused() -> None:
    with EdgeThread(static(proxy_protocol=True, trusted_proxies=["10.0.0.0/8"])) as edge, Caller(edge.port) as caller:
        caller.send(HEADERS["version 1"][0] + GET)
        assert caller.to_end() == b""


def test_where_no_header_is_wanted_it_is_a_malformed_request() -> None:
    with EdgeThread(static()) as edge, Caller(edge.port) as caller:
        caller.send(HEADERS["version 1"][0] + GET)
        assert caller.answer().code == "malformed_request"


def test_a_header_that_does_not_come_is_not_waited_for_for_ever() -> None:
    made = static(**BEHIND) | {"timeouts": {"handshake": "50ms"}}
    with EdgeThread(made) as edge, Caller(edge.port) as caller:
        caller.send(b"PROXY TCP4 ")
        assert caller.to_end() == b""


def test_those_who_say_nothing_do_not_hold_up_the_others() -> None:
    with EdgeThread(static(**BEHIND)) as edge:
        silent = [Caller(edge.port) for _ in range(5)]
        with Caller(edge.port) as caller:
            caller.send(HEADERS["version 1"][0] + GET)
            assert caller.answer().status == 200
        for each in silent:
            each.sock.close()


# -- unix sockets -----------------------------------------------------------------------------------------------------


class UnixCaller(Caller):
    """A caller on the unix socket at `path`."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(path)
        self._parser = h11.Connection(h11.CLIENT)
        self.closed = False


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sock")


def test_a_unix_listener(path: str) -> None:
    with ScriptedUpstream() as up:
        made = proxied(up.port) | {"listeners": {"http": {"address": f"unix:{path}"}}}
        with EdgeThread(made), UnixCaller(path) as caller:
            for _ in range(2):
                assert caller.ask().status == 200
            assert asked(up).values(b"x-forwarded-for") == [b"unknown"]
            assert asked(up).values(b"forwarded") == [b"for=unknown;host=test;proto=http"]


def test_a_unix_listener_behind_the_proxy_protocol(path: str) -> None:
    with ScriptedUpstream() as up:
        made = proxied(up.port) | {"listeners": {"http": {"address": f"unix:{path}", **BEHIND}}}
        with EdgeThread(made), UnixCaller(path) as caller:
            caller.send(HEADERS["version 2"][0])
            assert caller.ask().status == 200
            assert asked(up).values(b"x-forwarded-for") == [b"198.51.100.7"]


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def shown(certificate: Certificate) -> dict[str, Any]:
    """A listener's options that show `certificate`."""
    return {"tls": {"certificates": [{"cert": certificate.cert, "key": certificate.key}]}}


@contextmanager
def tls_caller(port: int, authority: Authority, name: str = "a.example") -> Iterator[tuple[Caller, str]]:
    """A caller that has shaken hands, and the common name of the certificate it was shown."""
    context = ssl.create_default_context(cafile=authority.file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with Caller(port) as caller:
        caller.sock = sock = context.wrap_socket(caller.sock, server_hostname=name)
        subject = dict(pair for part in sock.getpeercert()["subject"] for pair in part)
        yield caller, subject["commonName"]


def test_a_tls_listener_tells_targets_so(authority: Authority) -> None:
    with ScriptedUpstream() as up:
        made = proxied(up.port) | {"listeners": {"http": shown(authority.issue("a.example"))}}
        with EdgeThread(made) as edge, tls_caller(edge.port, authority) as (caller, _):
            assert caller.ask().status == 200
            assert asked(up).values(b"x-forwarded-proto") == [b"https"]


def test_a_reload_changes_the_certificate_of_new_connections(authority: Authority) -> None:
    old, new = authority.issue("a.example", common="old"), authority.issue("a.example", common="new")
    with EdgeThread(static(**shown(old))) as edge, tls_caller(edge.port, authority) as (early, name):
        assert name == "old"
        edge.apply(static(**shown(new)))
        with tls_caller(edge.port, authority) as (late, name):
            assert name == "new"
            assert [caller.ask().status for caller in (early, late)] == [200, 200]


def test_a_certificate_that_cannot_be_read_leaves_the_old_one_in_place(authority: Authority) -> None:
    old = authority.issue("a.example", common="old")
    with EdgeThread(static(**shown(old))) as edge:
        bad = static(**shown(Certificate("/missing.crt", "/missing.key")))
        bad["routes"]["all"]["reply"]["body"] = "new"
        with pytest.raises(ConfigError, match=r"listeners\.http\.tls\.certificates\[0\]"):
            edge.apply(bad)
        with tls_caller(edge.port, authority) as (caller, name):
            assert (name, caller.ask().body) == ("old", b"static")


def test_a_listener_is_turned_to_tls_and_back(authority: Authority) -> None:
    with ScriptedUpstream() as up:
        plain = proxied(up.port) | {"listeners": {"http": {}}}
        secure = proxied(up.port) | {"listeners": {"http": shown(authority.issue("a.example"))}}
        with EdgeThread(plain) as edge, Caller(edge.port) as first:
            assert first.ask().status == 200
            edge.apply(secure)
            with tls_caller(edge.port, authority) as (second, _):
                assert second.ask().status == 200
                assert asked(up).values(b"x-forwarded-proto") == [b"https"]
                assert first.ask().status == 200, "what is open stays as it is"
                assert asked(up).values(b"x-forwarded-proto") == [b"http"]
                edge.apply(plain)
                with Caller(edge.port) as third:
                    assert third.ask().status == 200
                assert second.ask().status == 200
                assert asked(up).values(b"x-forwarded-proto") == [b"https"]


def test_a_listener_is_put_behind_the_proxy_protocol_and_back() -> None:
    with EdgeThread(static()) as edge, Caller(edge.port) as first:
        assert first.ask().status == 200
        edge.apply(static(**BEHIND))
        with Caller(edge.port) as second:
            second.send(HEADERS["version 1"][0])
            assert second.ask().status == 200
        assert first.ask().status == 200
        edge.apply(static())
        with Caller(edge.port) as third:
            assert third.ask().status == 200


def test_trusted_proxies_change_with_a_reload() -> None:
    with (
        ScriptedUpstream() as up,
        EdgeThread(proxied(up.port) | {"listeners": {"http": {}}}) as edge,
    ):
        for trusted, expected in ([], b"127.0.0.1"), (["127.0.0.0/8"], b"198.51.100.7, 127.0.0.1"):
            edge.apply(proxied(up.port) | {"listeners": {"http": {"trusted_proxies": trusted}}})
            with Caller(edge.port) as caller:
                assert caller.ask("/", "x-forwarded-for: 198.51.100.7").status == 200
            assert asked(up).values(b"x-forwarded-for") == [expected]


# -- ceasing to accept ------------------------------------------------------------------------------------------------


def closing(edge: EdgeThread, says: bytes) -> list[Caller]:
    """Callers that connected and spoke while the loop was busy, and were still queued when it closed the listener."""
    callers: list[Caller] = []

    async def close() -> None:
        callers.extend(Caller(edge.port) for _ in range(5))
        for caller in callers:
            caller.send(says)
        await acceptor(edge).close()

    edge.call(close)
    return callers


@pytest.mark.parametrize(("options", "first"), [({}, b""), (BEHIND, HEADERS["version 1"][0])], ids=["plain", "PROXY"])
def test_who_is_queued_when_accepting_ends_is_served(options: dict[str, Any], first: bytes) -> None:
    with EdgeThread(static(**options)) as edge:
        callers = closing(edge, first + GET)
        assert [caller.answer().body for caller in callers] == [b"static"] * 5
        assert acceptor(edge).closed
        for caller in callers:
            caller.sock.close()


def test_who_is_queued_is_asked_for_the_header_all_the_same() -> None:
    with EdgeThread(static(proxy_protocol=True, trusted_proxies=["10.0.0.0/8"])) as edge:
        for caller in closing(edge, GET):
            assert caller.to_end() == b""
            caller.sock.close()


def test_one_silent_caller_in_the_queue_holds_up_no_other(authority: Authority) -> None:
    with EdgeThread(static(**shown(authority.issue("a.example")))) as edge:
        queued: list[Caller] = []

        async def begin() -> asyncio.Task[None]:
            await acceptor(edge)._stop_serving()  # or the server might take them in the meantime
            queued.extend(Caller(edge.port) for _ in range(3))
            return asyncio.get_running_loop().create_task(acceptor(edge).close())

        ceased = edge.call(begin)
        context = ssl.create_default_context(cafile=authority.file)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        for caller in queued[1:]:  # the first one says nothing
            caller.sock = context.wrap_socket(caller.sock, server_hostname="a.example")
            assert caller.ask().status == 200
        assert not ceased.done()
        for caller in queued:
            caller.sock.close()
        edge.until(ceased.done)


def test_after_closing_nobody_is_accepted_and_connections_stay() -> None:
    with EdgeThread(static()) as edge, Caller(edge.port) as caller:
        assert caller.ask().status == 200
        port = edge.port
        edge.call(acceptor(edge).close)
        with pytest.raises(ConnectionRefusedError):
            Caller(port)
        assert caller.ask().status == 200


def test_a_socket_that_others_hold_too_goes_on_queueing() -> None:
    """As the supervisor's does: whoever connects now waits for the next worker."""
    with EdgeThread(static()) as edge:
        kept = edge.call(lambda: acceptor(edge)._socks[0].dup())
        edge.call(acceptor(edge).shut)
        with Caller(edge.port) as caller:
            caller.send(GET)
            edge.call(edge.edge.listen, "http", kept)
            assert caller.answer().status == 200
