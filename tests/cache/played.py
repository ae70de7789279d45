"""A cache without sockets: a handler that keeps what it is asked, and callers who write down what they get."""

from __future__ import annotations

import math
from typing import Any

from gatewayd.cache.serving import Cache, Kept, Settings
from gatewayd.cache.stamps import Stamps
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import Route
from gatewayd.rfc.headers import http_date
from tests.support.exchanges import RecordedReply, make_exchange


class Caller(RecordedReply):
    """One caller's connection."""

    def __init__(self) -> None:
        super().__init__()
        self.sink: Any = None
        self.aborted = False
        self.informed: list[int] = []

    def read_body(self, sink: Any) -> None:
        self.sink = sink

    def inform(self, status: int, headers: Headers) -> None:
        self.informed.append(status)

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        self.start_reply(status, headers, length, body)
        self.end_reply([])

    def abort(self) -> None:
        self.aborted = True
        self.sink.caller_gone()


class Handler:
    """The handler's end of a fetch (its `BodySink`), and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Exchange] = []
        self.deadline = math.inf
        self.calls: list[str] = []

    def __call__(self, exchange: Exchange) -> None:
        self.asked.append(exchange)
        exchange.downstream.read_body(self)

    def expire(self, now: float) -> None:
        self.calls.append("expire")
        self.deadline = math.inf

    def caller_gone(self) -> None:
        self.calls.append("gone")

    def pause_reply(self) -> None:
        self.calls.append("pause")

    def resume_reply(self) -> None:
        self.calls.append("resume")


class Play:
    """A cache with `settings`, a clock that stands still, and its handler."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.kept = Kept(1 << 20, self.clock, Stamps(None), 1)
        self.cache = Cache(Settings(**settings), self.kept, self.clock)
        self.handler = Handler()
        self.serve = self.cache.wrap(self.handler)
        self.route = Route("r", self.serve)
        self.route.reply = (self.cache.replied,)

    def ask(self, *headers: tuple[bytes, bytes], **attributes: Any) -> Caller:
        """One request."""
        caller = Caller()
        attributes.setdefault("route", self.route)
        exchange = make_exchange(list(headers), downstream=caller, **attributes)
        exchange.started = self.clock.monotonic()
        self.serve(exchange)
        return caller

    def fresh(self, seconds: int = 60) -> Headers:
        """Headers of a reply that is fresh for so long."""
        return [(b"cache-control", b"max-age=%d" % seconds), (b"date", http_date(self.clock.wall()))]
