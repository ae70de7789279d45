"""Handing the listening sockets to a new daemon: the old one serves on until the new one's workers do.

The new daemon is started with the old one's command line, so it is whatever version is installed now. It
finds the sockets it inherits in its environment, and a channel to say "take over" on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import msgspec

from gatewayd.server.channel import AnyMessage, Channel, ChannelClosed, ChannelError, TakeOver
from gatewayd.server.process import START_TIMEOUT, Child, describe, start

_log = logging.getLogger(__name__)
_SOCKETS = "GATEWAYD_INHERITED_SOCKETS"
_CHANNEL = "GATEWAYD_INHERITED_CHANNEL"


@dataclass(slots=True)
class Inheritance:
    """What a daemon that is replaced leaves: sockets by key, and the channel to it (None: there is none)."""

    sockets: dict[str, list[socket.socket]] = field(default_factory=dict)
    channel: socket.socket | None = None

    async def take_over(self) -> bool:
        """Tell the old daemon that its callers are looked after. False if there is none to tell."""
        if self.channel is None:
            return False
        channel = Channel(self.channel, _nothing_to_say)
        try:
            await channel.call(TakeOver())
        except ChannelClosed:
            return False
        finally:
            channel.close()
        return True


def inherit(environ: MutableMapping[str, str]) -> Inheritance:
    """What the environment says this daemon inherits; nothing, as a rule. The variables are removed."""
    text, channel = environ.pop(_SOCKETS, ""), environ.pop(_CHANNEL, "")
    if not text:
        return Inheritance()
    descriptors = msgspec.json.decode(text, type=dict[str, list[int]])
    sockets = {key: [_adopt(fd) for fd in fds] for key, fds in descriptors.items()}
    return Inheritance(sockets, _adopt(int(channel)))


class Succession:
    """One attempt to be replaced. `leave` is called with the successor's process id once it serves."""

    def __init__(self, leave: Callable[[int], Awaitable[None]]) -> None:
        self._leave = leave
        self._child: Child | None = None
        self._outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def attempt(
        self,
        command: Sequence[str],
        sockets: Sequence[tuple[str, Sequence[socket.socket]]],
        environ: Mapping[str, str],
    ) -> None:
        """Start the new daemon and wait until it has taken over. Raises `ChannelError` or `OSError`."""
        if self._outcome.done():
            raise ChannelError("this daemon was told to stop")
        descriptors = {key: [sock.fileno() for sock in socks] for key, socks in sockets}
        # The watchdog is asked of the service's main process, which the new daemon is about to become.
        environment = {key: text for key, text in environ.items() if key != "WATCHDOG_PID"}
        environment[_SOCKETS] = msgspec.json.encode(descriptors).decode()
        passed = [fd for fds in descriptors.values() for fd in fds]
        self._child = child = start(command, self._serve, passed, environment, variable=_CHANNEL)
        child.exited.add_done_callback(lambda _: self._settle(False))
        try:
            taken = await asyncio.wait_for(asyncio.shield(self._outcome), START_TIMEOUT)
        except TimeoutError:
            taken = False
        if not taken:
            await child.end(within=0.0)
            raise ChannelError(f"the new daemon {describe(child.exited.result())}")

    def give_up(self) -> None:
        """End the new daemon, unless it has taken over: this one is told to stop, and that means both."""
        if not self._outcome.done() and self._child is not None:
            self._child.send_signal(signal.SIGKILL)
        self._settle(False)

    async def _serve(self, message: AnyMessage, _: list[socket.socket]) -> bytes | None:
        if not isinstance(message, TakeOver) or self._child is None or self._outcome.done():
            raise ChannelError("too late, or out of place")
        self._settle(True)
        await self._leave(self._child.pid)
        return None

    def _settle(self, taken: bool) -> None:
        if not self._outcome.done():
            self._outcome.set_result(taken)


def own_command() -> list[str]:
    """The command line this process was started with, by the interpreter's absolute path."""
    return [sys.executable, *sys.orig_argv[1:]]


def _adopt(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


async def _nothing_to_say(message: AnyMessage, _: list[socket.socket]) -> bytes | None:
    raise ChannelError(f"a new daemon does not know {type(message).__name__}")
