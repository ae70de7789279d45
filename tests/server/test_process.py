"""Processes: started, seen ending, started again, let go."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from gatewayd.errors import ConfigError, Fault
from gatewayd.server.channel import ChannelError, Status
from gatewayd.server.process import Backoff, Kept, StartError, describe, numbers, start

from .standin import COMMAND

WAIT = 20


async def deaf(message, socks):
    raise AssertionError(f"nobody calls, yet here is {message}")


def python(script, variable=""):
    """Start a Python script; its channel is `sys.argv[-1]`, or in the environment."""
    return start([sys.executable, "-c", script], deaf, [], os.environ, variable)


def run(coroutine):
    async def timed():
        async with asyncio.timeout(WAIT):
            return await coroutine

    return asyncio.run(timed())


def test_backing_off():
    backoff = Backoff()
    delays = [backoff.after(lived=1.0) for _ in range(9)]
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.after(lived=30.0) == 0.0
    assert backoff.after(lived=29.9) == 0.1


def test_the_end_of_a_process_is_seen():
    async def ends():
        return await python("import sys; sys.exit(7)").exited, await python("import os; os.abort()").exited

    statuses = run(ends())
    assert [describe(status) for status in statuses] == ["ended with status 7", "was killed by SIGABRT"]


def test_a_process_gets_one_end_of_the_channel():
    echo = "import socket, os, sys\nsock = socket.socket(fileno=int({}))\nsock.recv(1)\nsock.close()\nsys.exit(5)"

    async def told(script, variable=""):
        child = python(script, variable)
        with pytest.raises(ChannelError):
            await child.channel.call(Status())
        return await child.exited

    assert run(told(echo.format("sys.argv[-1]"))) == 5
    assert run(told(echo.format("os.environ['OF_CHANNEL']"), "OF_CHANNEL")) == 5


def test_only_what_is_passed_on_is_open():
    async def leak():
        with open("/dev/null") as passed, open("/dev/null") as kept:  # noqa: ASYNC230
            os.set_inheritable(kept.fileno(), True)
            script = (
                f"import os; os.fstat({passed.fileno()})\ntry: os.fstat({kept.fileno()})\nexcept OSError: os._exit(9)"
            )
            return await start([sys.executable, "-c", script], deaf, [passed.fileno()], os.environ).exited

    assert run(leak()) == 9


def test_signals_wait_until_a_process_knows_what_to_do():
    """Each is born with the supervisor's signals blocked; a worker then ignores them."""
    script = (
        "import signal, os\n"
        "blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "from gatewayd.server.process import ignore_signals\n"
        "ignore_signals()\n"
        "left = signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "os._exit(len(blocked) * 10 + len(left))\n"
    )

    async def ends():
        return await python(script).exited

    assert run(ends()) == 60
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_ending_what_does_not_end_by_itself():
    async def end():
        child = python("import time; time.sleep(99)")
        await child.end(within=0.0)
        child.send_signal(signal.SIGTERM)  # nobody there, nobody hurt
        return child.exited.result()

    assert run(end()) == -signal.SIGKILL


def test_numbers_of_a_command_line():
    assert numbers(["--index", "3", "--memory", "9"]) == {"index": 3, "memory": 9}


class Scene:
    """A kept process whose changes of state are written down."""

    def __init__(self, script="import time; time.sleep(99)", bring_up=None):
        self.states = []
        self.changed = asyncio.Event()
        self.bring_up = bring_up or self.at_once
        self.kept = Kept("it", lambda: python(script), self._bring_up, self._note)

    async def at_once(self, child):
        """Ready as soon as it runs."""

    async def _bring_up(self, child):
        await self.bring_up(child)

    def _note(self):
        self.states.append(self.kept.state)
        self.changed.set()

    async def until(self, state):
        while self.kept.state != state:
            self.changed.clear()
            await self.changed.wait()


def test_a_process_that_dies_is_started_again():
    async def die():
        scene = Scene()
        await scene.kept.start()
        first = scene.kept.child
        first.send_signal(signal.SIGKILL)
        await scene.until("waiting")
        await scene.until("serving")
        second = scene.kept.child
        scene.kept.kill()
        await scene.until("gone")
        return first.pid != second.pid, scene.kept.restarts, scene.states, second.exited.result()

    different, restarts, states, status = run(die())
    assert different
    assert restarts == 1
    assert states == ["starting", "serving", "waiting", "starting", "serving", "draining", "gone"]
    assert status == -signal.SIGKILL


def test_let_go_it_may_end_in_its_own_time_and_stays_away():
    async def leave():
        scene = Scene(
            "import sys; sys.stdin.buffer.raw.read(0); import socket; socket.socket(fileno=int(sys.argv[-1])).recv(1)"
        )
        await scene.kept.start()
        scene.kept.let_go()
        still_runs = not scene.kept.child.exited.done()
        scene.kept.child.channel.close()
        await scene.until("gone")
        return still_runs, scene.states, scene.kept.child.exited.result()

    assert run(leave()) == (True, ["starting", "serving", "draining", "gone"], 0)


def test_what_does_not_get_ready_is_an_error_that_says_why():
    async def closed(child):
        await child.channel.call(Status())

    async def broken(child):
        raise ChannelError("no good")

    async def refused(child):
        raise ConfigError([Fault("a", "is wrong")])

    async def fail(script, bring_up, error, text):
        scene = Scene(script, bring_up)
        with pytest.raises(error, match=text):
            await scene.kept.start()
        await asyncio.shield(scene.kept.child.exited)
        assert scene.kept.state == "gone"

    run(fail("import sys; sys.exit(4)", closed, StartError, "it ended with status 4 before it was ready"))
    run(fail("import time; time.sleep(99)", broken, StartError, "it did not get ready: no good"))
    run(fail("import time; time.sleep(99)", refused, ConfigError, "is wrong"))


def test_it_is_tried_until_it_works(caplog):
    attempts = []

    async def second_time_lucky(child):
        attempts.append(child.pid)
        if len(attempts) < 3:
            raise ChannelError("not yet")

    async def keep():
        scene = Scene(bring_up=second_time_lucky)
        scene.kept.keep()
        await scene.until("serving")
        scene.kept.kill()
        await scene.until("gone")

    run(keep())
    assert len(set(attempts)) == 3
    assert [record.message for record in caplog.records] == ["it did not start: it did not get ready: not yet"] * 2


def test_let_go_while_it_starts():
    async def leave():
        never = asyncio.Event()

        async def slow(child):
            await never.wait()

        scene = Scene(bring_up=slow)
        scene.kept.keep()
        while scene.kept.child is None:
            scene.changed.clear()
            await scene.changed.wait()
            await asyncio.sleep(0)
        scene.kept.let_go()
        return await asyncio.shield(scene.kept.child.exited), scene.kept.state

    assert run(leave())[0] == -signal.SIGKILL


def test_a_worker_survives_what_the_terminal_sends():
    """Ctrl-C reaches every process of the group; only the supervisor may act on it."""

    async def interrupt():
        memory = os.memfd_create("test")
        os.ftruncate(memory, 8)
        arena = os.memfd_create("arena")
        named = ["--index", "0", "--memory", str(memory), "--arena", str(arena)]
        child = start([*COMMAND, *named], deaf, [memory, arena], os.environ)
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGUSR1,
            signal.SIGUSR2,
            signal.SIGQUIT,
        ):
            child.send_signal(number)
        with pytest.raises(ChannelError, match="nothing was applied yet"):
            await child.channel.call(Status())
        child.channel.close()
        os.close(memory)
        os.close(arena)
        return await child.exited

    assert run(interrupt()) == 0
