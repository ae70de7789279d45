"""The supervisor as its operator meets it: real processes, signals, the control listener; a stand-in data path."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket

import pytest

from gatewayd.server.supervisor import raise_file_limit

from .standin import CRASHING, REFUSED
from .standin_daemon import play

pytestmark = pytest.mark.process


def test_from_start_to_drain(tmp_path):
    async def scenario(scene):
        await scene.start()
        assert (await scene.who())["generation"] == 1
        assert await scene.ask("/readyz") == (200, {"ready": True, "state": "serving", "generation": 1})
        assert (tmp_path / "gatewayd.pid").read_text() == f"{scene.process.pid}\n"
        status = await scene.status()
        assert status["pid"] == scene.process.pid
        assert [each["index"] for each in status["workers"]] == [0, 1]
        assert status["listeners"]["http"] == {
            "address": f"127.0.0.1:{scene.port}",
            "sockets": 2,
            "tls": False,
        }
        assert status["last_reload"] is None
        _, holding = await scene.call(b"hold")
        scene.signal(signal.SIGTERM)
        await scene.until("draining")
        found = await scene.eventually(lambda: scene.ask("/readyz"), lambda found: found[1]["state"] == "draining")
        assert found == (503, {"ready": False, "state": "draining", "generation": 1})
        while True:
            try:
                await scene.who()
            except ConnectionRefusedError:
                break
        holding.close()
        assert await scene.ended() == 0
        return sorted(os.listdir(tmp_path)), await scene.rest()

    left, said = play(tmp_path, scenario)
    assert left == ["conf.toml"]
    assert "ERROR" not in said


def test_a_reload_by_signal_and_one_by_request(tmp_path):
    async def scenario(scene):
        await scene.start()
        scene.write(workers=3, listener="renamed")
        scene.signal(signal.SIGHUP)
        await scene.until("generation 2 serves: workers 3")
        told = await scene.who()
        assert (told["generation"], told["listener"]) == (2, "renamed")
        scene.write(workers=1, control="moved", pid="moved")
        assert await scene.ask("/reload", "POST") == (200, {"generation": 3})
        scene.control = f"unix:{tmp_path}/moved.sock"
        status = await scene.status()
        assert status["reloads"] == {"succeeded": 2, "failed": 0}
        assert status["last_reload"]["succeeded"]
        assert status["parts"] == [0, 1, 2]
        return sorted(os.listdir(tmp_path))

    assert play(tmp_path, scenario) == ["conf.toml", "moved.pid", "moved.sock"]


@pytest.mark.parametrize(
    "change", [{"name": REFUSED}, {"name": CRASHING}, {"drain": "soon"}, {"address": "192.0.2.1:1"}]
)
def test_a_reload_that_fails_says_why_and_the_old_generation_serves_on(tmp_path, change):
    async def scenario(scene):
        await scene.start()
        scene.write(**change)
        status, found = await scene.ask("/reload", "POST")
        assert status == 422
        scene.signal(signal.SIGHUP)
        line = await scene.until("reload failed, generation 1 serves on")
        assert "ERROR" in line
        assert (await scene.who())["generation"] == 1
        last = (await scene.status())["last_reload"]
        assert not last["succeeded"]
        fault = found["faults"][0]
        assert any(fault["message"] in text for text in last["faults"])
        return fault["path"]

    paths = {"name": "gateway.name", "drain": "gateway.drain_timeout", "address": "listeners.http.address"}
    path = "reload" if change == {"name": CRASHING} else paths[next(iter(change))]
    assert play(tmp_path, scenario) == path


def test_workers_and_control_process_come_back(tmp_path):
    async def scenario(scene):
        await scene.start()
        before = await scene.status()
        os.kill(before["workers"][0]["pid"], signal.SIGKILL)
        await scene.until("worker 0 (pid")
        assert await scene.who()
        after = await scene.eventually(scene.status, lambda found: found["workers"][0]["state"] == "serving")
        assert after["workers"][0]["restarts"] == 1
        os.kill(control_pid(before["pid"]), signal.SIGKILL)
        await scene.until("control (pid")
        assert await scene.who()
        return (await scene.status())["control"]

    assert play(tmp_path, scenario) == {"restarts": 1}


def control_pid(supervisor):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as command, open(f"/proc/{pid}/stat") as stat:
                if "gatewayd.server.control" in command.read() and int(stat.read().split()[3]) == supervisor:
                    return int(pid)
        except FileNotFoundError:
            continue
    raise AssertionError("no control process")


@pytest.mark.parametrize("signals", [[signal.SIGQUIT], [signal.SIGINT, signal.SIGINT]])
def test_now_means_now(tmp_path, signals):
    async def scenario(scene):
        await scene.start()
        _, holding = await scene.call(b"hold")
        scene.signal(signals[0])
        for number in signals[1:]:
            await scene.until("draining")
            scene.signal(number)
        status = await scene.ended()
        await scene.rest()  # ends only when no worker holds the log any more
        holding.close()
        return status

    assert play(tmp_path, scenario) == 0


def test_logs_are_opened_anew_and_stray_signals_change_nothing(tmp_path):
    async def scenario(scene):
        await scene.start()
        scene.signal(signal.SIGUSR1)
        await scene.eventually(scene.status, lambda found: all(each["edge"]["reopened"] for each in found["workers"]))
        for worker in (await scene.status())["workers"]:
            scene.signal(signal.SIGTERM, worker["pid"])
        return {each["restarts"] for each in (await scene.status())["workers"]}

    assert play(tmp_path, scenario) == {0}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": REFUSED}, "configuration: "),
        ({"name": CRASHING}, "start: worker"),
        ({"workers": 0}, "configuration: "),
        ({"address": "192.0.2.1:1"}, "cannot listen there: no address of this machine"),
    ],
)
def test_a_start_that_fails_leaves_nothing(tmp_path, change, text):
    async def scenario(scene):
        scene.conf |= change
        await scene.start(until=text)
        assert await scene.ended() == 1
        await scene.rest()
        return os.listdir(tmp_path)

    assert play(tmp_path, scenario) == ["conf.toml"]


def test_a_second_daemon_on_the_same_port_is_an_error(tmp_path):
    async def scenario(scene):
        with socket.create_server(("127.0.0.1", scene.port)):
            await scene.start(until="cannot listen there: in use by another process")
            return await scene.ended()

    assert play(tmp_path, scenario) == 1


def test_systemd_is_told(tmp_path):
    async def scenario(scene):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(f"{tmp_path}/notify")
            systemd.setblocking(False)
            scene.environ = {"NOTIFY_SOCKET": f"{tmp_path}/notify", "WATCHDOG_USEC": "20000"}
            heard = []

            async def hear(text):
                while not (heard and text in heard[-1]):
                    heard.append((await asyncio.get_running_loop().sock_recv(systemd, 1000)).decode())

            await scene.start()
            await hear("READY=1\nSTATUS=generation 1")
            await hear("WATCHDOG=1")
            scene.signal(signal.SIGHUP)
            await hear("RELOADING=1")
            await hear("READY=1\nSTATUS=generation 2")
            scene.signal(signal.SIGTERM)
            await hear("STOPPING=1")

    play(tmp_path, scenario)


def test_as_many_files_as_there_may_be():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
