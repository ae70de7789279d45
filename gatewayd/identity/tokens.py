"""Signed access tokens (RFC 7519, RFC 9068): whose they are, whether they hold, and for how long they may be believed.

What a token says of itself only selects among what is configured: its `iss` an issuer, its `alg` one of that issuer's
algorithms, its `kid` one of that issuer's keys.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gatewayd.core.clock import Clock
from gatewayd.core.policy import Undecided
from gatewayd.core.problem import problem
from gatewayd.identity.jose import Refused, Signed, members, take_apart
from gatewayd.identity.jwk import Key
from gatewayd.identity.jwks import KeySource

TYPES = frozenset({"", "jwt", "at+jwt"})
"""What `typ` may be unless the configuration says: other kinds of JWT are no access tokens (RFC 8725 §3.11)."""
_LATEST = 2.0**53
"""Seconds; a date beyond is none."""
UNAVAILABLE = problem(503, "issuer_unavailable", "credentials cannot be checked now", ((b"retry-after", b"5"),))
"""Whether a token holds cannot be found out now."""


class Verified(NamedTuple):
    """A token that holds."""

    claims: Mapping[str, Any]
    issuer: str
    expires: float
    """Seconds since the epoch; `inf` for never. Not to be believed from then on without another look."""
    due: float
    """Monotonic seconds at which it has to be verified anew in any case."""
    key: Key | None = None
    """What signed it: once it is no longer `live`, the token does not hold."""


Verify = Callable[[bytes], "Verified | Awaitable[Verified] | None"]
"""None: it is another kind of token. Raises `Refused` or `Undecided`, at once or when awaited."""


class Rules(NamedTuple):
    """What tokens of one issuer must be like."""

    issuer: str
    source: KeySource
    algorithms: frozenset[str]
    audiences: frozenset[str] | None
    """One of these must be meant; None: whoever is."""
    types: frozenset[str] = TYPES
    required: frozenset[str] = frozenset({"exp"})
    """Claims that must be there."""
    leeway: float = 30.0
    """Seconds by which clocks may differ."""


class Tokens:
    """Verifies tokens of several issuers."""

    def __init__(self, rules: Iterable[Rules], clock: Clock) -> None:
        self._rules = {each.issuer: each for each in rules}
        self._clock = clock

    def verify(self, token: bytes) -> Verified | Awaitable[Verified] | None:
        """A `Verify`. Awaitable only where keys have to be fetched."""
        if token.count(b".") != 2:
            return None  # no JWS; some other policy may know what to make of it
        signed = take_apart(token)
        claims = members(signed.payload)
        issuer = claims.get("iss")
        rules = self._rules.get(issuer) if isinstance(issuer, str) else None
        if rules is None:
            raise Refused("issuer")
        # All that costs little comes before the signature, and before anybody waits for keys.
        algorithm, kid, kind = signed.header
        if algorithm not in rules.algorithms:
            raise Refused("algorithm")
        if kind not in rules.types:
            raise Refused("type")
        expires = check_claims(claims, rules, self._clock.wall())
        source = rules.source
        if not source.ready():
            return self._later(rules, signed, claims, expires, source.rounds)
        key = _signer(rules, signed)
        if key is None:
            if source.worth_asking(kid, algorithm):
                return self._later(rules, signed, claims, expires, source.rounds)
            raise Refused("signature")
        return Verified(claims, rules.issuer, expires, source.until, key)

    async def _later(
        self, rules: Rules, signed: Signed, claims: dict[str, Any], expires: float, since: int
    ) -> Verified:
        """The same once keys have been fetched, if they could be, more often than `since`."""
        source, header = rules.source, signed.header
        await source.wait(since)
        if not source.usable:
            raise Undecided(UNAVAILABLE)
        key = _signer(rules, signed)
        if key is None:
            source.not_found(header.kid, header.algorithm)
            raise Refused("signature")
        return Verified(claims, rules.issuer, expires, source.until, key)


def _signer(rules: Rules, signed: Signed) -> Key | None:
    header = signed.header
    return rules.source.keys.signer(header.kid, header.algorithm, signed.signature, signed.content)


def check_claims(claims: Mapping[str, Any], rules: Rules, now: float) -> float:
    """When the token expires, seconds since the epoch, `inf` for never. Raises `Refused` unless it holds at `now`."""
    for name in rules.required:
        if name not in claims:
            raise Refused("claim_missing")
    leeway = rules.leeway
    expires = date(claims, "exp", math.inf)
    if now >= expires + leeway:
        raise Refused("expired")
    if date(claims, "nbf", 0.0) > now + leeway:
        raise Refused("not_yet")
    if date(claims, "iat", 0.0) > now + leeway:
        raise Refused("issued_later")
    if not isinstance(claims.get("sub", ""), str) or not isinstance(claims.get("jti", ""), str):
        raise Refused("claim_type")
    if rules.audiences is not None and not is_meant_for(claims.get("aud"), rules.audiences):
        raise Refused("audience")
    return expires


def date(claims: Mapping[str, Any], name: str, absent: float) -> float:
    """A NumericDate (RFC 7519 §2): a number, whole or not; nothing that only looks like one. Raises `Refused`."""
    value: object = claims.get(name)
    if value is None and name not in claims:
        return absent
    if (value.__class__ is int or value.__class__ is float) and 0 <= value <= _LATEST:
        return value
    raise Refused("claim_type")


def is_meant_for(audience: object, ours: frozenset[str]) -> bool:
    """Whether `aud`, a text or a list of them (RFC 7519 §4.1.3), names one of `ours`."""
    if isinstance(audience, str):
        return audience in ours
    if isinstance(audience, list):
        for each in audience:
            if isinstance(each, str) and each in ours:
                return True
    return False
