"""Reply heads as bytes: status lines made once, framing decided in one place (RFC 9112 §6.3)."""

from __future__ import annotations

from http import HTTPStatus

from gatewayd.core.exchange import Headers
from gatewayd.core.problem import title

_PHRASES = {status.value: title(status.value).encode() for status in HTTPStatus}
STATUS_LINES = {n: b"HTTP/1.1 %d %b\r\n" % (n, _PHRASES.get(n, b"")) for n in range(100, 600)}

CLOSE = b"connection: close\r\n"
KEEP_ALIVE = b"connection: keep-alive\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"

_pair = b": ".join
_lines = b"\r\n".join


def whole(status: int, headers: Headers, body: bytes) -> bytes:
    """A whole reply on a connection that stays open: the ordinary case, in one go."""
    return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (
        STATUS_LINES[status],
        _lines(map(_pair, headers)),
        len(body),
        body,
    )


def head(status: int, headers: Headers, framing: bytes, body: bytes = b"") -> bytes:
    """A reply's head, and the body behind it that is at hand. `framing` are complete header lines."""
    if not headers:
        return b"%b%b\r\n%b" % (STATUS_LINES[status], framing, body)
    return b"%b%b\r\n%b\r\n%b" % (STATUS_LINES[status], _lines(map(_pair, headers)), framing, body)
