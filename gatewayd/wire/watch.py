"""Watches over callers that are slow on purpose or by misfortune: bodies that drip in, replies that nobody reads.

A watch is looked at about once a second by the worker's sweep; nothing is timed per read or write.
"""

from __future__ import annotations

import array
import fcntl
import math
import socket
import termios
from typing import Any

from gatewayd.config.model import Timeouts

INTERVAL = 1.0
"""Seconds between two looks."""


class BodyWatch:
    """Decides whether a request body still comes in fast enough.

    One that drips in has to keep up the minimum rate; one that pauses has `body_idle` until it goes on. Time during
    which the gateway itself stopped reading (a slow target) does not count.
    """

    __slots__ = ("_active", "_idle", "_looked", "_received", "_start")

    def __init__(self, received: int, now: float) -> None:
        self._start = received
        self._received = received
        self._looked = now
        self._active = 0.0  # seconds of reading
        self._idle = 0.0  # seconds of reading in which nothing came, in a row

    def too_slow(self, received: int, reading: bool, timeouts: Timeouts, now: float) -> str:
        """Why the body is to be given up, "" if it is not. `received`: body bytes so far."""
        passed, self._looked = now - self._looked, now
        moved, self._received = received != self._received, received
        if not reading:
            self._idle = 0.0
            return ""
        self._active += passed
        self._idle = 0.0 if moved else self._idle + passed
        if self._idle >= timeouts.body_idle:
            return f"nothing of the body came for {timeouts.body_idle:g} s"
        slowest = timeouts.body_min_rate
        if moved and self._active > timeouts.body_grace and (received - self._start) / self._active < slowest:
            return f"the body comes at less than {slowest:g} bytes/s"
        return ""


class SendWatch:
    """Decides whether a caller still reads: bytes leaving the kernel's queue count, not only ours.

    (A kernel queue of 4 MiB read at 2.5 KB/s takes no byte from us for minutes, and yet its reader lives.)
    """

    __slots__ = ("_moved", "_pending")

    def __init__(self, now: float) -> None:
        self._pending = math.inf
        self._moved = now

    def stalled(self, transport: Any, limit: float, now: float) -> bool:
        """True when nothing was read for `limit` seconds."""
        pending = unsent(transport)
        if pending != self._pending:
            self._pending = pending
            self._moved = now
        return now - self._moved >= limit


def unsent(transport: Any) -> int:
    """Bytes that the other side's kernel has not acknowledged yet, ours and the kernel's."""
    waiting: int = transport.get_write_buffer_size()
    return waiting + unacknowledged(transport)


def unacknowledged(transport: Any) -> int:
    """Bytes in the kernel's send queue (SIOCOUTQ), 0 where that cannot be told."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    queued = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
    except (OSError, ValueError):  # closed already
        return 0
    return queued[0]


def reset_on_close(transport: Any) -> None:
    """Make the close a reset, so that a caller cannot take a broken-off reply for a complete one."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0 and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
