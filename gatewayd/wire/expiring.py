"""The watching half of a caller's connection: what becomes of callers that are slow, and when."""

from __future__ import annotations

import math

from gatewayd.errors import RequestError
from gatewayd.wire.listener import ListenerState
from gatewayd.wire.replying import BODY, CLOSED, HEAD, LINGER, Replying
from gatewayd.wire.watch import INTERVAL, BodyWatch, SendWatch, unsent


class Expiring(Replying):
    """Deadlines and watches. The worker's sweep calls `expire` when `deadline` is due; nothing is timed per request."""

    __slots__ = ("body_watch", "busy", "eof", "paused", "send_watch")

    def __init__(self, state: ListenerState) -> None:
        super().__init__(state)
        self.busy = False  # heads are being taken from the buffer further up the stack
        self.eof = False  # the caller sends no more
        self.paused = False  # nothing is read at present
        self.body_watch: BodyWatch | None = None
        self.send_watch: SendWatch | None = None

    def _refuse(self, error: RequestError) -> None:
        """Answer `error` in place of an exchange."""

    def _break_off(self, error: RequestError) -> None:
        """The request turned out wrong after it was handed on."""

    def _pause(self) -> None:
        """Read no more."""

    def _heads(self, data: bytes) -> None:
        """Take requests off `data`."""

    def _close(self) -> None:
        """Nothing is to be said any more."""

    def _go_on(self) -> None:
        """Take what came behind the last request."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            self._heads(data)
        elif self.eof:
            self._close()

    def _replies_are_read(self) -> bool:
        """Whether to go on with pipelined requests: not while their replies pile up here."""
        if not self.buffer:
            return True
        self.state.outbox.flush()
        if self.send_watch is None:
            return True
        self.deadline = self.state.clock.monotonic() + INTERVAL
        self._pause()
        return False

    def pause_writing(self) -> None:
        now = self.state.clock.monotonic()
        self.send_watch = SendWatch(now)
        self.deadline = now + INTERVAL
        if self.sink is not None:
            self.sink.pause_reply()
        elif self.phase == HEAD:
            self._pause()

    def resume_writing(self) -> None:
        self.send_watch = None
        if self.sink is not None:
            self.sink.resume_reply()
        elif self.phase == HEAD:
            self.deadline = self.state.clock.monotonic() + self.state.settings.timeouts.keepalive
            self._resume()
            if not self.busy:
                self._go_on()

    def expire(self, now: float) -> None:
        """The sweep found `deadline` passed."""
        self.deadline = math.inf
        timeouts = self.state.settings.timeouts
        if self.phase == LINGER:
            self._lingered(timeouts.send_idle, now)
        elif self.send_watch is not None:
            self.deadline = now + INTERVAL
            if self.send_watch.stalled(self.transport, timeouts.send_idle, now):
                self._give_up("caller_reads_nothing")
        elif self.phase == HEAD:
            self._idle_too_long(timeouts.head)
        elif self.phase == BODY and self.body_watch is not None and self.exchange is not None:
            self.deadline = now + INTERVAL
            received = self.exchange.body_received
            asked = received or not self.exchange.expects_continue  # else it waits for the target's 100 (Continue)
            why = self.body_watch.too_slow(received, bool(asked and not self.paused), timeouts, now)
            if why:
                self._break_off(RequestError(408, "body_too_slow", why))

    def _lingered(self, send_idle: float, now: float) -> None:
        """Close at last; a caller who is still at reading the reply gets the rest of it."""
        self.deadline = now + INTERVAL
        if self.send_watch is None:
            self.send_watch = SendWatch(now)
        if not unsent(self.transport) or self.send_watch.stalled(self.transport, send_idle, now):
            self.phase = CLOSED
            self.transport.abort()

    def _idle_too_long(self, head: float) -> None:
        if self.buffer:
            self._refuse(RequestError(408, "head_too_slow", f"the head was not complete after {head:g} s"))
        else:
            self.phase = CLOSED
            self.transport.close()

    def _give_up(self, reason: str) -> None:
        if self.exchange is not None:
            self.exchange.reason = reason
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.caller_gone()
        self.abort()
