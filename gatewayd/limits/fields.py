"""What replies say of a limit: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), and the
older `X-RateLimit-*`.

The first two are lists (RFC 9651 §3.1), so each limit of a route adds a line of its own. Of the older fields there is
room for one limit: the one that leaves least.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gatewayd.core.exchange import Headers

SECOND = 1_000_000_000
"""In nanoseconds."""
Write = Callable[[Headers, int, int], None]
"""Adds to a reply's fields: how much is left, and in how many seconds the whole of it is back."""
_LEGACY = (b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset")


def fields(name: str, amount: float, period: float) -> Write:
    """The draft's two fields of the limit `name`: `amount` per `period` seconds; of each the whole part counts."""
    whole = amount >= 1
    quota, window = (int(amount), math.ceil(period)) if whole else (1, math.ceil(period / amount))
    policy = (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name.encode(), quota, window))
    line = b'"%b";r=%%d;t=%%d' % name.encode()

    def write(headers: Headers, left: int, seconds: int) -> None:
        headers.append(policy)
        headers.append((b"ratelimit", line % (left, seconds)))

    return write


def legacy(write: Write, limit: int) -> Write:
    """As `write`, and `X-RateLimit-Limit`, `-Remaining` and `-Reset` (in seconds from now)."""
    shown = b"%d" % limit

    def write_both(headers: Headers, left: int, seconds: int) -> None:
        write(headers, left, seconds)
        if _least(headers) < left:
            return
        headers[:] = [pair for pair in headers if pair[0] not in _LEGACY]
        headers += zip(_LEGACY, (shown, b"%d" % left, b"%d" % seconds), strict=True)

    return write_both


def _least(headers: Headers) -> float:
    """What the older fields leave already, by another limit or the target's own."""
    found = [value for name, value in headers if name == b"x-ratelimit-remaining" and value.isdigit()]
    return min(map(int, found), default=math.inf)
