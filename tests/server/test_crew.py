"""The crew: real worker processes with a stand-in for the data path."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket

import msgspec
import pytest

from gatewayd.errors import ConfigError
from gatewayd.observe import metrics
from gatewayd.server import crew as crews
from gatewayd.server.channel import Drain, Tell
from gatewayd.server.crew import Crew, Serving
from gatewayd.server.process import StartError

from .standin import BROKEN, COMMAND, CRASHING, REFUSED

WAIT = 30
PATIENT = Drain(20.0, 0.0)


def serving(generation, name="gatewayd"):
    return Serving(generation, msgspec.msgpack.encode({"gateway": {"name": name}}), {}, b"secret")


class Scene:
    """A crew whose one listener has `count` sockets on one port."""

    def __init__(self, count):
        first = self._bind(0)
        self.port = first.getsockname()[1]
        self.socks = [first, *(self._bind(self.port) for _ in range(count - 1))]
        self.memory = os.memfd_create("test")
        os.ftruncate(self.memory, 8)
        self.arena = os.memfd_create("arena")
        memory = {"memory": self.memory, "arena": self.arena}
        self.crew = Crew(COMMAND, memory, os.environ, lambda: {"http": self.socks})

    @staticmethod
    def _bind(port):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen(64)
        return sock

    async def start(self, count, name="gatewayd"):
        self.crew.serving = serving(1, name)
        await self.crew.hire(count)
        await self.crew.deal()

    async def ask(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"who")
        told = json.loads(await reader.readline())
        writer.close()
        return told

    async def answering(self, callers=40):
        """The workers that answer so many callers."""
        return {told["index"] for told in [await self.ask() for _ in range(callers)]}

    async def until(self, condition):
        """Wait for something of the crew's status to become so."""
        while True:
            if condition(found := await self.crew.status()):
                return found
            await asyncio.sleep(0.01)

    async def listening(self):
        """How many sockets each worker accepts on."""
        return {each["index"]: each["edge"]["listening"].get("http", 0) for each in await self.crew.status()}


def play(count, scenario):
    async def run():
        scene = Scene(count)
        try:
            async with asyncio.timeout(WAIT):
                return await scenario(scene)
        finally:
            await scene.crew.kill()
            for sock in scene.socks:
                sock.close()
            os.close(scene.memory)
            os.close(scene.arena)

    return asyncio.run(run())


def test_each_worker_serves_its_own_socket():
    async def scenario(scene):
        await scene.start(2)
        assert scene.crew.ready
        assert len(scene.crew) == 2
        assert await scene.listening() == {0: 1, 1: 1}
        assert await scene.answering() == {0, 1}
        found = await scene.crew.status()
        assert {each["edge"]["secret"] for each in found} == {b"secret".hex()}
        return [(each["index"], each["state"], each["generation"], each["restarts"]) for each in found]

    assert play(2, scenario) == [(0, "serving", 1, 0), (1, "serving", 1, 0)]


def test_a_generation_is_applied_by_all_or_by_none():
    async def scenario(scene):
        await scene.start(2)
        await scene.crew.apply(serving(2))
        assert {(await scene.ask())["generation"] for _ in range(20)} == {2}
        for name in (REFUSED, BROKEN):
            with pytest.raises(ConfigError) as refused:
                await scene.crew.apply(serving(3, name))
        assert scene.crew.ready
        assert scene.crew.serving.generation == 2
        return [fault.message for fault in refused.value.faults]

    assert play(2, scenario) == [f"worker {index} failed to apply it: RuntimeError: broken" for index in (0, 1)]


def test_a_generation_that_kills_workers_is_refused_and_they_come_back_with_the_old_one():
    async def scenario(scene):
        await scene.start(2)
        with pytest.raises(ConfigError, match="failed to apply it"):
            await scene.crew.apply(serving(2, CRASHING))
        await scene.until(lambda _: scene.crew.ready)
        return {(await scene.ask())["generation"] for _ in range(20)}

    assert play(2, scenario) == {1}


def test_the_others_serve_a_dead_workers_callers_until_it_is_back():
    async def scenario(scene):
        await scene.start(2)
        victim = (await scene.crew.status())[0]
        os.kill(victim["pid"], signal.SIGKILL)
        answers = [await scene.ask() for _ in range(60)]  # none may fail
        assert victim["pid"] not in {told["pid"] for told in answers}
        found = await scene.until(lambda _: scene.crew.ready)
        assert found[0]["restarts"] == 1
        await scene.until(lambda found: all(each["edge"] and each["edge"]["listening"] for each in found))
        return await scene.answering(), await scene.listening()

    assert play(2, scenario) == ({0, 1}, {0: 1, 1: 1})


def test_the_last_workers_callers_wait_for_it():
    async def scenario(scene):
        await scene.start(1)
        before = await scene.ask()
        os.kill(before["pid"], signal.SIGKILL)
        after = await scene.ask()
        return before["pid"] != after["pid"], after["generation"]

    assert play(1, scenario) == (True, 1)


def test_workers_know_whether_the_sockets_are_theirs_alone():
    async def scenario(scene):
        heard = []
        await scene.start(1)
        tell = scene.crew._tell

        async def listen(members, dealt):
            heard.append(scene.crew.shared)
            await tell(members, dealt)

        scene.crew._tell = listen
        for shared in (True, True, False):
            await scene.crew.share(shared)
        return heard

    assert play(1, scenario) == [True, False]


def test_workers_that_leave_give_their_sockets_to_the_others():
    async def scenario(scene):
        await scene.start(3)
        await scene.crew.dismiss(2, PATIENT)
        await scene.crew.gone()
        assert await scene.listening() == {0: 2, 1: 2}
        assert await scene.answering() <= {0, 1}
        await scene.crew.hire(3)
        await scene.crew.deal()
        assert scene.crew.parts == {0, 1, 2}
        return await scene.listening()

    assert play(3, scenario) == {0: 1, 1: 1, 2: 1}


def test_a_worker_that_drains_keeps_its_part_of_memory_to_itself():
    async def scenario(scene):
        await scene.start(2)
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(b"hold")
        holder = json.loads(await reader.readline())["index"]
        scene.crew.drain(PATIENT)
        await scene.until(lambda found: [each["index"] for each in found] == [holder])
        await scene.crew.hire(2)
        assert {each["index"] for each in await scene.crew.status()} == {holder, 2} | ({0, 1} - {holder})
        assert sum(each["state"] == "draining" for each in await scene.crew.status()) == 1
        writer.close()
        await scene.crew.gone()
        return len(await scene.crew.status())

    assert play(2, scenario) == 2


def test_there_is_an_end_to_draining_workers(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_WORKERS", 1)

    async def scenario(scene):
        await scene.start(1)
        with pytest.raises(StartError, match="still draining"):
            await scene.crew.hire(2)

    play(1, scenario)


def test_a_worker_that_does_not_leave_is_ended(monkeypatch, caplog):
    monkeypatch.setattr(crews, "_KILL_AFTER", 0.0)

    async def scenario(scene):
        await scene.start(1)
        pid = (await scene.crew.status())[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        scene.crew.drain(Drain(0.05, 0.0))
        await scene.crew.gone()

    play(1, scenario)
    assert "worker 0 is ended by force: it did not leave in time" in caplog.text


@pytest.mark.parametrize(("name", "error"), [(REFUSED, ConfigError), (CRASHING, StartError), (BROKEN, StartError)])
def test_workers_that_cannot_start_are_gone_again(name, error):
    async def scenario(scene):
        with pytest.raises(error):
            await scene.start(2, name)
        assert len(scene.crew) == 0
        return await scene.crew.status()

    assert play(1, scenario) == []


def test_all_workers_open_their_logs_anew():
    async def scenario(scene):
        await scene.start(2)
        await scene.crew.reopen_logs()
        return [each["edge"]["reopened"] for each in await scene.crew.status()]

    assert play(2, scenario) == [1, 1]


def test_all_workers_are_told():
    async def scenario(scene):
        await scene.start(2)
        return await scene.crew.tell(Tell("news", b"today"))

    assert play(2, scenario) == ["news today", "news today"]


def test_a_worker_that_cannot_be_told_is_an_error(monkeypatch):
    monkeypatch.setattr(crews, "_STATUS_TIMEOUT", 0.05)

    async def scenario(scene):
        await scene.start(1)
        pid = (await scene.crew.status())[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await scene.crew.tell(Tell("news", b""))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    play(1, scenario)


def test_a_worker_that_does_not_answer_does_not_hold_up_the_status(monkeypatch):
    monkeypatch.setattr(crews, "_STATUS_TIMEOUT", 0.05)

    async def scenario(scene):
        await scene.start(1)
        pid = (await scene.crew.status())[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        found = await scene.crew.status()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        return found[0]["state"], found[0]["edge"]

    assert play(1, scenario) == ("serving", None)


def test_what_is_served_does_not_show_the_document():
    assert "hunter2" not in repr(Serving(1, b"hunter2", {}, b"hunter2"))
