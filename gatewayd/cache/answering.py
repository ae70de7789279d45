"""Replies made from what is stored: whole, of one range, without a body, or 304 (RFC 9110 §13, §14; RFC 9111 §4)."""

from __future__ import annotations

from gatewayd.cache.entry import Entry
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.rfc.conditional import not_modified, range_holds
from gatewayd.rfc.headers import values
from gatewayd.rfc.ranges import Range, content_range, read_range

NOT_IN_304 = frozenset(
    (b"content-type", b"content-encoding", b"content-language", b"content-range", b"content-disposition")
)
"""Fields about content, of which a 304 has none (RFC 9110 §15.4.5)."""
CACHE_STATUS = b"cache-status"


def hit_headers(entry: Entry, now: float, name: bytes) -> Headers:
    """What a hit is answered with at monotonic second `now`; made once a second, to be copied."""
    age = int(now - entry.born)
    if age != entry.made_at:
        entry.made = [
            *entry.headers,
            (b"age", b"%d" % age),
            (CACHE_STATUS, b"%b; hit; ttl=%d" % (name, entry.fresh_until - now)),
        ]
        entry.made_at = age
    return entry.made


def headers_with(entry: Entry, now: float, status: bytes) -> Headers:
    """The stored fields with the present age, and `status` for Cache-Status (RFC 9211)."""
    return [*entry.headers, (b"age", b"%d" % max(0, now - entry.born)), (CACHE_STATUS, status)]


def answer(exchange: Exchange, entry: Entry, headers: Headers, wall: float) -> None:
    """Answer a GET or HEAD from `entry` with its `headers` (a list of the reply's own), as its conditions say.

    `wall` is seconds since the epoch.
    """
    body = entry.body
    if 200 <= entry.status < 300 and not_modified(exchange.headers, entry.held, wall):
        exchange.reply(304, without_content(headers), -1, b"")
    elif entry.status == 200 and exchange.method == b"GET" and (asked := values(exchange.headers, b"range")):
        _answer_range(exchange, entry, headers, asked)
    else:
        exchange.reply(entry.status, headers, len(body), body)


def without_content(headers: Headers) -> Headers:
    """The headers of a 304 in the place of a reply with `headers`."""
    return [pair for pair in headers if pair[0] not in NOT_IN_304]


def _answer_range(exchange: Exchange, entry: Entry, headers: Headers, asked: list[bytes]) -> None:
    body = entry.body
    part = read_range(asked, len(body)) if range_holds(exchange.headers, entry.held) else None
    if part is None:
        exchange.reply(200, headers, len(body), body)
        return
    headers.append((b"content-range", content_range(part, len(body))))
    if isinstance(part, Range):
        piece = body[part.first : part.last + 1]
        exchange.reply(206, headers, len(piece), piece)
    else:
        exchange.reply(
            416, [pair for pair in headers if pair[0] not in NOT_IN_304 or pair[0] == b"content-range"], 0, b""
        )
