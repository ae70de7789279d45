"""After an upgrade: two transports, bytes passed on as they come, back-pressure both ways, an idle timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Headers


class Tunnel:
    """Joins a caller's and a target's transport until either ends. A `BodySink` for the caller's connection.

    `on_closed(bytes_in, bytes_out)` is called once, when both sides are closed.
    """

    def __init__(
        self,
        downstream: asyncio.Transport,
        upstream: asyncio.Transport,
        idle: float,
        clock: Clock,
        on_closed: Callable[[int, int], None],
    ) -> None:
        self.near = _End(self, downstream)
        self.far = _End(self, upstream)
        self.near.other, self.far.other = self.far, self.near
        self._idle = idle
        self._clock = clock
        self._on_closed = on_closed
        self._open = 2
        self.deadline = clock.monotonic() + idle

    def start(self, from_caller: bytes, from_target: bytes) -> None:
        """Take the transports over and pass on what was read already."""
        for end in (self.near, self.far):
            end.transport.set_protocol(end)
            end.transport.resume_reading()
        if from_caller:
            self.near.data_received(from_caller)
        if from_target:
            self.far.data_received(from_target)

    def moved(self) -> None:
        """Bytes passed: it is not idle."""
        self.deadline = self._clock.monotonic() + self._idle

    def expire(self, now: float) -> None:
        """Nothing passed for too long."""
        self.deadline = now + self._idle
        self.abort()

    def abort(self) -> None:
        """Close both sides at once."""
        self.near.transport.abort()
        self.far.transport.abort()

    def ended(self) -> None:
        """One side is closed; the other gets what is still in its buffer, then ends."""
        self._open -= 1
        if not self._open:
            self._on_closed(self.near.received, self.far.received)

    # A tunnel is no body: what a `BodySink` hears beside its deadline cannot happen here.
    def body(self, data: bytes) -> None:
        """Never called: the caller's transport has a new protocol."""

    def body_end(self, trailers: Headers) -> None:
        """Never called."""

    def caller_gone(self) -> None:
        """The caller's connection was given up from outside."""
        self.abort()

    def pause_reply(self) -> None:
        """Never called."""

    def resume_reply(self) -> None:
        """Never called."""


class _End(asyncio.Protocol):
    __slots__ = ("other", "over", "received", "transport", "tunnel")

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.other = cast(_End, None)
        self.received = 0
        self.over = False  # it sends no more

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.tunnel.moved()
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def eof_received(self) -> bool:
        """Half-close is passed on; the other direction goes on, unless it is over too (TLS cannot: both end)."""
        self.over = True
        other = self.other.transport
        if self.other.over or other.is_closing() or not (other.can_write_eof() and self.transport.can_write_eof()):
            return False
        other.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.other.transport.is_closing():
            if exc is not None:
                self.other.transport.abort()
            else:
                self.other.transport.close()
        self.tunnel.ended()
