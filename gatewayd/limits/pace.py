"""Bodies at a pace: so many bytes per second for a connection, each way.

A `Paced` stands between the handler and the caller's connection for one exchange, for each the other side: it is the
handler's `Downstream` and the connection's `BodySink`. What may not go out yet it holds, and pauses whoever brings it,
so it never holds more than one read. A request's bytes are handed on as they come, and no more are read until their
time has passed; the caller's system does the waiting. One timer for each way, only while something waits.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from gatewayd.core.exchange import BodySink, Downstream, Exchange, Headers

TICK = 0.1
"""Seconds between two pieces of a body that waits, if it is long enough."""
_SHORTEST = 0.001
"""Seconds a timer is set for at least: rounding must not make it come too early again and again."""
Later = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""Calls a function in so many seconds."""


class Pace:
    """A connection's pace one way: a token bucket of bytes. What went faster than `rate` is due for a while."""

    __slots__ = ("_due", "burst", "rate")

    def __init__(self, rate: float, burst: int) -> None:
        """`rate` in bytes per second; `burst` bytes go at any speed after a pause, a tick's worth at the least."""
        self.rate = rate
        self.burst = max(burst, math.ceil(rate * TICK))
        self._due = -math.inf  # the second at which everything so far would have gone at the rate

    def room(self, now: float) -> int:
        """Bytes that may go at once; below 0 if more has gone already."""
        return self.burst - math.ceil(max(self._due - now, 0.0) * self.rate)

    def spend(self, count: int, now: float) -> None:
        """So many bytes went."""
        self._due = max(self._due, now) + count / self.rate

    def wait(self, count: int, now: float) -> float:
        """Seconds until there is room for `count` bytes, or for a tick's worth if that is less; never none."""
        count = min(count, max(1, int(self.rate * TICK)))
        return max(self._due - now - (self.burst - count) / self.rate, _SHORTEST)


class Paced:
    """One exchange at a pace: `Downstream` of its handler, `BodySink` of its connection."""

    __slots__ = (
        "_bodyless", "_connection", "_held", "_held_back", "_later", "_monotonic", "_reply", "_reply_timer", "_request",
        "_request_timer", "_sink", "_slow_caller", "_slow_target", "_trailers", "_tunnel",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        request: Pace | None,
        reply: Pace | None,
        monotonic: Callable[[], float],
        later: Later | None = None,
    ) -> None:
        """From here on it is `exchange.downstream`. None: no limit that way."""
        self._connection: Downstream = exchange.downstream
        exchange.downstream = self
        self._request, self._reply = request, reply
        self._monotonic = monotonic
        self._later: Later = later or asyncio.get_running_loop().call_later
        self._bodyless = exchange.method == b"HEAD"
        self._sink: BodySink | None = None
        self._held = b""  # of the reply's body
        self._held_back = False  # whoever brings the reply is paused
        self._trailers: Headers | None = None  # of a reply that is complete, but for what is held
        self._slow_caller = self._slow_target = self._tunnel = False
        self._reply_timer: asyncio.TimerHandle | None = None
        self._request_timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """The exchange is over, or a tunnel: nothing waits any more, and what still goes is not counted."""
        for timer in (self._reply_timer, self._request_timer):
            if timer is not None:
                timer.cancel()
        self._reply_timer = self._request_timer = self._reply = self._request = None
        self._held = b""

    # -- the reply: what the handler calls --------------------------------------------------------------------------

    @property
    def kept(self) -> dict[str, Any] | None:
        """The connection's own."""
        return self._connection.kept

    @kept.setter
    def kept(self, kept: dict[str, Any] | None) -> None:
        self._connection.kept = kept

    def inform(self, status: int, headers: Headers) -> None:
        self._connection.inform(status, headers)

    def start_reply(self, status: int, headers: Headers, length: int, first: bytes = b"") -> None:
        if status in (204, 304):
            self._bodyless = True
        room = self._room(first)
        self._connection.start_reply(status, headers, length, first[:room])
        self._hold(first[room:])

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        if not self._bodyless and self._reply is not None and len(body) > self._reply.room(self._monotonic()):
            self.start_reply(status, headers, length, body)
            self.end_reply([])
        else:
            self._room(body)
            self._connection.reply(status, headers, length, body)

    def send_body(self, data: bytes) -> None:
        room = 0 if self._held else self._room(data)
        if room:
            self._connection.send_body(data[:room])
        self._hold(data[room:])

    def end_reply(self, trailers: Headers) -> None:
        if self._held:
            self._trailers = trailers
        else:
            self._connection.end_reply(trailers)

    def abort(self) -> None:
        self.stop()
        self._connection.abort()

    def upgrade(self, headers: Headers, protocol: bytes) -> Any:
        self.stop()
        self._tunnel = True
        return self._connection.upgrade(headers, protocol)

    def tunnel_closed(self) -> None:
        """The tunnel that took the connection over has ended."""
        connection: Any = self._connection
        connection.tunnel_closed()

    def _room(self, data: bytes) -> int:
        """How many of these bytes go at once; they are counted as gone."""
        if self._bodyless or self._reply is None:
            return len(data)
        now = self._monotonic()
        room = max(min(self._reply.room(now), len(data)), 0)
        self._reply.spend(room, now)
        return room

    def _hold(self, data: bytes) -> None:
        if data:
            self._held += data
            self._hold_back()
            self._wait()

    def _wait(self) -> None:
        """Have the next piece go when it is its time, and the caller takes it."""
        if self._reply_timer is None and not self._slow_caller and self._reply is not None:
            seconds = self._reply.wait(len(self._held), self._monotonic())
            self._reply_timer = self._later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._reply_timer = None
        room = self._room(self._held)
        data, self._held = self._held[:room], self._held[room:]
        if data:
            self._connection.send_body(data)
        if self._held:
            self._wait()
        elif self._trailers is not None:
            self._connection.end_reply(self._trailers)
        else:
            self._hold_back()

    def _hold_back(self) -> None:
        """Pause whoever brings the reply while something is held or the caller is slow; else have it go on."""
        wanted = self._slow_caller or self._held != b""
        if wanted == self._held_back or self._sink is None:
            return
        self._held_back = wanted
        if wanted:
            self._sink.pause_reply()
        else:
            self._sink.resume_reply()

    # -- the request's body: what the handler calls -----------------------------------------------------------------

    def read_body(self, sink: BodySink) -> None:
        if self._tunnel:
            self._connection.read_body(sink)
        else:
            self._sink = sink
            self._hold_back()  # a reply may have begun already
            self._connection.read_body(self)

    def pause_body(self) -> None:
        self._slow_target = True
        self._connection.pause_body()

    def resume_body(self) -> None:
        self._slow_target = False
        if self._request_timer is None:
            self._connection.resume_body()

    # -- what the connection calls -----------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """The handler's own."""
        return self._sink.deadline if self._sink is not None else math.inf

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        if self._sink is not None:
            self._sink.deadline = deadline

    def expire(self, now: float) -> None:
        if self._sink is not None:
            self._sink.expire(now)

    def body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.body(data)
        if self._request is None:  # or no more: the handler may have ended the exchange over this
            return
        now = self._monotonic()
        self._request.spend(len(data), now)
        if self._request.room(now) <= 0 and self._request_timer is None:
            self._connection.pause_body()
            self._request_timer = self._later(self._request.wait(self._request.burst, now), self._read_on)

    def _read_on(self) -> None:
        self._request_timer = None
        if not self._slow_target:
            self._connection.resume_body()

    def body_end(self, trailers: Headers) -> None:
        if self._sink is not None:
            self._sink.body_end(trailers)

    def caller_gone(self) -> None:
        self.stop()
        if self._sink is not None:
            self._sink.caller_gone()

    def pause_reply(self) -> None:
        self._slow_caller = True
        if self._reply_timer is not None:
            self._reply_timer.cancel()
            self._reply_timer = None
        self._hold_back()

    def resume_reply(self) -> None:
        self._slow_caller = False
        if self._held:
            self._wait()
        else:
            self._hold_back()
