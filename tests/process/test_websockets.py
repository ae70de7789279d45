"""WebSockets through the daemon, by two clients: messages of any size both ways, closing, and reloads meanwhile."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import httpx
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.support.daemon import WAIT, Daemon, proxied, wait_for

pytestmark = pytest.mark.process

LARGE = bytes(range(256)) * 4_096  # 1 MiB


def answer(caller: ServerConnection) -> None:
    """Echo, until told to close."""
    for message in caller:
        if message == "close":
            caller.close(4001, "as you wish")
            return
        caller.send(message)


@pytest.fixture(scope="module")
def daemon():
    """A daemon before a server of the websockets package; `/plain` allows no upgrade."""
    with serve(answer, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        document = proxied(f"127.0.0.1:{server.socket.getsockname()[1]}")
        document["routes"]["plain"] = {"path": "/plain", "service": "up", "upgrades": []}
        with Daemon({**document, "gateway": {"workers": 1, "drain_timeout": "2s"}}) as daemon:
            yield daemon
        server.shutdown()
        thread.join(WAIT)


def address(daemon, path="/"):
    """The WebSocket URL of a path."""
    return daemon.url(path).replace("http:", "ws:")


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_any_size_go_both_ways(daemon, compression):
    with connect(address(daemon), compression=compression, max_size=None, open_timeout=WAIT) as socket:
        for message in ("hello", b"\x00\xff", LARGE, "ü" * 100_000, ""):
            socket.send(message)
            assert socket.recv(WAIT) == message
        assert socket.ping().wait(WAIT)


def test_why_it_was_closed_comes_through(daemon):
    with connect(address(daemon), open_timeout=WAIT) as socket:
        socket.send("close")
        with pytest.raises(ConnectionClosed):
            socket.recv(WAIT)
        assert (socket.close_code, socket.close_reason) == (4001, "as you wish")


def test_it_lives_through_a_reload(daemon):
    with connect(address(daemon), open_timeout=WAIT) as socket:
        for message in ("before", "after"):
            socket.send(message)
            assert socket.recv(WAIT) == message
            daemon.reload()
    wait_for(lambda: daemon.metric("gatewayd_connections_open") == 0, "the connection to be gone")


def test_aiohttp_speaks_it_too(daemon):
    async def talk(number: int) -> list[str]:
        async with aiohttp.ClientSession() as session, session.ws_connect(address(daemon), max_msg_size=0) as socket:
            found = []
            for turn in range(20):
                await socket.send_str(f"{number}-{turn}")
                found.append(await socket.receive_str())
            await socket.send_bytes(LARGE)
            assert await socket.receive_bytes() == LARGE
            return found

    async def all_talk() -> list[list[str]]:
        return await asyncio.gather(*(talk(number) for number in range(20)))

    assert asyncio.run(all_talk()) == [[f"{number}-{turn}" for turn in range(20)] for number in range(20)]


def test_a_route_without_upgrades_stays_http(daemon):
    with pytest.raises(InvalidStatus) as refused, connect(address(daemon, "/plain"), open_timeout=WAIT):
        pass
    assert refused.value.response.status_code == 426  # as the server answers plain requests
    assert httpx.get(daemon.url("/")).status_code == 426


def test_a_drain_lets_it_go_on_until_its_deadline(daemon):
    with connect(address(daemon), open_timeout=WAIT) as socket:
        socket.send("before")
        assert socket.recv(WAIT) == "before"
        pid = daemon.pid
        daemon.process.terminate()
        daemon.wait_for(lambda: "draining" in daemon.log, "the drain")
        socket.send("while draining")
        assert socket.recv(WAIT) == "while draining"
        with pytest.raises(ConnectionClosed) as cut:
            socket.recv(WAIT)
        assert not isinstance(cut.value, ConnectionClosedOK)
    assert daemon.wait() == 0
    assert pid not in daemon.members()
