"""Heads: from the bytes of one complete head to its parsed form, and nothing half-understood in between.

llhttp (through httptools) reads the grammar; what it leaves to us is checked here: one spelling of the request line,
versions, framing fields that contradict each other, and counts. A head is fed to a fresh parser when its last byte is
in: making a parser costs 0.2 µs, and no state of an earlier message can leak into a later one.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from gatewayd.core.exchange import UNKNOWN_LENGTH, Headers
from gatewayd.errors import RequestError, UpstreamError
from gatewayd.rfc.headers import WITHHELD, WITHHELD_FROM_REPLIES, connection_options, http_date

MAX_LENGTH = 2**63 - 1
"""Largest Content-Length believed (bytes): what an off_t holds."""


class RequestHead(NamedTuple):
    """A request's head, taken apart. `headers` go on to the target, `withheld` do not (`core.exchange`)."""

    method: bytes
    target: bytes
    http_version: bytes
    headers: Headers
    withheld: Headers


class ReplyHead(NamedTuple):
    """A reply's head, taken apart. `length` is the body's in bytes, `UNKNOWN_LENGTH` if it is chunked or open."""

    status: int
    headers: Headers
    withheld: Headers
    length: int
    chunked: bool
    keep_alive: bool


_READ_FROM_REPLIES = WITHHELD_FROM_REPLIES | {b"date"}


class _RequestReader:
    __slots__ = ("complete", "headers", "target", "withheld")

    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []
        self.withheld: Headers = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if WITHHELD[name]:
            self.withheld.append((name, value))
        else:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


class _ReplyReader:
    __slots__ = ("complete", "headers", "withheld")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.withheld: Headers = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _READ_FROM_REPLIES:
            self.withheld.append((name, value))
        else:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_request_head(head: bytes, max_headers: int) -> RequestHead:
    """Parse a complete request head, its empty line included (RFC 9112 §2–5).

    Raises `RequestError`: 400 for anything malformed, 431 for too many fields, 501 for an unknown method,
    505 for a version other than 1.0 and 1.1.
    """
    reader = _RequestReader()
    parser = HttpRequestParser(reader)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserInvalidMethodError:
        raise _unknown_method(head) from None
    except HttpParserError as error:
        raise RequestError(400, "malformed_request", str(error)) from None
    if not reader.complete:
        raise RequestError(400, "malformed_request", "the head ends early")
    method = parser.get_method()
    start = b"%b %b HTTP/1." % (method, reader.target)
    if not head.startswith(start) or head[len(start) + 1 : len(start) + 3] != b"\r\n":
        raise _odd_request_line(head)
    if len(reader.headers) + len(reader.withheld) > max_headers:
        raise RequestError(431, "too_many_headers", f"more than {max_headers} header fields")
    headers, withheld = reader.headers, reader.withheld
    if b" \r\n" in head or b"\t\r\n" in head:
        headers, withheld = _trimmed(headers), _trimmed(withheld)
    return RequestHead(method, reader.target, head[len(start) - 2 : len(start) + 1], headers, withheld)


def _trimmed(headers: Headers) -> Headers:
    return [(name, value.rstrip(b" \t")) for name, value in headers]  # llhttp keeps trailing white space


def _unknown_method(head: bytes) -> RequestError:
    method = head.partition(b" ")[0]
    if method.isalpha() and method.isupper() and len(method) <= 32:
        return RequestError(501, "method_not_implemented", "the method is not known here")
    return RequestError(400, "malformed_request", "Invalid method encountered")


def _odd_request_line(head: bytes) -> RequestError:
    line = head.partition(b"\r\n")[0]
    if line.count(b" ") == 2 and line.rpartition(b" ")[2].startswith(b"HTTP/"):
        return RequestError(505, "version_not_supported", "HTTP/1.0 and HTTP/1.1 are spoken here")
    return RequestError(400, "malformed_request", "the request line is not one method, one target, one version")


def read_reply_head(head: bytes, method: bytes, max_headers: int) -> ReplyHead:
    """Parse a complete reply head to a request with `method`, its empty line included; decide the body's framing.

    RFC 9112 §6.3. Raises `UpstreamError` 502 for anything malformed or ambiguous.
    """
    reader = _ReplyReader()
    parser = HttpResponseParser(reader)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise UpstreamError(502, "malformed_reply", detail=str(error)) from None
    if not reader.complete:
        raise UpstreamError(502, "malformed_reply", detail="the head ends early")
    if head[:7] != b"HTTP/1." or len(reader.headers) + len(reader.withheld) > max_headers:
        raise UpstreamError(502, "malformed_reply", detail="its version or its number of header fields")
    headers, withheld = reader.headers, reader.withheld
    if b" \r\n" in head or b"\t\r\n" in head:
        headers, withheld = _trimmed(headers), _trimmed(withheld)
    status = parser.get_status_code()
    if status > 599:
        raise UpstreamError(502, "malformed_reply", detail="its status is over 599")
    return _framed(status, headers, withheld, method, head[7:8] == b"1")


def _framed(status: int, headers: Headers, withheld: Headers, method: bytes, persistent: bool) -> ReplyHead:
    length, chunked, named, date = UNKNOWN_LENGTH, False, frozenset[bytes](), b""
    for name, value in withheld:
        if name == b"content-length":
            length = _content_length(value, length)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked" or not persistent:
                raise UpstreamError(502, "malformed_reply", detail="its transfer coding is not one chunked")
            chunked = True
        elif name == b"date":
            date = value
        elif name == b"connection":
            options = connection_options([value])
            persistent = b"close" not in options and (persistent or b"keep-alive" in options)
            named |= options
    if chunked and length != UNKNOWN_LENGTH:
        raise UpstreamError(502, "malformed_reply", detail="framed twice")
    if named - _ORDINARY_OPTIONS:
        headers = [pair for pair in headers if pair[0] not in named or pair[0] in _NEVER_NAMED]
    headers.append((b"date", date or http_date(time.time())))  # RFC 9110 §6.6.1
    bodyless = method == b"HEAD" or status < 200 or status in (204, 304)
    if not chunked and length == UNKNOWN_LENGTH and not bodyless:
        persistent = False  # the body ends with the connection
    return ReplyHead(status, headers, withheld, length, chunked, persistent)


_ORDINARY_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
_NEVER_NAMED = frozenset((b"set-cookie", b"cache-control", b"content-type", b"date", b"location", b"www-authenticate"))
"""Reply fields that a `Connection` option cannot take away: a target that names them is mistaken."""


def _content_length(value: bytes, before: int) -> int:
    if before != UNKNOWN_LENGTH or not value.isdigit() or int(value) > MAX_LENGTH:
        raise UpstreamError(502, "malformed_reply", detail="its Content-Length")
    return int(value)
