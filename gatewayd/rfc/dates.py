"""Dates as HTTP writes them (RFC 9110 §5.6.7): the one form to send, the three to read."""

from __future__ import annotations

import re
from calendar import timegm
from functools import lru_cache

_MONTHS = {month: at for at, month in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_NAME = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_NAME = rb"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_MONTH = rb"(?P<month>[A-Z][a-z]{2})"
_FORMS = (
    re.compile(rb"%b, (?P<day>[0-9]{2}) %b (?P<year>[0-9]{4}) %b GMT" % (_NAME, _MONTH, _TIME)),  # IMF-fixdate
    re.compile(rb"%b, (?P<day>[0-9]{2})-%b-(?P<year>[0-9]{2}) %b GMT" % (_LONG_NAME, _MONTH, _TIME)),  # rfc850-date
    re.compile(rb"%b %b (?P<day>[0-9]{2}| [0-9]) %b (?P<year>[0-9]{4})" % (_NAME, _MONTH, _TIME)),  # asctime-date
)
_LONGEST = 40
_HALF_CENTURY = 50 * 365.25 * 86400


@lru_cache(maxsize=256)
def _read(text: bytes) -> tuple[int, int, int, int, int, int] | None:
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None and match["month"] in _MONTHS:
            day, hour, minute, second = (int(match[name]) for name in ("day", "hour", "minute", "second"))
            if not (1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
                return None
            return int(match["year"]), _MONTHS[match["month"]], day, hour, minute, second
    return None


def read_date(text: bytes, now: float) -> float | None:
    """Seconds since the epoch of an HTTP date; None if it is none.

    A year of two digits is the one that lies less than fifty years ahead of `now` (seconds since the epoch).
    """
    parts = _read(text) if len(text) <= _LONGEST else None
    if parts is None:
        return None
    year, *rest = parts
    if year >= 100:
        return float(timegm((year, *rest)))
    seconds = timegm((2000 + year, *rest))
    return float(seconds if seconds - now <= _HALF_CENTURY else timegm((1900 + year, *rest)))
