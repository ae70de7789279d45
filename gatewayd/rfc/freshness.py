"""How old a reply is, and how long it is fresh (RFC 9111 §4.2). Seconds; wall-clock times since the epoch."""

from __future__ import annotations

from typing import NamedTuple

from gatewayd.rfc.cache_control import INVALID, LONGEST, Directives, read_directives
from gatewayd.rfc.dates import read_date
from gatewayd.rfc.headers import HeaderList, values

HEURISTICALLY_CACHEABLE = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
"""Statuses whose replies may be stored though they do not say for how long (RFC 9110 §15.1); of them 206 is left
out, for parts are not stored here."""
_SURROGATE = b"surrogate-control"


def initial_age(headers: HeaderList, asked_at: float, came_at: float) -> float | None:
    """How old a reply was when it came (RFC 9111 §4.2.3), asked for and come at these wall-clock times.

    None if its `Age` is not one number of seconds: how old it is then nobody knows, and it counts as stale.
    """
    ages, dates = values(headers, b"age"), values(headers, b"date")
    if len(ages) > 1 or (ages and not (ages[0].isdigit() and len(ages[0]) < 18)):
        return None
    date = read_date(dates[0], came_at) if len(dates) == 1 else None
    apparent = max(0.0, came_at - date) if date is not None else 0.0
    delay = max(0.0, came_at - asked_at)
    return max(apparent, (min(int(ages[0]), LONGEST) if ages else 0) + delay)


class Heuristics(NamedTuple):
    """How long replies count as fresh that do not say it themselves."""

    share: float = 0.0
    """Of the time since `Last-Modified` (RFC 9111 §4.2.2 suggests 0.1); 0: none."""
    longest: float = 86400.0
    """What that comes to at most."""
    default: float = 0.0
    """Of what is heuristically cacheable and says nothing at all."""
    negative: float = 0.0
    """Of those with one of `negative_statuses`, instead of all that."""
    negative_statuses: frozenset[int] = frozenset()


class Control(NamedTuple):
    """What decides about a reply: its directives, and whether they were meant for caches like this one alone."""

    directives: Directives
    targeted: bool = False


def control_of(headers: HeaderList, targets: tuple[bytes, ...], name: bytes) -> Control:
    """The directives that count: of the first field of `targets` that says something we can read, else of
    `Cache-Control` (RFC 9213 §2.2). `name` is ours, for the parameters of `Surrogate-Control`.
    """
    for target in targets:
        found = values(headers, target)
        if found:
            directives = read_directives(found, name if target == _SURROGATE else b"")
            if directives and not directives.malformed:
                return Control(directives, True)
    return Control(read_directives(values(headers, b"cache-control")))


def said_lifetime(headers: HeaderList, control: Control, now: float) -> float | None:
    """How long a reply itself says it is fresh, from when it was made; None if it does not say.

    RFC 9111 §4.2.1 for a shared cache: `s-maxage`, `max-age`, `Expires` less `Date`. What is invalid says 0.
    """
    for directive in (b"s-maxage", b"max-age"):
        seconds = control.directives.seconds(directive)
        if seconds is not None:
            return 0.0 if seconds == INVALID else float(seconds)
    expires = [] if control.targeted else values(headers, b"expires")
    if not expires:
        return None
    until = {read_date(value, now) for value in expires}
    end = until.pop()
    if until or end is None:
        return 0.0
    dates = values(headers, b"date")
    date = read_date(dates[0], now) if len(dates) == 1 else None
    return max(0.0, end - (now if date is None else date))


def guessed_lifetime(status: int, headers: HeaderList, heuristics: Heuristics, now: float) -> float:
    """How long a reply is taken to be fresh that does not say it; 0 as long as nobody configures otherwise."""
    if status in heuristics.negative_statuses:
        return heuristics.negative
    if heuristics.share:
        modified = values(headers, b"last-modified")
        at = read_date(modified[0], now) if len(modified) == 1 else None
        if at is not None:
            return min(max(0.0, (now - at) * heuristics.share), heuristics.longest)
    return heuristics.default
