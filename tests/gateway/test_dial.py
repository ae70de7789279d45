"""Opening connections to targets: what a failure is called, what is left behind, and the probes of health checks."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatewayd.config import address, model
from gatewayd.config.load import decode
from gatewayd.errors import ConfigError, UpstreamError
from gatewayd.gateway.dial import Dialler
from gatewayd.upstream.target import Target
from gatewayd.wire.outbox import Outbox
from gatewayd.wire.upstream import UpstreamConnection
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Caller
from tests.support.targets import UnixUpstream
from tests.support.upstream import OK, Peer, ScriptedUpstream


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def dialler(timeout: float = 20.0, **upstream: Any) -> Dialler:
    raw = {"upstreams": {"up": {"targets": [{"address": "a:1"}], **upstream}}}
    return Dialler(decode(raw).upstreams["up"], model.Limits(), timeout, Outbox())


def target(place: str) -> Target:
    parsed = address.parse(place)
    return Target(place, parsed, "" if parsed.path else parsed.host)


def nobody(connection: UpstreamConnection) -> None:
    """Takes no notice."""


async def connected(dialling: Dialler, place: str) -> UpstreamConnection:
    return await dialling.connect(target(place), nobody, nobody)


def failure(dialling: Dialler, place: str) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        run(connected(dialling, place))
    return caught.value


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_refused_connection(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for place in (f"127.0.0.1:{bound.getsockname()[1]}", f"unix:{tmp_path}/missing"):
            found = failure(dialler(), place)
            assert (found.status, found.reason, found.retry) == (502, "connect_failed", "always")
            assert place in found.detail


def test_a_dial_that_takes_too_long_leaves_no_connection_behind() -> None:
    """TLS makes it wait: the target accepts and says nothing."""
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_to_end()
        ended.set()

    with ScriptedUpstream(script) as up:
        found = failure(dialler(0.05, tls={"verify": False}), f"127.0.0.1:{up.port}")
        assert (found.status, found.reason, found.retry) == (504, "connect_timeout", "always")
        assert ended.wait(20)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""], ids=["no TLS", "closed"])
def test_a_handshake_that_fails(said: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read(1)
        peer.send(said)

    with ScriptedUpstream(script) as up:
        found = failure(dialler(tls={"verify": False}), f"127.0.0.1:{up.port}")
        assert (found.status, found.retry) == (502, "always")
        assert found.reason == ("tls_failed" if said else "connect_failed")


def test_files_that_are_no_good_are_found_when_it_is_made() -> None:
    with pytest.raises(ConfigError) as caught:
        dialler(tls={"ca": "/missing"})
    assert [fault.path for fault in caught.value.faults] == ["tls.ca"]


def test_a_connection_reports_to_the_pool_that_wanted_it() -> None:
    async def main(port: int) -> tuple[int, int]:
        pool = dialler().pool(target(f"127.0.0.1:{port}"))
        got: asyncio.Future[UpstreamConnection] = asyncio.get_running_loop().create_future()

        class Waiter:
            gone = False

            def connected(self, connection: UpstreamConnection) -> None:
                got.set_result(connection)

            def dial_failed(self, error: UpstreamError) -> None:
                got.set_exception(error)

        pool.want(Waiter())
        connection = await got
        before = pool.open
        connection.drop()
        return before, pool.open

    with ScriptedUpstream() as up:
        assert run(main(up.port)) == (1, 0)


# -- probes -----------------------------------------------------------------------------------------------------------


async def probed(place: str, **health: Any) -> int:
    made = decode(
        {"upstreams": {"up": {"targets": [{"address": "a:1"}], "active_health": {"path": "/ready"} | health}}}
    )
    config = made.upstreams["up"]
    return await Dialler(config, model.Limits(), 20.0, Outbox()).probe(target(place), config.active_health)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (OK, 200),
        (b"HTTP/1.1 503 X\r\ncontent-length: 99999\r\n\r\nhalf", 503),
        (b"HTTP/1.1 102 X\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n", 101),
    ],
)
def test_a_probe_takes_the_status_and_closes(reply: bytes, status: int) -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(reply)
        peer.read_to_end()
        ended.set()

    with ScriptedUpstream(script) as up:
        assert run(probed(f"127.0.0.1:{up.port}")) == status
        assert ended.wait(20)
        lines = up.received.split(b"\r\n")
        assert lines[0] == b"GET /ready HTTP/1.1"
        assert set(lines[1:-2]) == {
            b"host: 127.0.0.1:%d" % up.port,
            b"user-agent: gatewayd-health",
            b"connection: close",
        }


@pytest.mark.parametrize(("host", "expected"), [("", b"host: localhost"), ("ready.example", b"host: ready.example")])
def test_the_host_a_probe_asks_for(tmp_path: Path, host: str, expected: bytes) -> None:
    path = str(tmp_path / "target")
    with UnixUpstream(path) as up:
        assert run(probed(f"unix:{path}", host=host)) == 200
        assert expected in up.received.split(b"\r\n")


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n"])
def test_a_probe_that_gets_no_answer_fails(reply: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_head()
        peer.send(reply)

    with ScriptedUpstream(script) as up, pytest.raises(UpstreamError):
        run(probed(f"127.0.0.1:{up.port}"))


def test_a_probe_of_a_target_that_hangs_up_at_once_does_not_wait() -> None:
    with ScriptedUpstream(Peer.reset) as up:
        for _ in range(5):
            with pytest.raises(UpstreamError):
                run(probed(f"127.0.0.1:{up.port}"))


def test_probes_decide_who_serves() -> None:
    ill = threading.Event()

    def script(peer: Peer) -> None:
        while head := peer.read_head():
            bad = head.startswith(b"GET /ready") and ill.is_set()
            peer.send(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n" if bad else OK)

    with ScriptedUpstream(script) as up:
        made = proxied(up.port)
        often = {"path": "/ready", "interval": "20ms", "healthy_after": 1, "unhealthy_after": 2}
        made["upstreams"]["up"]["active_health"] = often
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            assert caller.ask().status == 200
            (found,) = edge.edge._upstreams["up"].targets
            ill.set()
            edge.until(lambda: not found.available)
            refused = caller.ask()
            assert (refused.status, refused.code) == (503, "no_available_target")
            ill.clear()
            edge.until(lambda: found.available)
            assert caller.ask().status == 200
