"""Handing over to a new daemon: the sockets, the name, the callers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from gatewayd.server.channel import ChannelError, Status
from gatewayd.server.upgrade import Inheritance, Succession, inherit, own_command

from .standin import CRASHING, SLOW
from .standin_daemon import play


def test_nothing_is_inherited_as_a_rule():
    assert inherit({}) == Inheritance()
    assert asyncio.run(Inheritance().take_over()) is False


def test_the_new_daemon_is_started_as_this_one_was():
    assert own_command()[0] == sys.executable
    assert own_command()[1:] == sys.orig_argv[1:]


HEIR = """
import asyncio, os, sys
from gatewayd.server.upgrade import inherit
inheritance = inherit(os.environ)
assert not [name for name in os.environ if name.startswith(("GATEWAYD_INHERITED", "WATCHDOG_PID"))]
(sock,) = inheritance.sockets["here"]
assert not os.get_inheritable(sock.fileno())
sock.setblocking(True)
sock.accept()[0].sendall(b"heir")
{}
"""


def attempt(script, leave):
    async def run():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            caller = socket.create_connection(sock.getsockname())
            environ = {**os.environ, "WATCHDOG_PID": "1"}
            succession = Succession(leave)
            try:
                async with asyncio.timeout(20):
                    await succession.attempt([sys.executable, "-c", script], [("here", [sock])], environ)
                    await succession._child.exited
                return caller.recv(10)
            finally:
                caller.close()

    return asyncio.run(run())


def test_an_heir_gets_the_sockets_and_takes_over():
    left = []

    async def leave(pid):
        left.append(pid)

    assert attempt(HEIR.format("assert asyncio.run(inheritance.take_over())"), leave) == b"heir"
    assert len(left) == 1


def test_an_heir_that_fails_takes_nothing():
    async def leave(pid):
        pytest.fail("nobody took over")

    with pytest.raises(ChannelError, match="the new daemon ended with status 3"):
        attempt("import sys; sys.exit(3)", leave)


def test_the_old_daemon_may_be_gone_already():
    ours, theirs = socket.socketpair()
    theirs.close()
    assert asyncio.run(Inheritance({}, ours).take_over()) is False


def test_an_heir_may_only_take_over():
    async def run():
        succession = Succession(lambda pid: pytest.fail("nobody took over"))
        with pytest.raises(ChannelError):
            await succession._serve(Status(), [])

    asyncio.run(run())


@pytest.mark.process
def test_an_upgrade_hands_over_sockets_and_pid_and_ends(tmp_path):
    async def scenario(scene):
        await scene.start()
        first = scene.process.pid
        _, holding = await scene.call(b"hold")
        scene.write(workers=3)
        scene.signal(signal.SIGUSR2)
        await scene.until("has taken over; draining")
        await scene.until("generation 1 serves: workers 3")
        status = await scene.status()
        assert status["pid"] != first
        assert status["listeners"]["http"]["sockets"] == 3
        pids = {each["pid"] for each in status["workers"]}
        assert (await scene.who())["pid"] in pids
        holding.close()
        assert await scene.ended() == 0
        assert (await scene.who())["pid"] in pids
        assert (tmp_path / "gatewayd.pid").read_text() == f"{status['pid']}\n"
        scene.signal(signal.SIGTERM, status["pid"])
        await scene.rest()
        return sorted(os.listdir(tmp_path))

    assert play(tmp_path, scenario) == ["conf.toml"]


@pytest.mark.process
@pytest.mark.parametrize("change", [{"name": CRASHING}, {"workers": 0}])
def test_an_upgrade_that_fails_changes_nothing(tmp_path, change):
    async def scenario(scene):
        await scene.start()
        scene.write(**change)
        scene.signal(signal.SIGUSR2)
        await scene.until("upgrade failed, generation 1 serves on: the new daemon ended with status 1")
        status = await scene.status()
        assert (status["pid"], status["ready"]) == (scene.process.pid, True)
        assert (await scene.who())["pid"] in {each["pid"] for each in status["workers"]}
        return (tmp_path / "gatewayd.pid").read_text() == f"{status['pid']}\n"

    assert play(tmp_path, scenario)


@pytest.mark.process
@pytest.mark.parametrize("late", [False, True])
def test_to_stop_means_the_new_daemon_too(tmp_path, late):
    async def scenario(scene):
        await scene.start()
        scene.write(name=SLOW)
        scene.signal(signal.SIGUSR2)
        await scene.until("upgrading: starting")
        if late:  # when it runs already
            await scene.eventually(lambda: asyncio.sleep(0, heirs(scene)), len)
        scene.signal(signal.SIGTERM)
        assert await scene.ended() == 0
        said = await scene.rest()  # until the last process is gone
        return "took over" in said, sorted(os.listdir(tmp_path))

    assert play(tmp_path, scenario) == (False, ["conf.toml"])


def heirs(scene):
    """The processes of the first daemon's group that run as it does, itself left out."""
    command = Path(f"/proc/{scene.process.pid}/cmdline").read_bytes()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            same = (entry / "cmdline").read_bytes() == command
        except OSError:
            continue
        if same and int(entry.name) != scene.process.pid:
            found.append(int(entry.name))
    return found
