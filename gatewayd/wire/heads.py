"""Replies' heads: from the bytes of one complete head to its parsed form, or 502. Requests' are `wire.request`'s."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from msgspec import Struct

from gatewayd.core.exchange import UNKNOWN_LENGTH, Headers
from gatewayd.errors import UpstreamError
from gatewayd.rfc.headers import WITHHELD_FROM_REPLIES, connection_options, http_date, is_token
from gatewayd.wire.fields import FieldLines, Kind, Withheld, has_bare_line_end

MAX_DIGITS = 18
"""Digits of the largest Content-Length believed: within what an off_t holds."""

# status-line of RFC 9112 §4; a missing reason phrase often comes without its space
_match_status = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?").fullmatch


class Length(Withheld):
    """A Content-Length that is a number."""


class Lasting(Withheld):
    """`Connection: keep-alive` and nothing more."""


class Dated(Withheld):
    """A Date. It goes on all the same, but it has to be known whether there is one."""


def _sort(name: bytes) -> Kind | Callable[[bytes], Kind]:
    """What most replies hold beside what goes on has a kind of its own, so that nothing is compared twice."""
    if name == b"content-length":
        return lambda value: Length if value.isdigit() and len(value) <= MAX_DIGITS else Withheld
    if name == b"connection":
        return lambda value: Lasting if value.lower() == b"keep-alive" else Withheld
    if name == b"date":
        return Dated
    return Withheld if name in WITHHELD_FROM_REPLIES else None


_lines = FieldLines(_sort)
_known = _lines.known.get
_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd"))
_ORDINARY_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
_NEVER_NAMED = frozenset((b"set-cookie", b"cache-control", b"content-type", b"location", b"www-authenticate"))
"""Reply fields that a `Connection` option cannot take away: a target that names them is mistaken."""


class ReplyHead(Struct, gc=False):
    """A reply's head, taken apart. `length` is the body's in bytes, `UNKNOWN_LENGTH` if it is chunked or open.

    `headers` go on to the caller, `withheld` do not (`core.exchange`).
    """

    status: int
    headers: Headers
    withheld: Headers
    length: int
    chunked: bool
    keep_alive: bool


def read_reply_head(head: bytes, method: bytes, max_headers: int) -> ReplyHead:
    """Parse a complete reply head to a request with `method`, without its empty line; decide the body's framing.

    RFC 9112 §6.3. Raises `UpstreamError` 502 for anything malformed or ambiguous.
    """
    lines = head.split(b"\r\n")
    status, persistent = _statuses.get(lines[0]) or _status(lines[0])
    if len(lines) > max_headers:
        raise UpstreamError(502, "malformed_reply", detail="it has too many header fields")
    headers: Headers = []
    withheld: Headers = []
    length, dated = UNKNOWN_LENGTH, False
    del lines[0]
    try:
        for line in lines:
            field = _known(line) or _lines.read(line)
            kind = field.__class__
            if kind is tuple:
                headers.append(field)
            elif kind is Length:
                if length != UNKNOWN_LENGTH:
                    raise ValueError("its length is said twice")
                length = int(field[1])
            elif kind is Dated:
                headers.append(field)
                dated = True
            elif kind is Lasting:
                persistent = True
            else:
                withheld.append(field)
        chunked = False
        if withheld:
            chunked, persistent = _read_withheld(withheld, headers, persistent, head[7:8] == b"1")
            if length != UNKNOWN_LENGTH and any(name == b"transfer-encoding" for name, _ in withheld):
                raise ValueError("it is framed twice")
    except ValueError as error:
        raise UpstreamError(502, "malformed_reply", detail=str(error)) from None
    if not dated and status >= 200:
        headers.append((b"date", http_date(time.time())))  # RFC 9110 §6.6.1
    if length == UNKNOWN_LENGTH:
        bodyless = method == b"HEAD" or status < 200 or status in (204, 304)
        persistent = persistent and (chunked or bodyless)  # else the body ends with the connection
    return ReplyHead(status, headers, withheld, length, chunked, persistent)


def _read_withheld(withheld: Headers, headers: Headers, persistent: bool, modern: bool) -> tuple[bool, bool]:
    """Whether the body is chunked, and whether the connection persists. Raises `ValueError`."""
    coding = b""
    for name, value in withheld:
        if name == b"content-length":
            raise ValueError("its Content-Length is no number")
        if name == b"transfer-encoding":
            if coding or not modern or not _is_one_coding(value):
                raise ValueError("its transfer coding is not one chunked")
            coding = value.lower()
        elif name == b"connection":
            persistent = _connected(value, persistent, headers)
    return coding == b"chunked", persistent and coding in (b"", b"chunked")


def _is_one_coding(value: bytes) -> bool:
    """`chunked`, or a name that codes nothing, such as `identity` (RFC 2616 §3.6): such a body ends with the connection
    (RFC 9112 §6.3). What is coded in fact is not taken for what it is not."""
    coding = value.lower()
    return coding == b"chunked" or (is_token(coding) and b"chunked" not in coding and coding not in _CODINGS)


_statuses: dict[bytes, tuple[int, bool]] = {}


def _status(line: bytes) -> tuple[int, bool]:
    """Status and whether the connection persists by default; known lines are remembered, 256 at most."""
    match = _match_status(line)
    if match is None:
        raise UpstreamError(502, "malformed_reply", detail="its status line")
    read = int(match[2]), match[1] == b"1"
    if len(_statuses) < 256 and len(line) < 64:
        _statuses[line] = read
    return read


def _connected(value: bytes, persistent: bool, headers: Headers) -> bool:
    """Whether the connection persists; fields that the option names are taken out of `headers`."""
    options = connection_options([value])
    if not options <= _ORDINARY_OPTIONS:
        headers[:] = [pair for pair in headers if pair[0] not in options or pair[0] in _NEVER_NAMED]
    return b"close" not in options and (persistent or b"keep-alive" in options)


def may_become_head(data: bytes, judged: int = 0) -> bool:
    """Whether the beginning of a reply can still become a head: a status line first, and lines that end in CRLF.

    The first `judged` bytes were looked at when they came.
    """
    return data.startswith(b"HTTP/1."[: len(data)]) and not has_bare_line_end(data, judged)
