"""Replies' heads: from the bytes of one complete head to its parsed form, or 502. Requests' are `wire.request`'s."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from gatewayd.core.exchange import UNKNOWN_LENGTH, Headers
from gatewayd.errors import UpstreamError
from gatewayd.rfc.headers import WITHHELD_FROM_REPLIES, connection_options, http_date
from gatewayd.wire.fields import FieldLines

MAX_LENGTH = 2**63 - 1
"""Largest Content-Length believed (bytes): what an off_t holds."""

# status-line of RFC 9112 §4; a missing reason phrase often comes without its space
_match_status = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?").fullmatch
_READ = WITHHELD_FROM_REPLIES | {b"date"}
_lines = FieldLines(_READ.__contains__)
_known = _lines.known.get
_ORDINARY_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade"))
_NEVER_NAMED = frozenset((b"set-cookie", b"cache-control", b"content-type", b"location", b"www-authenticate"))
"""Reply fields that a `Connection` option cannot take away: a target that names them is mistaken."""


class ReplyHead(NamedTuple):
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
    """Parse a complete reply head to a request with `method`, its empty line included; decide the body's framing.

    RFC 9112 §6.3. Raises `UpstreamError` 502 for anything malformed or ambiguous.
    """
    lines = head[:-4].split(b"\r\n")
    status, persistent = _statuses.get(lines[0]) or _status(lines[0])
    if len(lines) > max_headers:
        raise UpstreamError(502, "malformed_reply", detail="it has too many header fields")
    headers: Headers = []
    withheld: Headers = []
    del lines[0]
    try:
        for line in lines:
            field = _known(line) or _lines.read(line)
            if field.__class__ is tuple:
                headers.append(field)
            else:
                withheld.append(field)
    except ValueError as error:
        raise UpstreamError(502, "malformed_reply", detail=str(error)) from None
    length, chunked, date = UNKNOWN_LENGTH, False, b""
    for name, value in withheld:
        if name == b"content-length":
            if length != UNKNOWN_LENGTH or not value.isdigit() or len(value) > 19:
                raise UpstreamError(502, "malformed_reply", detail="its Content-Length")
            length = int(value)
        elif name == b"date":
            date = value
        elif name == b"connection":
            if value != b"keep-alive" or not persistent:
                persistent = _connected(value, persistent, headers)
        elif name == b"transfer-encoding":
            if chunked or value.lower() != b"chunked" or head[7:8] == b"0":
                raise UpstreamError(502, "malformed_reply", detail="its transfer coding is not one chunked")
            chunked = True
    if status >= 200:
        headers.append((b"date", date or http_date(time.time())))  # RFC 9110 §6.6.1
    if length == UNKNOWN_LENGTH or chunked:
        if length != UNKNOWN_LENGTH:
            raise UpstreamError(502, "malformed_reply", detail="it is framed twice")
        bodyless = method == b"HEAD" or status < 200 or status in (204, 304)
        persistent = persistent and (chunked or bodyless)  # else the body ends with the connection
    return ReplyHead(status, headers, withheld, length, chunked, persistent)


def may_become_head(data: bytes) -> bool:
    """Whether `data` can be the beginning of a reply head: what cannot is not waited for."""
    if data[:7] != b"HTTP/1."[: len(data)] or data.count(b"\n") != data.count(b"\r\n"):
        return False
    return b"\r" not in data.replace(b"\r\n", b"")[:-1]


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
