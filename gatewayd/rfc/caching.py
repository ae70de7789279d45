"""What a shared cache may store, reuse, freshen and must forget (RFC 9111), without I/O and without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from gatewayd.errors import RequestError
from gatewayd.rfc.cache_control import Directives, read_directives
from gatewayd.rfc.conditional import Validators
from gatewayd.rfc.freshness import (
    HEURISTICALLY_CACHEABLE,
    Control,
    Heuristics,
    control_of,
    guessed_lifetime,
    initial_age,
    said_lifetime,
)
from gatewayd.rfc.headers import FORWARDING, HOP_BY_HOP, OVERRIDES, HeaderList, elements, values
from gatewayd.rfc.path import PathRules, normalise

SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH", b"QUERY"))
"""Methods that change nothing (RFC 9110 §9.2.1 and their registrations); all others invalidate."""

_UNDERSTOOD = HEURISTICALLY_CACHEABLE | {201, 202, 302, 303, 307, 400, 401, 403, 500, 502, 503, 504}
"""Statuses that `must-understand` is satisfied with."""
_FOR_ALL = frozenset((b"public", b"must-revalidate", b"s-maxage"))
"""Directives that let replies to requests with credentials be shared (RFC 9111 §3.5)."""
_FAILURES = frozenset((500, 502, 503, 504))  # RFC 5861 §4
_NOT_STORED = HOP_BY_HOP | {b"age", b"content-length", b"x-request-id"}
_OF_THE_CONTENT = frozenset((b"content-encoding", b"content-length", b"content-md5", b"content-range", b"etag"))
"""Fields that a 304 does not change, for they say what the stored content is (RFC 9111 §3.2)."""
_LENIENT = PathRules("keep", "keep", "merge")
_IN_THE_KEY = frozenset((b"host", b"x-forwarded-host", b"x-forwarded-proto"))
_UNKNOWABLE = (FORWARDING | HOP_BY_HOP | OVERRIDES) - _IN_THE_KEY
"""Fields written anew for each request: a reply that varies on one fits no other request."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How much of what RFC 9111 leaves open is done."""

    name: bytes = b"gatewayd"
    """Ours, as replies may target it."""
    heuristics: Heuristics = field(default_factory=Heuristics)
    targets: tuple[bytes, ...] = (b"surrogate-control", b"cdn-cache-control")
    """Fields that speak to us instead of `Cache-Control`, the first first."""
    set_cookie: str = "refuse"
    """What becomes of a reply that sets a cookie: "refuse" it, "strip" the cookie, or "store" it as it is."""
    stale_while_revalidate: float = 0.0
    """Of replies that do not say (RFC 5861)."""
    stale_if_error: float = 0.0


class Asker(NamedTuple):
    """What counts of a request when its reply is to be stored."""

    directives: Directives
    credentials: bool = False
    """It has an `Authorization`, or the gateway knows by other means who asks."""


class Terms(NamedTuple):
    """On what terms a reply is stored. Seconds."""

    age: float
    """When it came."""
    lifetime: float
    no_cache: bool = False
    """It is used only after it was validated."""
    must_revalidate: bool = False
    """It is never used stale."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    dropped: frozenset[bytes] = frozenset()
    """Fields that are not stored."""
    for_all: bool = False
    """It says that it may be shared by requests with credentials (RFC 9111 §3.5); if it does not, those are not
    answered with what was got without any either, which is more than the RFC asks: few targets mean that."""


class Refusal(NamedTuple):
    """A reply is not stored. `lasting`: nor would it be for another request, as far as can be told."""

    why: str
    lasting: bool = True


def judge(
    asker: Asker, status: int, headers: HeaderList, held: Validators, rules: Rules, asked_at: float, came_at: float
) -> Terms | Refusal:
    """Whether the reply to a GET may be stored (RFC 9111 §3), and on what terms. Times are wall-clock seconds.

    `held` are its validators.
    """
    control = control_of(headers, rules.targets, rules.name)
    refusal = _forbidden(asker, status, headers, control, rules)
    if refusal is not None:
        return refusal
    directives = control.directives
    private, unchecked = directives.fields(b"private"), directives.fields(b"no-cache")
    said = said_lifetime(headers, control, came_at)
    if said is None and not (status in HEURISTICALLY_CACHEABLE or b"public" in directives):
        return Refusal("no-freshness")
    lifetime = guessed_lifetime(status, headers, rules.heuristics, came_at) if said is None else said
    age = initial_age(headers, asked_at, came_at)
    terms = Terms(
        age=age or 0.0,
        lifetime=0.0 if age is None or directives.malformed else lifetime,
        no_cache=unchecked is not None and not unchecked,
        must_revalidate=_must_revalidate(directives),
        stale_while_revalidate=_extra(directives, b"stale-while-revalidate", rules.stale_while_revalidate),
        stale_if_error=_extra(directives, b"stale-if-error", rules.stale_if_error),
        dropped=(private or frozenset()) | (unchecked or frozenset()),
        for_all=_for_all(directives),
    )
    return terms if _is_of_use(terms, held) else Refusal("no-freshness")


def _forbidden(asker: Asker, status: int, headers: HeaderList, control: Control, rules: Rules) -> Refusal | None:
    directives = control.directives
    if status in (206, 304) or status < 200:
        return Refusal("status")
    understood = b"must-understand" in directives and status in _UNDERSTOOD
    if b"must-understand" in directives and not understood:
        return Refusal("status")
    if b"no-store" in directives and not understood:
        return Refusal("no-store")
    if directives.fields(b"private") == frozenset():
        return Refusal("private")
    if rules.set_cookie == "refuse" and any(name == b"set-cookie" for name, _ in headers):
        return Refusal("set-cookie")
    if vary_names(headers) is None:
        return Refusal("vary")
    if b"no-store" in asker.directives:
        return Refusal("request-no-store", lasting=False)
    if asker.credentials and not _for_all(directives):
        return Refusal("authorization", lasting=False)
    return None


def _must_revalidate(directives: Directives) -> bool:
    """RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10."""
    return b"must-revalidate" in directives or b"proxy-revalidate" in directives or b"s-maxage" in directives


def _for_all(directives: Directives) -> bool:
    return not directives.keys().isdisjoint(_FOR_ALL)


def _extra(directives: Directives, name: bytes, default: float) -> float:
    seconds = directives.seconds(name)
    return default if seconds is None else float(max(0, seconds))


def _is_of_use(terms: Terms, held: Validators) -> bool:
    """Whether it will ever be reused: as it is, or because it can be validated."""
    stale = 0.0 if terms.must_revalidate else max(terms.stale_while_revalidate, terms.stale_if_error)
    fresh = 0.0 if terms.no_cache else terms.lifetime + stale - terms.age
    return fresh > 0 or held.etag != b"" or held.last_modified is not None


def stored_headers(headers: HeaderList, terms: Terms, rules: Rules) -> HeaderList:
    """What of a reply's headers is stored (RFC 9111 §3.1)."""
    left_out = _NOT_STORED | terms.dropped
    if rules.set_cookie == "strip":
        left_out |= {b"set-cookie", b"set-cookie2"}
    return [pair for pair in headers if pair[0] not in left_out]


def freshened(stored: HeaderList, newer: HeaderList) -> HeaderList:
    """Stored headers after a 304 with headers `newer` (RFC 9111 §3.2)."""
    kept = [pair for pair in newer if pair[0] not in _OF_THE_CONTENT and pair[0] not in _NOT_STORED]
    replaced = {name for name, _ in kept}
    return [pair for pair in stored if pair[0] not in replaced] + kept


# -- Vary (RFC 9111 §4.1) -------------------------------------------------------------------------------------------


def vary_names(headers: HeaderList) -> tuple[bytes, ...] | None:
    """The request fields a reply was chosen by, sorted; None if it fits no other request.

    A coded reply that forgets to name Accept-Encoding is taken to vary on it: others could not read it.
    """
    names = {element.lower() for element in elements(values(headers, b"vary"))}
    if b"*" in names or names & _UNKNOWABLE:
        return None
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
        names.add(b"accept-encoding")
    return tuple(sorted(names - _IN_THE_KEY))


def selecting(names: tuple[bytes, ...], headers: HeaderList) -> tuple[bytes | None, ...]:
    """What a request says in the fields `names`, in a form in which equal wishes are equal; None where it is silent."""
    return tuple(_normal(name, values(headers, name)) for name in names)


def _normal(name: bytes, found: list[bytes]) -> bytes | None:
    if not found:
        return None
    joined = b",".join(found)
    if b'"' in joined:  # white space and commas in quotes are not ours to touch
        return joined
    parts = elements([joined])
    if name in (b"accept-language", b"accept-encoding", b"accept-charset"):
        parts = sorted(b"".join(part.split()).lower() for part in parts)
    return b",".join(parts)


# -- reuse ----------------------------------------------------------------------------------------------------------


def is_failure(status: int) -> bool:
    """Whether a status is an error that a stale reply may be used instead of (RFC 5861 §4)."""
    return status in _FAILURES


class Wish(NamedTuple):
    """What a request says of stored replies (RFC 9111 §5.2.1). Seconds; None: it does not say."""

    directives: Directives
    no_cache: bool = False
    max_age: int | None = None
    min_fresh: int = 0
    max_stale: int = 0
    stale_if_error: int = 0
    only_if_cached: bool = False

    def accepts(self, age: float, fresh_for: float, stale_forbidden: bool) -> bool:
        """Whether a reply so old, and fresh for so long yet (below 0: stale for so long), will do."""
        if self.no_cache or (self.max_age is not None and age > self.max_age):
            return False
        if fresh_for > 0:
            return fresh_for >= self.min_fresh
        return not stale_forbidden and not self.min_fresh and -fresh_for < self.max_stale


def read_wish(headers: HeaderList) -> Wish:
    """What a request says in `Cache-Control`, or in `Pragma` if there is none of it (RFC 9111 §5.4). What is no number
    is not said."""
    fields = values(headers, b"cache-control")
    directives = read_directives(fields)
    if not fields:
        return Wish(directives, no_cache=b"no-cache" in read_directives(values(headers, b"pragma")))
    max_age = directives.seconds(b"max-age")
    any_stale = directives.get(b"max-stale") == [None]
    return Wish(
        directives,
        no_cache=b"no-cache" in directives,
        max_age=None if max_age is None or max_age < 0 else max_age,
        min_fresh=max(0, directives.seconds(b"min-fresh") or 0),
        max_stale=2**31 if any_stale else max(0, directives.seconds(b"max-stale") or 0),
        stale_if_error=max(0, directives.seconds(b"stale-if-error") or 0),
        only_if_cached=b"only-if-cached" in directives,
    )


# -- invalidation (RFC 9111 §4.4) -----------------------------------------------------------------------------------


def invalidated(headers: HeaderList, scheme: bytes, host: bytes, path: bytes) -> list[tuple[bytes, bytes | None]]:
    """(path, query) of what else than its own target a reply to an unsafe request makes invalid: `Location` and
    `Content-Location`, where they are of the same origin."""
    found = []
    for name, value in headers:
        if name in (b"location", b"content-location"):
            try:
                there = _resolve(value.decode("ascii"), scheme.decode(), host.decode(), path.decode())
            except ValueError:
                continue
            if there is not None:
                found.append(there)
    return found


def _resolve(reference: str, scheme: str, host: str, path: str) -> tuple[bytes, bytes | None] | None:
    parts = urlsplit(reference)
    if (parts.scheme and parts.scheme.lower() != scheme) or (parts.netloc and parts.netloc.lower() != host):
        return None
    where = parts.path
    if not where:
        where = "/" if parts.netloc else path
    elif not where.startswith("/"):
        where = f"{path.rpartition('/')[0]}/{where}"
    try:
        return normalise(where.encode(), _LENIENT), parts.query.encode() if "?" in reference else None
    except RequestError:
        return None
