"""Where things are: names with several addresses, unix sockets on both sides, callers behind the PROXY protocol."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct

import httpx
import pytest

from tests.support.daemon import Daemon, command_of, lines_of, proxied, wait_for
from tests.support.echo import EchoUpstream
from tests.support.load import Load
from tests.support.peers import haproxy
from tests.support.raw import Answer, Caller, exchange
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.process


def addresses_of(name):
    """What a name stands for."""
    with contextlib.suppress(OSError):
        return {found[4][0] for found in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)}
    return set()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_name_is_served_though_nobody_listens_at_its_other_address(host):
    known = addresses_of("localhost")
    if host not in known:
        pytest.skip(f"localhost does not mean {host} here")
    with EchoUpstream(f"{host}:0") as upstream, Daemon(proxied(f"localhost:{upstream.port}")) as daemon:
        with Load(daemon.port(), keep_alive=4, fresh=4) as load:
            load.reach(1_000)
            outcome = load.stop()
        targets = daemon.status()["workers"][0]["edge"]["upstreams"]["up"]["targets"]
    assert (outcome.failed, outcome.refused) == ({}, 0)
    assert len(targets) == len(known)
    assert {target["address"] for target in targets} == {f"localhost:{upstream.port}"}


def test_ipv6_on_both_sides():
    if "::1" not in addresses_of("::1"):
        pytest.skip("there is no IPv6 here")
    with EchoUpstream("::1:0") as upstream:
        target = f"[::1]:{upstream.port}"
        with Daemon({**proxied(target), "listeners": {"http": {"address": "[::1]:0"}}}) as daemon:
            with httpx.Client() as client:
                assert client.get(f"http://[::1]:{daemon.port()}/echo/token").text == "token"
            daemon.terminate()
            (line,) = lines_of(daemon.access_log)
    assert (line["client"], line["target"]) == ("::1", target)


def test_unix_sockets_on_both_sides(tmp_path):
    target = EchoUpstream(str(tmp_path / "target.sock"))
    with target as upstream, Daemon(proxied(upstream.address), start=False) as daemon:
        where = daemon.folder / "http.sock"
        daemon.write({**proxied(upstream.address), "listeners": {"http": {"address": f"unix:{where}"}}})
        daemon.launch()
        daemon.wait_until_ready()
        assert answer_at(str(where), "/echo/token").body == b"token"
        assert daemon.status()["listeners"]["http"]["address"] == f"unix:{where}"
        daemon.signal(signal.SIGUSR2)
        daemon.wait_for(lambda: not command_of(daemon.pid), "another to have taken over")
        assert answer_at(str(where), "/echo/again").body == b"again"
        daemon.pid = daemon.status()["pid"]
        daemon.terminate()
        assert not where.exists()


def answer_at(path, target):
    """The answer of who listens at a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20)
        sock.connect(path)
        sock.sendall(f"GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n".encode())
        data = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ")[1]), {}, body)


@pytest.fixture
def behind():
    """A daemon that believes the PROXY headers of this machine, and the upstream that hears what it makes of them."""
    listener = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
    with ScriptedUpstream() as upstream:
        document = {**proxied(f"127.0.0.1:{upstream.port}"), "listeners": {"http": listener}}
        with Daemon(document) as daemon:
            yield daemon, upstream


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_haproxy_says_who_calls(behind, option):
    daemon, upstream = behind
    with haproxy(daemon.port(), option) as port, socket.socket() as sock:
        sock.settimeout(20)
        sock.bind(("127.0.0.55", 0))
        sock.connect(("127.0.0.1", port))
        for _ in range(2):
            sock.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert upstream.received.count(b"x-forwarded-for: 127.0.0.55\r\n") == 2


V1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n"
V2 = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack(
    "!H4s4sHH", 12, socket.inet_aton("192.0.2.7"), socket.inet_aton("127.0.0.1"), 4711, 80
)


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_a_header_says_who_calls(behind, header):
    daemon, upstream = behind
    with Caller(daemon.port()) as caller:
        caller.send(header)
        assert caller.ask().status == 200
    assert b"x-forwarded-for: 192.0.2.7\r\n" in upstream.received
    daemon.terminate()
    assert '"client":"192.0.2.7"' in daemon.access_log.read_text()


def test_without_a_header_nobody_is_let_in(behind):
    daemon, upstream = behind
    assert exchange(daemon.port(), b"GET / HTTP/1.1\r\nhost: test\r\n\r\n") == b""
    assert upstream.received == b""
    wait_for(lambda: "connection refused" in daemon.log)
    for _ in range(5):
        assert exchange(daemon.port(), b"PROXY nonsense\r\n") == b""
    assert daemon.metric("gatewayd_connections_refused_total") == 6
    assert daemon.log.count("connection refused") <= len(daemon.workers()), "no stranger fills the log"
