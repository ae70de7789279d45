"""Processes the supervisor starts: with exec, so that nothing of it leaks into them; again when they die."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Literal

from gatewayd.core.tasks import spawn
from gatewayd.errors import ConfigError, GatewaydError
from gatewayd.server.channel import Channel, ChannelClosed, ChannelError, Serve

_log = logging.getLogger(__name__)
SIGNALS = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
"""What the supervisor is told by signal. The others never act on them, not even in their first moments."""
START_TIMEOUT = 60.0
"""Seconds a process has to get ready."""
_HEALTHY_AFTER = 30.0
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0


class StartError(GatewaydError):
    """A process did not get ready."""


class Child:
    """A running process and the channel to it. `exited` ends with its exit status, negative for a signal."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.pid = process.pid
        self.channel = channel
        self.started = time.monotonic()
        self._process = process
        self._loop = asyncio.get_running_loop()
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        if not self.exited.done():
            self._process.send_signal(number)

    async def end(self, within: float) -> None:
        """Wait so many seconds for its end, then kill it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.exited), within)
            return
        self.send_signal(signal.SIGKILL)
        await asyncio.shield(self.exited)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self.channel.close()
        if not self.exited.done():
            self.exited.set_result(status)


def start(
    command: Sequence[str],
    serve: Serve,
    pass_fds: Sequence[int],
    environ: Mapping[str, str],
    variable: str = "",
) -> Child:
    """Start `command`, with the descriptor of its end of the channel in its environment as `variable`.

    Without `variable` it is an argument: `--channel FD`. Raises `OSError`.
    """
    ours, theirs = socket.socketpair()
    number = str(theirs.fileno())
    arguments = list(command) if variable else [*command, "--channel", number]
    environment = {**environ, variable: number} if variable else dict(environ)
    with theirs, _signals_held():
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            arguments, pass_fds=(theirs.fileno(), *pass_fds), env=environment
        )
    return Child(process, Channel(ours, serve))


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """A process started inside is born with these signals blocked, until it knows what to do."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_signals() -> None:
    """In a started process: what Ctrl-C and service managers send to the whole group is the supervisor's."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def numbers(words: Sequence[str]) -> dict[str, int]:
    """In a started process: the numbers after each `--name` of its command line, by name."""
    return {name.removeprefix("--"): int(number) for name, number in zip(words[::2], words[1::2], strict=True)}


class Backoff:
    """How long to wait before the next start: not at all the first time, then 0.1 s doubling to 5 s."""

    def __init__(self) -> None:
        self._delay = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait after a process that lived for `lived` seconds; half a minute forgives all."""
        if lived >= _HEALTHY_AFTER:
            self._delay = 0.0
        delay = self._delay
        self._delay = min(max(2 * delay, _FIRST_DELAY), _LONGEST_DELAY)
        return delay


State = Literal["starting", "serving", "waiting", "draining", "gone"]


class Kept:
    """A process that is started again whenever it ends, until it is let go.

    `launch` starts it, `bring_up` talks it into serving; `changed` is called whenever `state` is another.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], Child],
        bring_up: Callable[[Child], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self.state: State = "starting"
        self.restarts = 0
        self._launch = launch
        self._bring_up = bring_up
        self._changed = changed
        self._backoff = Backoff()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it; from then on it is kept. Raises `ConfigError`, `StartError` if it does not get ready."""
        try:
            await self._start()
        except BaseException:
            self._enter("gone")
            raise
        self.keep()

    def keep(self) -> None:
        """Start it in the background, however often that takes."""
        self._task = spawn(self._keep(), f"keep {self.name}")

    def let_go(self) -> None:
        """Whatever becomes of it now, it is not started again; if it does not serve, it is killed."""
        if self._task is not None:
            self._task.cancel()
        serving = self.state == "serving"
        if self.child is not None and not serving:
            self.child.send_signal(signal.SIGKILL)
        if self.child is not None and not self.child.exited.done():
            self._enter("draining" if serving else "gone")
            self.child.exited.add_done_callback(lambda _: self._enter("gone"))
        else:
            self._enter("gone")

    def kill(self) -> None:
        """Let it go and end it now."""
        self.let_go()
        if self.child is not None:
            self.child.send_signal(signal.SIGKILL)

    async def _keep(self) -> None:
        if self.child is None:
            await self._revive(lived=0.0)
        while self.child is not None:
            status = await asyncio.shield(self.child.exited)
            lived = time.monotonic() - self.child.started
            self.restarts += 1
            _log.error("%s (pid %d) %s; starting it again", self.name, self.child.pid, describe(status))
            await self._revive(lived)

    async def _revive(self, lived: float) -> None:
        while True:
            self._enter("waiting")
            await asyncio.sleep(self._backoff.after(lived))
            try:
                await self._start()
            except (StartError, ConfigError, OSError) as error:
                _log.error("%s did not start: %s", self.name, error)
                lived = 0.0
            else:
                return

    async def _start(self) -> None:
        self._enter("starting")
        self.child = child = self._launch()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._bring_up(child)
        except ChannelClosed as error:
            await child.end(within=1.0)
            raise StartError(f"{self.name} {describe(child.exited.result())} before it was ready") from error
        except (ChannelError, TimeoutError) as error:
            await child.end(within=0.0)
            raise StartError(f"{self.name} did not get ready: {str(error) or 'it took too long'}") from error
        except ConfigError:
            await child.end(within=0.0)
            raise
        except BaseException:
            child.send_signal(signal.SIGKILL)
            raise
        self._enter("serving")

    def _enter(self, state: State) -> None:
        self.state = state
        self._changed()


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with status {status}"
    return f"was killed by {signal.Signals(-status).name}"
