"""How one generation follows another, with a crew that only says what it was told."""

from __future__ import annotations

import asyncio
import os
import socket

import msgspec
import pytest

from gatewayd.errors import ConfigError, Fault
from gatewayd.server import generations as module
from gatewayd.server.generations import Generations
from gatewayd.server.prepare import Rules
from gatewayd.server.process import StartError
from gatewayd.server.shared_memory import Slots
from gatewayd.server.sockets import SocketStore


class Crew:
    """Does everything at once; `wrong` is what the next call of that name raises."""

    def __init__(self):
        self.serving = None
        self.told = []
        self.count = 0
        self.wrong = {}

    def __len__(self):
        return self.count

    def _note(self, name, *details):
        self.told.append((name, *details))
        if error := self.wrong.pop(name, None):
            raise error

    async def hire(self, count):
        self._note("hire", count)
        self.count = max(count, self.count)

    async def apply(self, serving):
        self._note("apply", serving.generation)
        self.serving = serving

    async def deal(self):
        self._note("deal")

    async def dismiss(self, count, drain):
        self._note("dismiss", count, drain.timeout)
        self.count = count


CONF = """\
[gateway]
workers = {workers}
drain_timeout = "7s"
[control]
enabled = {control}
address = "127.0.0.1:0"
{listeners}
[routes.{route}]
path = "/*"
reply = {{ body = "hello" }}
"""


class Scene:
    def __init__(self, folder):
        self.folder = folder
        self.crew = Crew()
        self.store = SocketStore()
        self.faults = []
        self.rules = lambda: Rules({}, lambda document, locate: self.faults)
        self.generations = Generations(f"{folder}/conf.toml", {}, self.rules, self.store, Slots(100))

    def write(self, workers=2, control="false", route="a", **listeners):
        tables = "\n".join(f'[listeners.{name}]\naddress = "{at}"' for name, at in listeners.items())
        text = CONF.format(workers=workers, control=control, route=route, listeners=tables)
        (self.folder / "conf.toml").write_text(text)

    def told(self):
        told, self.crew.told = self.crew.told, []
        return told

    def held(self):
        return {key: len(socks) for key, socks in self.store.items()}

    async def begin(self, **conf):
        self.write(**conf)
        await self.generations.begin(self.crew)
        return self.told()

    async def advance(self, **conf):
        self.write(**conf)
        await self.generations.advance(self.crew)
        return self.told()


@pytest.fixture
def play(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LAST_HANDSHAKES", 0.0)

    def run(scenario):
        scene = Scene(tmp_path)
        try:
            return asyncio.run(scenario(scene))
        finally:
            scene.store.close(scene.store.keys())

    return run


ANY = "127.0.0.1:0"


def test_the_first_generation(play):
    async def scenario(scene):
        told = await scene.begin(http=ANY, control="true")
        assert list(scene.generations.listening()) == ["http"]
        assert scene.crew.serving.slots == {"a": 1}
        assert msgspec.msgpack.decode(scene.crew.serving.packed)["gateway"]["workers"] == 2
        lines = scene.generations.lines()
        assert lines[0].startswith("listener http: http://127.0.0.1:")
        assert lines[1] == f"control: http://127.0.0.1:{scene.generations.control().getsockname()[1]}"
        status = scene.generations.status()
        assert (status["routes"], status["listeners"]["http"]["sockets"], len(status["held"])) == (1, 2, 2)
        return told

    assert play(scenario) == [("hire", 2), ("deal",)]


def test_a_port_gets_its_further_sockets_when_there_are_workers_for_them(play):
    async def scenario(scene):
        async def hire(count):
            assert scene.held() == {f"http={ANY}": 1}

        scene.crew.hire = hire
        await scene.begin(http=ANY)
        return scene.held()

    assert play(scenario) == {f"http={ANY}": 2}


def test_a_start_that_workers_refuse_says_all_there_is_to_say(play):
    async def scenario(scene):
        scene.crew.wrong["hire"] = ConfigError([Fault("routes.a", "one thing")])
        scene.faults = [Fault("routes.a", "one thing"), Fault("routes.a.path", "and another")]
        with pytest.raises(ConfigError) as refused:
            await scene.begin(http=ANY)
        return [(fault.path, os.path.basename(fault.file), fault.line > 0) for fault in refused.value.faults]

    assert play(scenario) == [("routes.a", "conf.toml", True), ("routes.a.path", "conf.toml", True)]


def test_a_reload_keeps_sockets_and_rows(play):
    async def scenario(scene):
        await scene.begin(http=ANY)
        before = scene.generations.listening()["http"]
        told = await scene.advance(http=ANY, route="b")
        assert scene.generations.listening()["http"] == before
        assert scene.crew.serving.slots == {"b": 2}
        assert scene.generations.number == 2
        return told

    assert play(scenario) == [("apply", 2), ("hire", 2), ("deal",)]


def test_more_workers_then_fewer(play):
    async def scenario(scene):
        await scene.begin(http=ANY)
        more = await scene.advance(http=ANY, workers=3)
        held = scene.held()
        fewer = await scene.advance(http=ANY, workers=1)
        assert scene.held() == held == {f"http={ANY}": 3}
        return more, fewer

    assert play(scenario) == (
        [("apply", 2), ("hire", 3), ("deal",)],
        [("apply", 3), ("hire", 1), ("deal",), ("dismiss", 1, 7.0)],
    )


def test_listeners_come_and_go(play):
    async def scenario(scene):
        await scene.begin(old=ANY, kept=f"unix:{scene.folder}/a.sock")
        old = scene.generations.listening()["old"][0].getsockname()
        await scene.advance(new=ANY, renamed=f"unix:{scene.folder}/a.sock")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(old)
        return {name: len(socks) for name, socks in scene.generations.listening().items()}, sorted(scene.held())

    listening, held = play(scenario)
    assert listening == {"new": 2, "renamed": 1}
    assert held[0] == f"new={ANY}"
    assert held[1].endswith("/a.sock")


def test_the_control_listener_comes_and_goes(play):
    async def scenario(scene):
        await scene.begin(http=ANY)
        assert scene.generations.control() is None
        await scene.advance(http=ANY, control="true")
        assert scene.generations.control() is not None
        assert len(scene.generations.lines()) == 2
        await scene.advance(http=ANY)
        return scene.generations.control()

    assert play(scenario) is None


@pytest.mark.parametrize("step", ["apply", "hire"])
def test_a_generation_that_is_refused_leaves_everything_as_it_was(play, step):
    async def scenario(scene):
        await scene.begin(http=ANY)
        held = scene.held()
        scene.crew.wrong[step] = ConfigError([Fault("routes.b", "is wrong")])
        with pytest.raises(ConfigError) as refused:
            await scene.advance(http=ANY, more=ANY, route="b", workers=3)
        assert scene.held() == held
        assert scene.generations.number == 1
        assert list(scene.generations.listening()) == ["http"]
        assert [(fault.path, fault.line > 0) for fault in refused.value.faults] == [("routes.b", True)]
        return scene.told()

    told = play(scenario)
    assert told == [("apply", 2)] if step == "apply" else [("apply", 2), ("hire", 3), ("apply", 1)]


@pytest.mark.parametrize("error", [StartError("worker 2 ended"), OSError(24, "Too many open files")])
def test_no_more_workers_to_be_had(play, error):
    async def scenario(scene):
        await scene.begin(http=ANY)
        scene.crew.wrong["hire"] = error
        with pytest.raises(ConfigError, match="no more workers could be started"):
            await scene.advance(http=ANY, workers=3)
        return scene.crew.serving.generation

    assert play(scenario) == 1


def test_a_file_that_is_wrong_reaches_no_worker(play):
    async def scenario(scene):
        await scene.begin(http=ANY)
        with pytest.raises(ConfigError, match="unknown option"):
            await scene.advance(http=ANY, route="a]\nno-such-option = 1\n[routes.b")
        scene.faults = [Fault("routes.a.path", "cannot be built")]
        with pytest.raises(ConfigError, match="cannot be built"):
            await scene.advance(http=ANY)
        return scene.told()

    assert play(scenario) == []


def test_no_more_sockets_to_be_had_is_no_reason_to_refuse(play, caplog, monkeypatch):
    async def scenario(scene):
        await scene.begin(http=ANY)
        real = scene.store.open

        def scarce(wanted, workers):
            if workers > 2:
                raise ConfigError([Fault("listeners.http.address", "cannot listen there: Too many open files")])
            return real(wanted, workers)

        monkeypatch.setattr(scene.store, "open", scarce)
        await scene.advance(http=ANY, workers=3)
        return scene.held()

    assert play(scenario) == {f"http={ANY}": 2}
    assert "Too many open files" in caplog.text


def test_closing_down(play):
    async def scenario(scene):
        await scene.begin(http=ANY, control="true")
        waiting = socket.create_connection(scene.generations.listening()["http"][0].getsockname())
        await scene.generations.close_ports()
        queued = [sock for sock in scene.generations.listening()["http"] if _accepts(sock)]
        scene.generations.forget_ports()
        waiting.close()
        return len(queued), list(scene.held())

    assert play(scenario) == (1, [f"(control)={ANY}"])


def _accepts(sock):
    try:
        sock.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def test_inherited_sockets_nobody_wants_are_closed(play):
    async def scenario(scene):
        extra = socket.create_server(("127.0.0.1", 0))
        key = f"127.0.0.1:{extra.getsockname()[1]}"
        scene.store = SocketStore({key: [extra]})
        scene.generations = Generations(f"{scene.folder}/conf.toml", {}, scene.rules, scene.store, Slots(100))
        await scene.begin(http=ANY)
        assert key in scene.held()
        scene.generations.forget_the_rest()
        return list(scene.held())

    assert play(scenario) == [f"http={ANY}"]
