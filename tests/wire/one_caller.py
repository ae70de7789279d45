"""A caller's connection without a socket, and a handler that does nothing but keep the exchange."""

from __future__ import annotations

import socket
from typing import Any

from gatewayd.config.model import Limits, Timeouts
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.rfc.path import PathRules
from gatewayd.wire.downstream import DownstreamConnection
from gatewayd.wire.listener import ListenerState, Settings
from tests.wire.transports import FakeTransport, PromptOutbox


class NoSocket:
    """What a transport says its socket is."""

    family = socket.AF_UNIX

    def fileno(self) -> int:
        return -1


class Sink:
    """A `core.exchange.BodySink` that writes down what it hears."""

    def __init__(self) -> None:
        self.deadline = float("inf")
        self.heard: list[Any] = []

    def expire(self, now: float) -> None:
        self.heard.append("expired")

    def body(self, data: bytes) -> None:
        self.heard.append(data)

    def body_end(self, trailers: Headers) -> None:
        self.heard.append(trailers)

    def caller_gone(self) -> None:
        self.heard.append("gone")

    def pause_reply(self) -> None:
        self.heard.append("pause")

    def resume_reply(self) -> None:
        self.heard.append("resume")


class OneCaller:
    """A connection at a listener; `exchange` is the one begun last, which the test answers."""

    def __init__(self, limits: Limits | None = None, timeouts: Timeouts | None = None) -> None:
        self.clock = FakeClock()
        self.begun: list[Exchange] = []
        self.ended: list[Exchange] = []
        settings = Settings(limits or Limits(), timeouts or Timeouts(), PathRules(), None)
        self.state = ListenerState(
            "http",
            b"http",
            settings,
            self.begun.append,
            lambda exchange, now: self.ended.append(exchange),
            clock=self.clock,
            outbox=PromptOutbox(),
        )
        self.transport = FakeTransport(socket=NoSocket(), peername=("192.0.2.1", 4711))
        self.connection = DownstreamConnection(self.state)
        self.connection.connection_made(self.transport)
        self.sink = Sink()

    @property
    def exchange(self) -> Exchange:
        """The exchange begun last."""
        return self.begun[-1]

    def ask(self, *lines: str, start: str = "GET / HTTP/1.1", body: bytes = b"") -> Exchange:
        """Receive a request; its exchange."""
        self.connection.data_received("\r\n".join([start, "host: a", *lines, "", ""]).encode() + body)
        return self.exchange

    def reply(self, status: int = 200, length: int = 2, first: bytes = b"ok", headers: Headers | None = None) -> None:
        """Answer with a complete reply."""
        self.connection.start_reply(status, headers or [], length, first)
        self.connection.end_reply([])

    def taken(self) -> bytes:
        """What was written since the last call."""
        written, self.transport.written = self.transport.written, b""
        return written

    def pass_time(self, seconds: float) -> None:
        """Let the sweep look once a second."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            if self.connection.deadline <= self.clock.now:
                self.connection.expire(self.clock.now)
