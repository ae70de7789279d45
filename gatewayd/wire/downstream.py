"""A caller's HTTP/1.1 connection: heads become exchanges, replies become bytes, one exchange at a time.

Reading, in phases: HEAD (idle, or part of a head is in) → BODY → WAIT (the request is complete, the reply is not; what
comes now is pipelined and waits) → HEAD … or LINGER (answered early: what still comes is thrown away so that the caller
can read the reply) → CLOSED. There is no task and no timer per request (`wire.expiring`).
"""

from __future__ import annotations

import asyncio
import math
from typing import cast

from gatewayd.core.cidr import holder
from gatewayd.core.exchange import Exchange
from gatewayd.core.problem import answer, problem
from gatewayd.errors import RequestError
from gatewayd.rfc.forwarding import Edges, Sight
from gatewayd.wire import replies
from gatewayd.wire.fields import has_bare_line_end
from gatewayd.wire.listener import ListenerState
from gatewayd.wire.receiving import Receiving
from gatewayd.wire.replying import BODY, CLOSED, HEAD, LINGER, WAIT
from gatewayd.wire.request import LastLines, read_request
from gatewayd.wire.tls import TlsFacts, peer_facts
from gatewayd.wire.watch import INTERVAL, SendWatch

PIPELINED = 64 * 1024
"""Bytes of pipelined requests held while one is answered; then reading stops."""
BLANK_LINES = 4
"""Empty lines ignored before a request line (RFC 9112 §2.2 asks for one at least)."""


class DownstreamConnection(Receiving):
    """One connection of a caller; the `Downstream` of its exchanges."""

    __slots__ = (
        "address", "admitted", "edges", "forwarding", "last", "port", "requests", "sight", "tls",
    )  # fmt: skip

    def __init__(self, state: ListenerState, address: tuple[str, int] | None = None) -> None:
        """`address` is the caller's, where the transport does not tell it (PROXY protocol)."""
        super().__init__(state)
        self.requests = 0
        self.address, self.port = address or ("", 0)
        self.edges: Edges = None  # type: ignore[assignment]
        self.sight: Sight | None = None  # of the last request, and its lines
        self.forwarding = b""
        self.last = LastLines()
        self.tls: TlsFacts | None = None
        self.admitted = False

    # -- the connection's life ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        state = self.state
        if not self.address:
            peer = transport.get_extra_info("peername")
            self.address, self.port = (peer[0], peer[1]) if isinstance(peer, tuple) else ("", 0)
        descriptor = transport.get_extra_info("socket").fileno()
        reason = state.tally.admit(holder(self.address), state.settings.limits, descriptor)
        if reason:
            self.phase = CLOSED
            state.on_refused(reason)
            self._refuse_connection()
            return
        self.admitted = True
        tls = transport.get_extra_info("ssl_object")
        self.tls = None if tls is None else peer_facts(tls)
        self.edges = Edges(state.settings.trusted, self.address, self.port, state.scheme)
        self.deadline = state.clock.monotonic() + state.settings.timeouts.head
        state.connections.add(self)

    def _refuse_connection(self) -> None:
        reply = replies.head(503, [(b"retry-after", b"1")], b"content-length: 0\r\n" + replies.CLOSE)
        self.transport.write(reply)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.phase = CLOSED
        state = self.state
        if self.admitted:
            self.admitted = False
            state.tally.leave(holder(self.address))
            state.connections.discard(self)
        sink, self.sink = self.sink, None
        exchange = self.exchange
        if exchange is not None:
            if not self.replied:
                exchange.status = exchange.status or 499
                exchange.reason = exchange.reason or "caller_gone"
                if sink is not None:
                    sink.caller_gone()
            self._log(exchange)
        self.early = self.reader = None

    def eof_received(self) -> bool:
        """The caller sends no more: what it asked is answered still (half-close), then the connection ends."""
        self.eof = True
        if b"\r\n\r\n" not in self.buffer:
            self.keep_alive = False
        self.state.outbox.flush()
        if self.phase == BODY:
            self._broken_by_eof()
        return self.phase == WAIT and self.tls is None

    def _broken_by_eof(self) -> None:
        """Nothing more comes: what is incomplete never will be."""
        if self.phase == BODY:
            self.phase = CLOSED
            self.state.outbox.flush()
            self.transport.abort()
        elif self.phase == HEAD:
            self._close()

    # -- reading --------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase == HEAD:
            end = data.find(b"\r\n\r\n")
            if end > 0 and end == len(data) - 4 and data[0] != 13 and not self.buffer:
                self._begin(data)  # exactly one head, as nearly always
                return
            self._heads(self.buffer + data if self.buffer else data)
        elif phase == BODY:
            self._body(data)
        elif phase == WAIT:
            self.buffer += data
            if len(self.buffer) > PIPELINED:
                self._pause()

    def _heads(self, data: bytes) -> None:
        """Take requests off `data` until one has to wait, or none is complete."""
        self.busy = True
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or (data[0] == 13 and data[1] == 10):
                data, again = self._partial_head(data)
                if again:
                    continue
                self.buffer = data
                break
            if end == len(data):
                self.buffer = b""
                self._begin(data)
            else:
                self.buffer = data[end:]
                self._begin(data[:end])
            if self.phase == BODY and self.buffer:
                data, self.buffer = self.buffer, b""
                self._body(data)
            if self.phase != HEAD or not self.buffer or not self._replies_are_read():
                break
            data, self.buffer = self.buffer, b""
        self.busy = False
        if self.eof:
            self._broken_by_eof()

    def _partial_head(self, data: bytes) -> tuple[bytes, bool]:
        """(what is left of `data`, whether to look at it again). An incomplete head is refused as soon as it can be."""
        judged = len(self.buffer) - len(data)
        for _ in range(BLANK_LINES):
            if not data.startswith(b"\r\n"):
                break
            data = data[2:]
        else:
            if data.startswith(b"\r\n"):
                self._refuse(RequestError(400, "malformed_request", "too many empty lines before the request line"))
                return b"", False
        if b"\r\n\r\n" in data:
            return data, True
        limits = self.state.settings.limits
        if b"\r\n" not in data and len(data) > limits.target + 64:
            self._refuse(RequestError(414, "target_too_long", f"the target is over {limits.target} bytes"))
        elif len(data) > limits.head:
            self._refuse(RequestError(431, "head_too_large", f"the head is over {limits.head} bytes"))
        elif has_bare_line_end(data, judged + len(data)):
            self._refuse(RequestError(400, "malformed_request", "a line does not end in CRLF"))
        elif data and not self.buffer and self.requests:
            self.deadline = self.state.clock.monotonic() + self.state.settings.timeouts.head
        return (b"", False) if self.phase == LINGER else (data, False)

    def _begin(self, head: bytes) -> None:
        """One complete head: make the exchange and hand it on."""
        state = self.state
        settings = state.settings
        exchange = self._new_exchange(state)
        limits = settings.limits
        try:
            if len(head) > limits.head:
                raise RequestError(431, "head_too_large", f"the head is over {limits.head} bytes")
            keep_alive = read_request(exchange, head, self.last, settings.paths, limits.headers, limits.target)
        except RequestError as error:
            self._refuse(error)
            return
        self.keep_alive = keep_alive and self.requests < limits.requests_per_connection
        edges = self.edges
        exchange.peer_trusted = edges.trusted
        sight = edges.look(exchange.host, exchange.withheld)
        if sight is not self.sight:
            self.sight = sight
            self.forwarding = b"".join([b"%b: %b\r\n" % pair for pair in sight.headers])
        exchange.client, exchange.client_port, exchange.scheme, _ = sight
        exchange.forwarding = self.forwarding
        if exchange.body_length:
            self._expect_body(exchange)
        state.handle(exchange)

    def _new_exchange(self, state: ListenerState) -> Exchange:
        self.requests += 1
        peer = self.edges.peer
        self.exchange = exchange = Exchange(
            self, state.name, state.scheme, peer, self.tls, state.request_ids(), state.clock.monotonic()
        )
        self.phase = WAIT
        self.deadline = math.inf
        self.replying = self.replied = False
        return exchange

    def _refuse(self, error: RequestError) -> None:
        """Answer `error` in place of an exchange."""
        exchange = self.exchange or self._new_exchange(self.state)
        if error.close:
            self.keep_alive = False
            self.buffer = b""
            self.phase = BODY  # what follows means nothing any more
        answer(exchange, problem(error.status, error.code, error.detail))

    def tunnel_closed(self) -> None:
        """The tunnel that took the transport over has ended, and the exchange with it."""
        self.replied = True
        self.connection_lost(None)

    # -- between exchanges --------------------------------------------------------------------------------------

    def _log(self, exchange: Exchange) -> None:
        self.exchange = None
        self.state.finished(exchange, self.state.clock.monotonic())

    def _done(self) -> None:
        """The exchange is over on both sides."""
        exchange = self.exchange
        if exchange is None:
            return
        now = self.state.clock.monotonic()
        self.exchange = self.sink = self.early = self.reader = self.body_watch = None
        self.state.finished(exchange, now)
        if not self.keep_alive:
            self._close()
            return
        self.phase = HEAD
        if self.send_watch is not None:  # the next request waits until this reply is read
            self.deadline = now + INTERVAL
            self._pause()
            return
        self.deadline = now + self.state.settings.timeouts.keepalive
        if self.paused:
            self._resume()
        if (self.buffer or self.eof) and not self.busy and self._replies_are_read():
            self._go_on()

    def _linger(self) -> None:
        """Close without losing the reply: a close with unread input would reset the connection under it."""
        exchange = self.exchange
        self.phase = LINGER
        self.buffer = b""
        self.deadline = self.state.clock.monotonic() + self.state.settings.timeouts.linger
        if exchange is not None:
            self._log(exchange)
        self._resume()
        self.state.outbox.flush()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _close(self) -> None:
        if self.buffer and not self.eof:
            self._linger()
            return
        self.phase = CLOSED
        self.deadline = self.state.clock.monotonic() + INTERVAL
        self.send_watch = self.send_watch or SendWatch(self.deadline)
        self.state.outbox.flush()
        self.transport.close()

    def close_if_idle(self) -> bool:
        """Close the connection if no exchange is on it (the end of a drain's idle grace)."""
        if self.phase == HEAD and not self.buffer:
            self.phase = CLOSED
            self.state.outbox.flush()
            self.transport.close()
            return True
        return False

    def shut_down(self) -> None:
        """Close at once, whatever is under way (the end of a drain)."""
        sink, self.sink = self.sink, None
        if sink is not None:
            sink.caller_gone()
        self.abort()
