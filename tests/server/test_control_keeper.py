"""Keeping the control process: on the right socket, with the right names, and only if it is wanted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import msgspec
import pytest

from gatewayd.observe import metrics
from gatewayd.server import shared_memory
from gatewayd.server.channel import Observe, Ready
from gatewayd.server.control_keeper import ControlKeeper
from gatewayd.server.running import NotRunning, ask
from gatewayd.server.supervisor import Commands

pytestmark = pytest.mark.process
COMMAND = Commands().control
OBSERVE = Observe("127.0.0.1:0", {"(other)": 0})


def play(scenario, command=COMMAND):
    async def answer(message, socks):
        assert message == Ready()
        return msgspec.json.encode({"ready": True})

    async def run():
        memory = shared_memory.create(metrics.size_bytes(1))
        socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        keeper = ControlKeeper(command, memory, os.environ, answer)
        try:
            async with asyncio.timeout(30):
                return await scenario(keeper, socks)
        finally:
            await keeper.end()
            os.close(memory)
            for sock in socks:
                sock.close()

    return asyncio.run(run())


async def ready(sock):
    address = "{}:{}".format(*sock.getsockname())
    return await asyncio.to_thread(ask, address, "GET", "/readyz", 20.0)


def test_it_runs_where_it_is_wanted():
    async def scenario(keeper, socks):
        await keeper.match(None, OBSERVE)
        await keeper.match(socks[0], OBSERVE)
        assert await ready(socks[0]) == (200, {"ready": True})
        pid = keeper._kept.child.pid
        await keeper.match(socks[0], Observe("127.0.0.1:0", {"(other)": 0, "a": 1}))
        assert keeper._kept.child.pid == pid
        await keeper.match(socks[1], OBSERVE)
        assert await ready(socks[1]) == (200, {"ready": True})
        await keeper.match(None, OBSERVE)
        socks[1].close()
        with pytest.raises(NotRunning):
            await asyncio.to_thread(ask, "127.0.0.1:1", "GET", "/readyz", 20.0)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        return keeper.restarts

    assert play(scenario) == 0


def test_another_runs_where_calls_are_recorded_from_now_on():
    async def scenario(keeper, socks):
        found = []
        for recorded in (False, True, True, False):
            await keeper.match(socks[0], OBSERVE, recorded)
            assert await ready(socks[0]) == (200, {"ready": True})
            found.append(keeper._kept.child.pid)
        return found, keeper.restarts

    (off, on, still, off_again), restarts = play(scenario)
    assert on == still
    assert len({off, on, off_again}) == 3
    assert restarts == 0


def test_it_comes_back():
    async def scenario(keeper, socks):
        await keeper.match(socks[0], OBSERVE)
        await ready(socks[0])
        os.kill(keeper._kept.child.pid, signal.SIGKILL)
        assert await ready(socks[0]) == (200, {"ready": True})
        return keeper.restarts

    assert play(scenario) == 1


def test_it_runs_at_low_priority():
    async def scenario(keeper, socks):
        await keeper.match(socks[0], OBSERVE)
        await ready(socks[0])
        return os.getpriority(os.PRIO_PROCESS, keeper._kept.child.pid)

    assert play(scenario) == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)


def test_one_that_cannot_start_is_only_logged(caplog):
    async def scenario(keeper, socks):
        await keeper.match(socks[0], OBSERVE)
        while True:
            if "control did not start" in caplog.text:
                return
            await asyncio.sleep(0.01)

    play(scenario, (sys.executable, "-c", "import sys; sys.exit(3)"))
    assert "control ended with status 3 before it was ready" in caplog.text
