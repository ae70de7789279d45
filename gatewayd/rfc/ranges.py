"""Byte ranges of what is held as a whole (RFC 9110 §14). Of several ranges none is taken: the whole is sent instead,
as §14.2 allows, for assembling many small ones costs the sender more than the asker."""

from __future__ import annotations

import re
from typing import NamedTuple

_RANGE = re.compile(rb"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*", re.IGNORECASE)


class Range(NamedTuple):
    """Bytes `first` up to `last`, both included."""

    first: int
    last: int


class Unsatisfiable(NamedTuple):
    """Nothing of what is held lies in the range: 416."""


def read_range(values: list[bytes], length: int) -> Range | Unsatisfiable | None:
    """The bytes that `Range` asks for out of `length`; None if it is to be ignored, for it is absent, malformed or of
    several parts."""
    match = _RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        wanted = int(suffix)
        return Range(max(length - wanted, 0), length - 1) if wanted and length else Unsatisfiable()
    begin, end = int(first), int(last) if last else length - 1
    if last and end < begin:
        return None
    return Range(begin, min(end, length - 1)) if begin < length else Unsatisfiable()


def content_range(part: Range | Unsatisfiable, length: int) -> bytes:
    """The value of `Content-Range` for a part of `length` bytes (RFC 9110 §14.4)."""
    if isinstance(part, Unsatisfiable):
        return b"bytes */%d" % length
    return b"bytes %d-%d/%d" % (part.first, part.last, length)
