"""Conditional requests (RFC 9110 §13), as far as one who holds a reply may decide them: not `If-Match`, not
`If-Unmodified-Since`, which are for the origin alone."""

from __future__ import annotations

import re
from typing import NamedTuple

from gatewayd.rfc.dates import read_date
from gatewayd.rfc.headers import HeaderList, values

_BARE_TAG = re.compile(rb"[\x23-\x2b\x2d-\x5b\x5d-\x7e]+")
"""What some origins send instead: a tag without its quotes. They know it when it comes back."""
_ENTITY_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')  # entity-tag of RFC 9110 §8.8.3


def none_match(values: list[bytes], etag: bytes) -> bool:
    """Whether the `If-None-Match` fields let the request go on when `etag` (quoted, strong) is the current tag.

    False means 304 for GET and HEAD (RFC 9110 §13.1.2; tags are compared weakly). No field lets everything go on.
    """
    return not any(value.strip(b" \t") == b"*" or etag in _ENTITY_TAG.findall(value) for value in values)


def opaque_tag(etag: bytes) -> bytes:
    """The part of an `ETag` that weak comparison looks at (RFC 9110 §8.8.3.2); b"" if it is none, bare or not."""
    match = _ENTITY_TAG.fullmatch(etag)
    if match is not None:
        return match[1]
    return etag if etag != b"*" and _BARE_TAG.fullmatch(etag) else b""


class Validators(NamedTuple):
    """What tells one state of a resource from another. Times are seconds since the epoch."""

    etag: bytes = b""
    """As it came; b"" for none, or one that is malformed."""
    last_modified: float | None = None
    last_modified_text: bytes = b""
    date: float = 0.0
    """When the reply was made, or came."""

    @property
    def strong_etag(self) -> bytes:
        """The tag if it is strong, else b""."""
        return b"" if self.etag.startswith(b"W/") else self.etag


def validators(headers: HeaderList, now: float) -> Validators:
    """The validators of a reply that came at `now` (seconds since the epoch). What is repeated is none."""
    tags, modified, dates = (values(headers, name) for name in (b"etag", b"last-modified", b"date"))
    etag = tags[0] if len(tags) == 1 and opaque_tag(tags[0]) else b""
    text = modified[0] if len(modified) == 1 else b""
    at = read_date(text, now) if text else None
    date = read_date(dates[0], now) if len(dates) == 1 else None
    return Validators(etag, at, text if at is not None else b"", now if date is None else date)


def not_modified(headers: HeaderList, held: Validators, now: float) -> bool:
    """Whether a GET or HEAD with these headers is to be answered 304 from what is held (RFC 9110 §13.2.2).

    `If-None-Match`, if there is one, decides alone. Without `Last-Modified` the reply's date stands in (RFC 9111
    §4.3.2).
    """
    tags = values(headers, b"if-none-match")
    if tags:
        tag = opaque_tag(held.etag)
        return any(each.strip(b" \t") == b"*" for each in tags) or (tag != b"" and not none_match(tags, tag))
    since = values(headers, b"if-modified-since")
    if len(since) != 1:
        return False
    limit = read_date(since[0], now)
    return limit is not None and (held.date if held.last_modified is None else held.last_modified) <= limit


def range_holds(headers: HeaderList, held: Validators) -> bool:
    """Whether `If-Range`, if there is one, lets `Range` count (RFC 9110 §13.1.5). Comparison is strong."""
    found = values(headers, b"if-range")
    if not found:
        return True
    if len(found) != 1:
        return False
    if found[0].startswith((b'"', b"W/")):
        return held.strong_etag != b"" and found[0] == held.strong_etag
    # A date is strong if a second change in that second would have been seen (RFC 9110 §8.8.2.2).
    strong = held.last_modified is not None and held.date - held.last_modified >= 1
    return strong and found[0] == held.last_modified_text
