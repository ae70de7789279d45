"""The part of a caller's connection that takes request bodies: framing read, limits held, pieces handed on."""

from __future__ import annotations

import math

from gatewayd.core.exchange import UNKNOWN_LENGTH, BodySink, Exchange
from gatewayd.core.problem import answer, problem
from gatewayd.errors import RequestError
from gatewayd.wire.expiring import Expiring
from gatewayd.wire.framing import ChunkedReader, FramingError, LengthReader
from gatewayd.wire.listener import ListenerState
from gatewayd.wire.replying import BODY, WAIT
from gatewayd.wire.watch import INTERVAL, BodyWatch


class Receiving(Expiring):
    """Request bodies. A piece that comes before anyone asked for it waits, and nothing more is read meanwhile."""

    __slots__ = ("early", "early_end")

    def __init__(self, state: ListenerState) -> None:
        super().__init__(state)
        self.early: list[bytes] | None = None  # body that came before anyone asked for it
        self.early_end = False

    def _expect_body(self, exchange: Exchange) -> None:
        length = exchange.body_length
        self.phase = BODY
        self.reader = ChunkedReader() if length == UNKNOWN_LENGTH else LengthReader(length)
        self.body_watch = BodyWatch(0, exchange.started)
        self.deadline = exchange.started + INTERVAL

    def _body(self, data: bytes) -> None:
        reader = self.reader
        if reader is None:
            return
        try:
            data = reader.feed(data)
        except FramingError as error:
            self._break_off(RequestError(400, "malformed_body", str(error)))
            return
        if reader.done:
            self.buffer = reader.rest
            self.phase = WAIT
        exchange = self.exchange
        if exchange is None or self.replied:
            if reader.done:
                self._done()  # the rest of a body that was answered already
            return
        exchange.body_received += len(data)
        limit = exchange.body_limit
        if 0 < limit < exchange.body_received:
            self._break_off(RequestError(413, "body_too_large", f"the body is over {limit} bytes"))
            return
        self._deliver(data)

    def _deliver(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            if self.early is None:
                self.early = []
            if data:
                self.early.append(data)
            self.early_end = self.phase == WAIT
            self._pause()
            return
        if data:
            sink.body(data)
        if self.phase == WAIT:
            self._body_complete(sink)

    def _body_complete(self, sink: BodySink) -> None:
        if self.send_watch is None:
            self.deadline = math.inf
        self.body_watch = None
        reader, self.reader = self.reader, None
        if not self.replied:
            sink.body_end(reader.trailers if reader is not None else [])

    def _break_off(self, error: RequestError) -> None:
        """The request turned out wrong after it was handed on: say so if no reply has begun, else abort."""
        sink, self.sink = self.sink, None
        self.keep_alive = False
        self.phase = BODY
        self.reader = None
        if sink is not None:
            sink.caller_gone()
        if self.replying:
            self.abort()
        elif self.exchange is not None:
            answer(self.exchange, problem(error.status, error.code, error.detail))

    def read_body(self, sink: BodySink) -> None:
        self.sink = sink
        if self.early is not None:
            pieces, self.early = self.early, None
            self._resume()  # first, for the sink may pause it again
            for piece in pieces:
                sink.body(piece)
            if self.early_end:
                self.early_end = False
                self._body_complete(sink)

    def pause_body(self) -> None:
        if self.phase == BODY:
            self._pause()

    def resume_body(self) -> None:
        if self.phase == BODY:
            self._resume()

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.paused:
            self.paused = False
            self.transport.resume_reading()
