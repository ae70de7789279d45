"""A target's HTTP/1.1 connection: one request at a time goes out, its reply comes back framed and checked.

A connection goes back to its pool only when both messages ended where they said they would. Bytes that belong to no
request close it: no request may ever be answered with another request's reply.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Protocol, cast

from gatewayd.core.exchange import UNKNOWN_LENGTH, Headers
from gatewayd.errors import UpstreamError
from gatewayd.wire.framing import BodyReader, ChunkedReader, FramingError, LengthReader, chunk, last_chunk
from gatewayd.wire.heads import ReplyHead, may_become_head, read_reply_head
from gatewayd.wire.outbox import Outbox

IDLE, HEAD, BODY, OPEN, TUNNEL, CLOSED = range(6)

MAX_INTERIM = 16
"""Interim replies (1xx) passed on before one final reply; more is a broken target."""


class Receiver(Protocol):
    """Takes what becomes of one request. Behind `reply_end`, `reply_failed`, a complete `reply_head` nothing comes."""

    def reply_informs(self, status: int, headers: Headers) -> None:
        """An interim reply (1xx, not 101)."""
        ...

    def reply_head(self, head: ReplyHead, first: bytes, complete: bool) -> None:
        """The final reply's head with the body bytes that came along; `complete`: they are the whole body."""
        ...

    def reply_body(self, data: bytes) -> None:
        """More of the body, never empty."""
        ...

    def reply_end(self, trailers: Headers) -> None:
        """The body is complete."""
        ...

    def reply_upgrade(self, head: ReplyHead, rest: bytes) -> None:
        """101: the transport is a tunnel's now; `rest` came behind the head already."""
        ...

    def reply_failed(self, error: UpstreamError) -> None:
        """No (complete) reply will come."""
        ...

    def pause_request(self) -> None:
        """The target reads too slowly: send no more of the body until `resume_request`."""
        ...

    def resume_request(self) -> None:
        """Send on."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to a target. `on_free(connection)` offers it for the next request, `on_lost` retires it."""

    __slots__ = (
        "_head", "_interim", "_max_head", "_max_headers", "_method", "_on_free", "_on_lost", "_outbox", "_reader",
        "_request_ended", "_turn", "buffer", "closed", "idle_since", "paused", "phase", "receiver", "served",
        "transport",
    )  # fmt: skip

    def __init__(
        self,
        on_free: Callable[[UpstreamConnection], None],
        on_lost: Callable[[UpstreamConnection], None],
        max_head: int = 64 * 1024,
        max_headers: int = 200,
        outbox: Outbox | None = None,
    ) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.receiver: Receiver | None = None
        self.phase = IDLE
        self.buffer = b""
        self.served = 0  # requests sent
        self.idle_since = 0.0
        self.closed = False
        self.paused = False
        self._on_free = on_free
        self._on_lost = on_lost
        self._outbox = outbox or Outbox()
        self._max_head = max_head
        self._max_headers = max_headers
        self._method = b""
        self._head: ReplyHead = None  # type: ignore[assignment]
        self._reader: BodyReader = None  # type: ignore[assignment]
        self._request_ended = True
        self._interim = 0
        self._turn = 0

    def __repr__(self) -> str:
        return f"<UpstreamConnection served={self.served} {'closed' if self.closed else 'open'} phase={self.phase}>"

    # -- sending ----------------------------------------------------------------------------------------------

    def send_request(self, head: bytes, receiver: Receiver, method: bytes, ended: bool) -> None:
        """Send a head (with the body behind it, if `ended`); `receiver` hears what becomes of it."""
        self.receiver = receiver
        self.phase = HEAD
        self.served += 1
        self._method = method
        self._request_ended = ended
        self._interim = 0
        self._turn = self._outbox.turn
        self._outbox.write(self.transport, head)

    def send_body(self, data: bytes, chunked: bool) -> None:
        """Send body bytes, never empty."""
        if not self.closed:
            self._outbox.follow(self.transport, chunk(data) if chunked else data)

    def end_request(self, trailers: Headers, chunked: bool) -> None:
        """The request is complete."""
        self._request_ended = True
        if chunked and not self.closed:
            self._outbox.write(self.transport, last_chunk(trailers))

    def drop(self) -> None:
        """Close at once, whatever is under way; the receiver hears nothing more."""
        self.receiver = None
        self._shut()

    def discard(self) -> None:
        """Close one that was never used, and not counted yet: nobody hears of it."""
        self.closed = True
        self.phase = CLOSED
        self.transport.abort()

    def readable(self) -> bool:
        """Whether the kernel holds bytes, an end or an error that the loop has not seen yet."""
        sock = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def _shut(self) -> None:
        if not self.closed:
            self.closed = True
            self.phase = CLOSED
            self.transport.abort()
            self._on_lost(self)

    def pause_reply(self) -> None:
        """Read no more of the reply until `resume_reply`."""
        if not self.paused and not self.closed:
            self.paused = True
            self.transport.pause_reading()

    def resume_reply(self) -> None:
        """Read on."""
        if self.paused and not self.closed:
            self.paused = False
            self.transport.resume_reading()

    # -- asyncio ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.pause_request()

    def resume_writing(self) -> None:
        if self.receiver is not None:
            self.receiver.resume_request()

    def eof_received(self) -> bool:
        self._ended(None, True)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(exc, False)

    def _ended(self, exc: Exception | None, said_so: bool) -> None:
        """The target closed, or the connection broke. Only what the target itself ended is complete: a TLS connection
        cut without close_notify ends without an error and without an end (RFC 9112 §9.8)."""
        receiver, self.receiver = self.receiver, None
        phase = self.phase
        self._shut()
        if receiver is None:
            return
        if phase == OPEN and said_so:
            receiver.reply_end([])
        elif phase == HEAD and not self.buffer:
            receiver.reply_failed(UpstreamError(502, "closed_before_reply", "idempotent", str(exc or "")))
        else:
            receiver.reply_failed(UpstreamError(502, "closed_in_reply", detail=str(exc or "")))

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase == HEAD:
            if self._turn == self._outbox.turn:  # nothing of the request is written yet: this is no reply to it
                self._fail(UpstreamError(502, "closed_before_reply", "always"))
                return
            self._heads(self.buffer + data if self.buffer else data)
        elif phase == BODY:
            self._body(data)
        elif phase == OPEN:
            self.receiver.reply_body(data)  # type: ignore[union-attr]
        else:
            self._shut()  # nobody asked for these bytes

    def _fail(self, error: UpstreamError) -> None:
        receiver, self.receiver = self.receiver, None
        self._shut()
        if receiver is not None:
            receiver.reply_failed(error)

    # -- the reply --------------------------------------------------------------------------------------------

    def _heads(self, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end + 4 > self._max_head:
                if len(data) > self._max_head:
                    self._fail(UpstreamError(502, "reply_head_too_large"))
                elif not may_become_head(data):
                    self._fail(UpstreamError(502, "malformed_reply", detail="it does not begin like one"))
                else:
                    self.buffer = data
                return
            self.buffer = b""
            try:
                head = read_reply_head(data[:end], self._method, self._max_headers)
            except UpstreamError as error:
                self._fail(error)
                return
            rest = data[end + 4 :]
            if head.status >= 200:
                self._final(head, rest)
                return
            if head.status == 101:
                self._upgraded(head, rest)
                return
            if not self._inform(head) or not rest:
                return
            data = rest

    def _inform(self, head: ReplyHead) -> bool:
        self._interim += 1
        if self._interim > MAX_INTERIM or head.chunked or head.length != UNKNOWN_LENGTH:
            self._fail(UpstreamError(502, "malformed_reply", detail="interim replies"))
            return False
        self.receiver.reply_informs(head.status, head.headers)  # type: ignore[union-attr]
        return self.phase == HEAD

    def _upgraded(self, head: ReplyHead, rest: bytes) -> None:
        receiver, self.receiver = self.receiver, None
        self.phase = TUNNEL
        receiver.reply_upgrade(head, rest)  # type: ignore[union-attr]

    def _final(self, head: ReplyHead, rest: bytes) -> None:
        self._head = head
        status = head.status
        length = head.length
        receiver: Receiver = self.receiver  # type: ignore[assignment]
        if status == 204 or status == 304 or self._method == b"HEAD" or length == 0:
            if status == 204 and (head.chunked or length > 0):
                rest = rest or b"?"  # a body that cannot be (RFC 9110 §15.3.5), and may be on its way
            self._free(rest)
            receiver.reply_head(head, b"", True)
        elif length > 0:
            left = length - len(rest)
            if left <= 0:
                body = rest[:length] if left else rest
                self._free(rest[length:] if left else b"")
                receiver.reply_head(head, body, True)
            else:
                self.phase = BODY
                self._reader = LengthReader(left)
                receiver.reply_head(head, rest, False)
        elif head.chunked:
            self._first_chunks(head, rest, receiver)
        else:
            self.phase = OPEN
            receiver.reply_head(head, rest, False)

    def _first_chunks(self, head: ReplyHead, rest: bytes, receiver: Receiver) -> None:
        self.phase = BODY
        self._reader = reader = ChunkedReader()
        try:
            first = reader.feed(rest) if rest else b""
        except FramingError as error:
            self._fail(UpstreamError(502, "malformed_reply", detail=str(error)))
            return
        if reader.done:
            self._free(reader.rest)
        receiver.reply_head(head, first, False)
        if reader.done:
            receiver.reply_end(reader.trailers)

    def _body(self, data: bytes) -> None:
        reader = self._reader
        receiver: Receiver = self.receiver  # type: ignore[assignment]
        try:
            body = reader.feed(data)
        except FramingError as error:
            self._fail(UpstreamError(502, "malformed_reply", detail=str(error)))
            return
        if reader.done:
            self._free(reader.rest)
        if body:
            receiver.reply_body(body)
        if reader.done:
            receiver.reply_end(reader.trailers)

    def _free(self, surplus: bytes) -> None:
        """The reply is complete: keep the connection if both sides are where they should be."""
        self.receiver = None
        if self.paused:
            self.resume_reply()
        if surplus or not self._head.keep_alive or not self._request_ended or self.transport.is_closing():
            self._shut()
        else:
            self.phase = IDLE
            self._on_free(self)
