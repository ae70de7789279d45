"""How a fetch's reply streams: to one caller, to several at their own pace, or to nobody.

What the reply is, is decided when its head comes (`cache.fetching`); here is everything behind that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gatewayd.cache.relaying import Relay, Waiter
from gatewayd.core.exchange import BodySink, Exchange, Headers

if TYPE_CHECKING:
    from gatewayd.cache.flights import FlightKey
    from gatewayd.cache.serving import Cache

WAITING, SHARED, OVERFLOWING, PRIVATE, UNWANTED, OVER = range(6)
"""No head yet; all who wait get what is stored; it grew too large to store; it is one caller's alone; nobody wants it,
but the connection is to be kept; nothing comes any more."""
DRAINED = 64 * 1024
"""Bytes of a body nobody wants that are read so that the connection can be kept."""


class Stream:
    """The `Downstream` of a fetch's own exchange, and the `relaying.Source` of those who wait."""

    flight: FlightKey

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.mode = WAITING
        self.kept: dict[str, Any] | None = None  # of a connection of callers; there is none
        self.background = False  # nobody waits from the beginning
        self.waiters: list[Waiter] = []
        self.sink: BodySink | None = None  # the handler's end
        self.relay = Relay()

    def _head(self, status: int, headers: Headers, length: int, first: bytes, complete: bool) -> None:
        """The reply begins; `complete`: with all of its body."""

    def _complete(self) -> None:
        """A reply that is shared has come to its end."""

    def _note_facts(self, exchange: Exchange) -> None:
        """Tell the log what the fetch found out about the target."""

    # -- the callers' side (relaying.Source) ----------------------------------------------------------------------

    def left(self, waiter: Waiter) -> None:
        if waiter not in self.waiters:
            return
        self.waiters.remove(waiter)
        if not self.waiters and not self.background and self.mode != SHARED:
            self._cancel()  # a reply that is being stored is fetched to its end: the next one will want it

    def paused(self, waiter: Waiter) -> None:
        if self.mode in (PRIVATE, OVERFLOWING) and self.sink is not None and all(each.slow for each in self.waiters):
            self.sink.pause_reply()

    def resumed(self, waiter: Waiter) -> None:
        if self.mode != PRIVATE and waiter.begun and self.relay.pump(waiter):
            self.waiters.remove(waiter)
        if self.mode in (PRIVATE, OVERFLOWING) and self.sink is not None and not waiter.slow:
            self.sink.resume_reply()

    def _cancel(self) -> None:
        sink = self.sink
        self._over()
        if sink is not None:
            sink.caller_gone()

    def _over(self) -> None:
        """Nothing comes any more that anybody wants."""
        if self.mode != OVER:
            self.mode = OVER
            self.sink = None
            self.cache.flights.leave(self)
            self.cache.flights.unwatch(self)
            self.cache.flights.buffered -= self.relay.size

    # -- the handler's side (core.exchange.Downstream) ------------------------------------------------------------

    def read_body(self, sink: BodySink) -> None:
        if self.mode != OVER:
            self.sink = sink

    def pause_body(self) -> None:
        """There is no body."""

    def resume_body(self) -> None:
        """There is no body."""

    def inform(self, status: int, headers: Headers) -> None:
        for waiter in self.waiters:
            waiter.exchange.downstream.inform(status, headers.copy())

    def upgrade(self, headers: Headers, protocol: bytes) -> Any:
        raise AssertionError("a fetch asks for no upgrade")

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        self._head(status, headers, length, body, True)

    def start_reply(self, status: int, headers: Headers, length: int, first: bytes = b"") -> None:
        self._head(status, headers, length, first, False)

    def send_body(self, data: bytes) -> None:
        if self.mode == PRIVATE:
            self.waiters[0].exchange.downstream.send_body(data)
        elif self.mode in (SHARED, OVERFLOWING):
            self._take(data)

    def end_reply(self, trailers: Headers) -> None:
        if self.mode == PRIVATE:
            (waiter,) = self.waiters
            self._over()
            waiter.exchange.downstream.end_reply(trailers)
        elif self.mode in (SHARED, OVERFLOWING):
            self.relay.end(trailers)
            if self.mode == SHARED:
                self._complete()
            self._over()
            self._pump_all()
        else:
            self._over()

    def abort(self) -> None:
        waiters, self.waiters = self.waiters, []
        self._over()
        for waiter in waiters:
            self._note_facts(waiter.exchange)
            waiter.exchange.downstream.abort()

    # -- the body -----------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        self.relay.push(data)
        self.cache.flights.buffered += len(data)
        if self.mode == SHARED and self.relay.size > self.cache.largest:
            self.mode = OVERFLOWING
            self.cache.flights.leave(self)
            self.cache.remember_uncacheable(self.flight)
        self._pump_all()
        if self.mode == OVERFLOWING:
            self._limit()

    def _pump_all(self) -> None:
        for waiter in self.waiters.copy():
            if waiter.begun and self.relay.pump(waiter):
                self.waiters.remove(waiter)

    def _limit(self) -> None:
        """It turned out too large to keep. Who is too far behind the others is cut off: there is no going back."""
        if not self.waiters:
            self._cancel()
            return
        self.relay.drop_before(self.waiters)
        while self.relay.held > self.cache.largest and len(self.waiters) > 1:
            last = min(self.waiters, key=lambda each: each.at)
            self.waiters.remove(last)
            last.exchange.reason = "too_slow_to_share"
            last.exchange.downstream.abort()
            self.relay.drop_before(self.waiters)
