"""Keeps the control process running, on the socket the configuration says, and told what metrics mean."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from socket import socket

from gatewayd.core.tasks import spawn
from gatewayd.server.channel import ChannelError, Observe, Serve
from gatewayd.server.process import Child, Kept, start

_GRACE = 1.0
"""Seconds to finish the replies under way; there is nothing else to finish."""


class ControlKeeper:
    """The control process as the supervisor sees it. No traffic depends on it: its failures are only logged."""

    def __init__(self, command: Sequence[str], memory: int, environ: Mapping[str, str], answer: Serve) -> None:
        """`answer` serves what the control process asks; `memory` is the descriptor of the metrics."""
        self._command = command
        self._memory = memory
        self._environ = environ
        self._answer = answer
        self._kept: Kept | None = None
        self._sock: socket | None = None
        self._observe = Observe("", {})
        self._recorded = False
        self._matching = asyncio.Lock()
        self.restarts = 0

    async def match(self, sock: socket | None, observe: Observe, recorded: bool = False) -> None:
        """Run on `sock`, or not at all if that is None, with the metrics' names in `observe`.

        `recorded`: whether calls are. It consists of other parts then, so another is started.
        """
        async with self._matching:
            self._observe = observe
            if sock is not self._sock or recorded != self._recorded:
                await self.end()
            self._sock, self._recorded = sock, recorded
            if sock is not None:
                self._keep()

    async def end(self) -> None:
        """Stop it and see it gone."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        kept.let_go()
        if kept.child is not None:
            kept.child.channel.close()
            await kept.child.end(within=_GRACE)

    def _keep(self) -> None:
        if self._kept is None:
            self._kept = Kept("control", self._launch, self._brief, self._count)
            self._kept.keep()
        elif self._kept.child is not None and self._kept.state == "serving":
            spawn(self._brief_again(self._kept.child), "brief control")

    def _count(self) -> None:
        if self._kept is not None:
            self.restarts = self._kept.restarts

    def _launch(self) -> Child:
        assert self._sock is not None
        passed = {"--memory": self._memory, "--socket": self._sock.fileno()}
        words = [word for name, number in passed.items() for word in (name, str(number))]
        return start([*self._command, *words], self._answer, list(passed.values()), self._environ)

    async def _brief(self, child: Child) -> None:
        await child.channel.call(self._observe)

    async def _brief_again(self, child: Child) -> None:
        with contextlib.suppress(ChannelError):  # one that just died is briefed when it is started again
            await self._brief(child)
