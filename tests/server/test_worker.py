"""A worker: does as its channel says, in order, and leaves in good order."""

from __future__ import annotations

import asyncio
import gc
import json
import select
import socket
import subprocess
import sys

import msgspec
import pytest

from gatewayd.errors import ConfigError
from gatewayd.server.channel import Apply, Channel, ChannelError, Drain, Listen, Ready, ReopenLogs, Status, Tell
from gatewayd.server.worker import Worker

from .standin import BROKEN, REFUSED, StandIn

WAIT = 20


def document(name="gatewayd", **gateway):
    return msgspec.msgpack.encode({"gateway": {"name": name, **gateway}})


async def deaf(message, socks):
    raise AssertionError("a worker asks nothing")


class Scene:
    """A worker in this process, and the supervisor's end of its channel."""

    def __init__(self):
        ours, theirs = socket.socketpair()
        self.edges = []
        self.channel = Channel(ours, deaf)
        self.ended = asyncio.ensure_future(Worker(self.make).run(theirs))

    def make(self, secret):
        self.edges.append(StandIn(5, memoryview(b""), None, secret))
        return self.edges[-1]

    async def apply(self, generation=1, name="gatewayd"):
        await self.channel.call(Apply(generation, document(name), {}, b"secret"))

    async def listen(self, **listeners):
        count = [(name, len(socks)) for name, socks in listeners.items()]
        await self.channel.call(Listen(count, False), [sock for socks in listeners.values() for sock in socks])

    async def leave(self):
        await self.channel.call(Drain(WAIT, 0))
        await self.ended


def play(scenario):
    async def run():
        async with asyncio.timeout(WAIT):
            scene = Scene()
            try:
                return await scenario(scene)
            finally:
                scene.channel.close()
                await scene.ended

    before = gc.get_threshold()
    try:
        return asyncio.run(run())
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def ask(sock, text=b"who"):
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(text)
    told = json.loads(await reader.readline())
    return told, writer


async def who(sock):
    told, writer = await ask(sock)
    writer.close()
    return told["listener"], told["generation"]


@pytest.fixture
def socks():
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield made
    for sock in made:
        sock.close()


def test_the_first_apply_makes_and_starts_the_edge_and_settles_memory():
    async def scenario(scene):
        await scene.apply(1)
        await scene.apply(2)
        return [(edge.secret, edge.started, edge.generation) for edge in scene.edges], gc.get_threshold()

    made, thresholds = play(scenario)
    assert made == [(b"secret", 1, 2)]
    assert thresholds == (50_000, 20, 20)


def test_a_refused_document_changes_nothing():
    async def scenario(scene):
        await scene.apply(1)
        with pytest.raises(ConfigError, match="is refused"):
            await scene.apply(2, REFUSED)
        with pytest.raises(ChannelError, match="RuntimeError: broken"):
            await scene.apply(3, BROKEN)
        return scene.edges[0].generation

    assert play(scenario) == 1


def test_an_edge_that_was_refused_at_first_is_made_anew():
    async def scenario(scene):
        with pytest.raises(ConfigError):
            await scene.apply(1, REFUSED)
        await scene.apply(1)
        return [edge.started for edge in scene.edges]

    assert play(scenario) == [0, 1]


def test_it_listens_where_it_is_told_and_nowhere_else(socks):
    one, two, three = socks

    async def scenario(scene):
        await scene.apply()
        edge = scene.edges[0]
        await scene.listen(http=[one], admin=[two])
        assert [await who(one), await who(two)] == [("http", 1), ("admin", 1)]
        kept = edge.servers["http"][0]
        await scene.listen(http=[one, three], admin=[two])
        assert edge.servers["http"][0] is kept
        assert await who(three) == ("http", 1)
        await scene.listen(http=[three, two])
        assert "admin" not in edge.servers
        return await who(two), await who(three), edge.status()["listening"]

    assert play(scenario) == (("http", 1), ("http", 1), {"http": 2})


def test_a_socket_that_moves_between_workers_loses_no_caller(socks):
    one = socks[0]

    async def scenario(scene):
        await scene.apply()
        await scene.listen(http=[one])
        await scene.listen(http=[])
        caller = socket.create_connection(one.getsockname())
        caller.sendall(b"who")
        await scene.listen(http=[one])
        caller.setblocking(False)
        told = await asyncio.get_running_loop().sock_recv(caller, 100)
        caller.close()
        return json.loads(told)["listener"]

    assert play(scenario) == "http"


def test_it_leaves_when_the_last_caller_has(socks):
    async def scenario(scene):
        await scene.apply()
        await scene.listen(http=[socks[0]])
        _, holding = await ask(socks[0], b"hold")
        await scene.channel.call(Drain(WAIT, 0))
        await scene.channel.call(Drain(WAIT, 0))
        await scene.listen(http=[socks[1]])
        held = (await status(scene))["connections"]
        assert not scene.ended.done()
        holding.close()
        await scene.ended
        return held

    assert play(scenario) == 1


def test_it_leaves_at_the_deadline_whoever_holds_it(socks):
    async def scenario(scene):
        await scene.apply()
        await scene.listen(http=[socks[0]])
        _, holding = await ask(socks[0], b"hold")
        await scene.channel.call(Drain(0.01, 0))
        await scene.ended
        holding.close()

    play(scenario)


def test_without_a_supervisor_it_drains_and_leaves(caplog):
    async def scenario(scene):
        await scene.apply()
        scene.channel.close()
        await scene.ended

    play(scenario)
    assert "the supervisor is gone; draining" in caplog.text


@pytest.mark.parametrize("shared", [False, True])
def test_abandoned_it_closes_the_ports_unless_another_daemon_has_them_too(socks, shared):
    async def scenario(scene):
        await scene.apply()
        await scene.channel.call(Listen([("http", 1)], shared), [socks[0]])
        scene.channel.close()
        await scene.ended

    play(scenario)
    with socket.socket() as late:
        late.setblocking(False)
        late.connect_ex(socks[0].getsockname())
        assert bool(select.select([], [late], [], 0.1)[1]) is shared


def test_told_to_leave_before_anything_was_applied():
    async def scenario(scene):
        await scene.leave()

    play(scenario)


async def status(scene):
    return json.loads(await scene.channel.call(Status()))


def test_logs_and_status():
    async def scenario(scene):
        with pytest.raises(ChannelError, match="nothing was applied yet"):
            await scene.channel.call(ReopenLogs())
        await scene.apply()
        await scene.channel.call(ReopenLogs())
        with pytest.raises(ChannelError, match="does not know Ready"):
            await scene.channel.call(Ready())
        return (await status(scene))["reopened"]

    assert play(scenario) == 1


def test_what_it_is_told_goes_to_the_data_path():
    async def scenario(scene):
        await scene.apply()
        return await scene.channel.call(Tell("news", b"today"))

    assert play(scenario) == b'["news today"]'


def test_a_worker_imports_nothing_of_the_control_plane():
    script = "import sys, gatewayd.server.worker, gatewayd.gateway.edge; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {
        "aiohttp",
        "click",
        "rich",
        "prometheus_client",
        "tree_sitter",
        "tomllib",
        "cryptography",
    }
    assert "uvloop" in loaded
