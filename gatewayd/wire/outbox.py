"""Writes of one loop iteration, made together at its end.

uvloop writes at once, and each write wakes whoever waits at the other end; on a busy worker the other end then runs,
answers one request and sleeps again. What one `epoll_wait` brought is therefore handled first and written afterwards:
the first write wakes the other side, which finds the rest without sleeping in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TOGETHER = 16 * 1024
"""Bytes of a head and the body behind it that are copied into one write; more goes out in pieces."""


class Outbox:
    """What a worker's connections want to write. Heads and whole messages go through it; streams go past it."""

    __slots__ = ("_pending", "before", "turn")

    def __init__(self) -> None:
        self.before: Callable[[], None] | None = None
        """Called before anything is written: what must be known of replies before callers have them."""
        self._pending: list[tuple[asyncio.Transport, bytes]] = []
        self.turn = 0  # counts the flushes: what was given in the present turn is not written yet

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data` before the loop waits again."""
        pending = self._pending
        if not pending:
            asyncio.get_running_loop().call_soon(self.flush)
        pending.append((transport, data))

    def write_now(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data` at once, behind everything pending: so that a stream feels back-pressure piece by piece."""
        if self._pending:
            self.flush()
        if not transport.is_closing():
            transport.write(data)

    def follow(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write `data` behind a head: together with it if it came last and still waits here, else at once."""
        pending = self._pending
        if pending and pending[-1][0] is transport and len(pending[-1][1]) + len(data) <= TOGETHER:
            pending[-1] = (transport, pending[-1][1] + data)
        else:
            self.write_now(transport, data)

    def flush(self) -> None:
        """Write what is pending. Whatever ends or takes over a connection calls this first."""
        if self.before is not None:
            self.before()
        pending, self._pending = self._pending, []
        self.turn += 1
        for transport, data in pending:
            if not transport.is_closing():
                try:
                    transport.write(data)
                except RuntimeError:
                    continue  # closed since: its protocol hears of it
