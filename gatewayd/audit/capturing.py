"""A tap on one exchange: what goes by is kept up to a limit, and nothing is held back for it.

A `Tap` stands between the caller's connection and everything behind the policy, for each the other side, as
`limits.pace` does. So it sees what the caller sent and what it gets, whoever answers: a target, a cache, a refusal.
What it kept stays in memory until the reply is complete, or the exchange over; then secrets are taken out, and only
then it is a `Captured`, for the recorder to find.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from gatewayd.audit.record import CAPTURED, Captured
from gatewayd.audit.redaction import Redaction, withheld
from gatewayd.core.exchange import BodySink, Downstream, Exchange, Headers

T = TypeVar("T")

OTHER_TYPE = withheld("of a type that is not captured")
OTHER_CODING = withheld("of a content coding that is not undone here")
_BODILESS = (204, 304)
_TAP = ":tap"  # where in `Exchange.context` it stands until then; no instance can have this name

_log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """What is captured of one side."""

    every_header: bool = False
    headers: frozenset[bytes] = frozenset()
    """Lower case."""
    body: int = 0
    """Bytes of it at most."""

    def of(self, headers: Headers) -> Headers:
        """Those of `headers`."""
        names = self.headers
        return [*headers] if self.every_header else [pair for pair in headers if pair[0] in names] if names else []


class Capturing(NamedTuple):
    """What an instance captures, and what it hides of that."""

    request: Wanted
    reply: Wanted
    query: bool
    redaction: Redaction
    keeps_type: Callable[[str], bool]
    """Whether bodies of a media type, lower case, are kept."""
    keeps_status: Callable[[int], bool]


class Body:
    """The beginning of a body."""

    __slots__ = ("coding", "cut", "kind", "pieces", "room")

    def __init__(self, room: int, headers: Headers) -> None:
        """`room` bytes of it are kept. `headers` are those of the message."""
        self.pieces: list[bytes] = []
        self.room = room
        self.cut = True  # until its end has come by
        self.kind = b", ".join([value for name, value in headers if name == b"content-type"]).decode("latin-1")
        self.coding = b", ".join([value for name, value in headers if name == b"content-encoding"]).lower()

    def take(self, data: bytes) -> None:
        """Some more of it."""
        if len(data) <= self.room:
            self.pieces.append(data)
        elif self.room >= 0:
            self.pieces.append(data[: self.room])
        self.room -= len(data)

    def end(self) -> None:
        """That was all."""
        self.cut = self.room < 0

    def kept(self, limit: int, capturing: Capturing) -> tuple[bytes, bool]:
        """What may be written of it, and whether there was more."""
        data, cut = b"".join(self.pieces), self.cut
        if not data:
            return data, cut
        kind, charset = _media_type(self.kind)
        if not capturing.keeps_type(kind):
            return OTHER_TYPE, cut
        if self.coding not in (b"", b"identity"):
            found = decoded(data, self.coding, limit)
            if found is None:
                return OTHER_CODING, cut
            data, complete = found
            cut = cut or not complete
        data = capturing.redaction.body(data, kind, charset, cut)
        return data[:limit], cut or len(data) > limit


class Tap:
    """One exchange: `Downstream` of what is behind, and `BodySink` of the connection if its body is wanted."""

    __slots__ = (
        "_bodiless", "_capturing", "_connection", "_exchange", "_query", "_reply", "_reply_body", "_request",
        "_request_body", "_sink", "_tunnel",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, capturing: Capturing) -> None:
        """From here on it is `exchange.downstream`. `settle` is to be called when the exchange is over."""
        self._connection: Downstream = exchange.downstream
        self._exchange: Exchange | None = exchange
        exchange.downstream = self
        if exchange.context is None:
            exchange.context = {}
        exchange.context[_TAP] = self
        self._capturing = capturing
        self._sink: BodySink | None = None
        self._bodiless = exchange.method == b"HEAD"
        self._tunnel = False
        headers = exchange.headers
        self._request = capturing.request.of([*headers, *exchange.withheld])
        self._query = exchange.query if capturing.query else None
        self._request_body: Body | None = None
        if capturing.request.body and exchange.body_length:
            self._request_body = Body(capturing.request.body, headers)
        self._reply: Headers = []
        self._reply_body: Body | None = None

    def settle(self) -> None:
        """Leave what may be written in the exchange's context, once."""
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.context is None:
            return
        try:
            captured = self.captured(exchange.status)
        except Exception:
            _log.exception("what was captured of a call could not be redacted; it is not kept")
            return
        if captured is not None:
            exchange.context[CAPTURED] = captured

    def let_go(self) -> None:
        """The exchange is over: what leads back to it from here would keep it in memory."""
        self._sink = None

    def captured(self, status: int) -> Captured | None:
        """All that may be written of it; None if calls that end in `status` are not captured."""
        capturing = self._capturing
        if not capturing.keeps_status(status):
            return None
        hide = capturing.redaction
        sent = self._request_body
        request, request_cut = (b"", False) if sent is None else sent.kept(capturing.request.body, capturing)
        got = self._reply_body
        reply, reply_cut = (b"", False) if got is None else got.kept(capturing.reply.body, capturing)
        query = None if self._query is None else hide.query(self._query)
        return Captured(
            hide.headers(self._request), request, request_cut, hide.headers(self._reply), reply, reply_cut, query
        )

    # -- the reply: what handlers call --------------------------------------------------------------------------------

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
        self._head(status, headers, first)
        self._connection.start_reply(status, headers, length, first)

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        self._head(status, headers, body)
        self._replied()
        self._connection.reply(status, headers, length, body)

    def send_body(self, data: bytes) -> None:
        if self._reply_body is not None:
            self._reply_body.take(data)
        self._connection.send_body(data)

    def end_reply(self, trailers: Headers) -> None:
        self._replied()
        self._connection.end_reply(trailers)

    def abort(self) -> None:
        self._connection.abort()

    def upgrade(self, headers: Headers, protocol: bytes) -> Any:
        self._tunnel = True
        self._head(101, headers, b"")
        self._replied()
        return self._connection.upgrade(headers, protocol)

    def tunnel_closed(self) -> None:
        """The tunnel that took the connection over has ended."""
        connection: Any = self._connection
        connection.tunnel_closed()

    def _replied(self) -> None:
        """The reply is complete: the call may be recorded while what is left of its request still comes in."""
        if self._reply_body is not None:
            self._reply_body.end()
        self.settle()

    def _head(self, status: int, headers: Headers, first: bytes) -> None:
        capturing = self._capturing
        if not capturing.keeps_status(status):
            if self._request_body is not None:
                self._request_body.room = -1  # nobody will ask for it
                self._request_body.pieces.clear()
            return
        wanted = capturing.reply
        self._reply = wanted.of(headers)
        if wanted.body and not self._bodiless and status not in _BODILESS and status != 101:
            self._reply_body = body = Body(wanted.body, headers)
            if first:
                body.take(first)

    # -- the request's body: what handlers call, and what the connection does -----------------------------------------

    def read_body(self, sink: BodySink) -> None:
        if self._request_body is None or self._tunnel:
            self._connection.read_body(sink)
        else:
            self._sink = sink
            self._connection.read_body(self)

    def pause_body(self) -> None:
        self._connection.pause_body()

    def resume_body(self) -> None:
        self._connection.resume_body()

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
        if self._request_body is not None:
            self._request_body.take(data)
        if self._sink is not None:
            self._sink.body(data)

    def body_end(self, trailers: Headers) -> None:
        if self._request_body is not None:
            self._request_body.end()
        if self._sink is not None:
            self._sink.body_end(trailers)

    def caller_gone(self) -> None:
        if self._sink is not None:
            self._sink.caller_gone()

    def pause_reply(self) -> None:
        if self._sink is not None:
            self._sink.pause_reply()

    def resume_reply(self) -> None:
        if self._sink is not None:
            self._sink.resume_reply()


def settle(exchange: Exchange) -> None:
    """A log hook: what was not complete is settled as it is."""
    tap = exchange.context.pop(_TAP, None) if exchange.context is not None else None
    if tap is not None:
        tap.settle()
        tap.let_go()


def decoded(data: bytes, coding: bytes, limit: int) -> tuple[bytes, bool] | None:
    """(At most `limit` bytes of the content, whether that is all of it); None: another coding, or damaged.

    RFC 9110 §8.4.1: gzip, and deflate, which some write without the header it asks for.
    """
    if coding in (b"gzip", b"x-gzip"):
        return _inflated(data, 31, limit)
    if coding == b"deflate":
        return _inflated(data, 15, limit) or _inflated(data, -15, limit)
    return None


def _inflated(data: bytes, window: int, limit: int) -> tuple[bytes, bool] | None:
    found = b""
    while data:
        inflating = zlib.decompressobj(window)
        try:
            found += inflating.decompress(data, limit + 1 - len(found))
        except zlib.error:
            return None
        if len(found) > limit or not inflating.eof:
            return found[:limit], False
        data = inflating.unused_data  # another member (RFC 1952 §2.2)
    return found, True


def any_of(conditions: Sequence[Callable[[T], bool]]) -> Callable[[T], bool]:
    """Whether one of `conditions` holds."""
    return lambda value: any(holds(value) for holds in conditions)


def of_type(pattern: str) -> Callable[[str], bool]:
    """Whether a media type is the one of `pattern`, in which one `*` stands for anything."""
    start, star, end = pattern.partition("*")
    if not star:
        return pattern.__eq__
    return lambda kind: len(kind) >= len(start) + len(end) and kind.startswith(start) and kind.endswith(end)


def of_status(text: str) -> Callable[[int], bool]:
    """Whether a status is the one of `text`, `404`, or of its class, `4xx`."""
    return int(text).__eq__ if text.isdigit() else lambda status: status // 100 == int(text[0])


def _media_type(value: str) -> tuple[str, str]:
    """The media type and the charset that a Content-Type says, lower case (RFC 9110 §8.3.1)."""
    kind, _, parameters = value.partition(";")
    charset = ""
    for parameter in parameters.split(";"):
        name, _, text = parameter.partition("=")
        if name.strip().lower() == "charset":
            charset = text.strip().strip('"').lower()
    return kind.strip().lower(), charset
