"""The replying half of a caller's connection: framing decided, heads and bodies written."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from gatewayd.core.exchange import BodySink, Exchange, Headers
from gatewayd.wire import replies
from gatewayd.wire.framing import BodyReader, LengthReader, chunk, last_chunk
from gatewayd.wire.listener import ListenerState
from gatewayd.wire.watch import reset_on_close

HEAD, BODY, WAIT, LINGER, CLOSED = range(5)
"""What a connection reads at present (`wire.downstream`)."""

DISCARDED = 64 * 1024
"""Unread body bytes thrown away to keep a connection; with more to come it is closed instead."""


class Replying(asyncio.Protocol):
    """What handlers call to answer (`core.exchange.Downstream`). The reading half is `wire.downstream`'s."""

    __slots__ = (
        "bodyless", "buffer", "chunked_reply", "deadline", "exchange", "keep_alive", "kept", "owed", "phase",
        "reader", "replied", "replying", "sink", "state", "transport",
    )  # fmt: skip

    def __init__(self, state: ListenerState) -> None:
        self.state = state
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.exchange: Exchange | None = None
        self.sink: BodySink | None = None
        self.phase = HEAD
        self.buffer = b""  # of heads to come
        self.kept: dict[str, Any] | None = None
        self.keep_alive = True
        self.deadline = math.inf
        self.reader: BodyReader | None = None  # of the request body; None without one, or if its framing is lost
        self.owed = 0  # bytes of the announced body that are still to come
        self.replying = self.replied = self.chunked_reply = self.bodyless = False

    def _done(self) -> None:
        """The exchange is over on both sides."""

    def _linger(self) -> None:
        """Close without losing the reply."""

    def _resume(self) -> None:
        """Read on."""

    def inform(self, status: int, headers: Headers) -> None:
        exchange = self.exchange
        if exchange is None or self.replying or exchange.http_version == b"1.0" or self.phase == CLOSED:
            return
        if status == 100:
            exchange.expects_continue = False
        self.state.outbox.write_now(self.transport, replies.head(status, headers, b""))

    def start_reply(self, status: int, headers: Headers, length: int, first: bytes = b"") -> None:
        exchange = self.exchange
        if exchange is None or self.phase == CLOSED:
            return
        self.replying = True
        self.bodyless = bodyless = status == 304 or status == 204 or exchange.method == b"HEAD"
        self.chunked_reply = False
        if self.phase == BODY and not self._worth_discarding(exchange):
            self.keep_alive = False
        if length >= 0 and status != 204:
            framing = b"content-length: %d\r\n" % length
        else:
            framing = self._open_framing(exchange)
        if not self.keep_alive or self.state.draining:
            self.keep_alive = False
            framing += replies.CLOSE
        elif exchange.http_version == b"1.0":
            framing += replies.KEEP_ALIVE
        if not first or bodyless:
            first = b""
        else:
            exchange.body_sent += len(first)
            if self.chunked_reply:
                first = chunk(first)
        self.owed = length - exchange.body_sent
        self.state.outbox.write(self.transport, replies.head(status, headers, framing, first))

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        exchange = self.exchange
        if (
            not body
            or self.phase != WAIT
            or not self.keep_alive
            or self.state.draining
            or exchange is None
            or exchange.method == b"HEAD"
            or exchange.http_version != b"1.1"
            or status == 204
            or status == 304
        ):
            self.start_reply(status, headers, length, body)
            self.end_reply([])
            return
        exchange.body_sent = length
        self.replying = self.replied = True
        self.sink = None
        self.state.outbox.write(self.transport, replies.whole(status, headers, body))
        self._done()

    def _open_framing(self, exchange: Exchange) -> bytes:
        """The framing of a body whose length is not known, or that there is none of (RFC 9112 §6.3)."""
        if self.bodyless:
            return b""
        if exchange.http_version == b"1.1":
            self.chunked_reply = True
            return replies.CHUNKED
        self.keep_alive = False
        return b""

    def _worth_discarding(self, exchange: Exchange) -> bool:
        reader = self.reader
        return isinstance(reader, LengthReader) and reader.remaining <= DISCARDED and not exchange.expects_continue

    def send_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None or self.bodyless or self.phase == CLOSED:
            return
        exchange.body_sent += len(data)
        self.owed -= len(data)
        if self.owed == 0:  # the caller will have the whole reply: not before its record is made
            self.state.outbox.write(self.transport, data)
        else:
            self.state.outbox.write_now(self.transport, chunk(data) if self.chunked_reply else data)

    def end_reply(self, trailers: Headers) -> None:
        if self.exchange is None or self.phase == CLOSED:
            return
        if self.chunked_reply:
            self.state.outbox.write(self.transport, last_chunk(trailers))
        self.replied = True
        self.sink = None
        if self.phase != BODY:
            self._done()
            return
        self.state.answered(self.exchange, self.state.clock.monotonic())
        if self.keep_alive:
            self._resume()  # the little that is left of the body is thrown away
        else:
            self._linger()

    def abort(self) -> None:
        self.phase = CLOSED
        sink, self.sink = self.sink, None
        reset_on_close(self.transport)
        self.transport.abort()
        if sink is not None:
            sink.caller_gone()

    def upgrade(self, headers: Headers, protocol: bytes) -> tuple[asyncio.Transport, bytes]:
        """Send 101; returns the transport and what the caller sent already. The connection is no longer HTTP."""
        extra = b"connection: upgrade\r\nupgrade: %b\r\n" % protocol
        if self.exchange is not None:
            self.state.answered(self.exchange, self.state.clock.monotonic())
        self.state.outbox.write(self.transport, replies.head(101, headers, extra))
        self.state.outbox.flush()
        self.phase = WAIT
        self.deadline = math.inf
        data, self.buffer = self.buffer, b""
        self._resume()
        return self.transport, data
