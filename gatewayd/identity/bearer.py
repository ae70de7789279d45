"""Bearer tokens (RFC 6750) on requests: where they stand, and what is remembered of those met before.

What a token is worth is somebody else's business (`Verify`: `identity.tokens`, or introspection), and so is whom it
makes its bearer (`identity.admission`). Both verdicts are remembered under the token's digest, so that nearly every
request costs one digest and one look: not beyond the token's end, not beyond the time set for another look, and not
once the key that signed it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.identity import Identity, Outcome
from gatewayd.core.policy import Reply
from gatewayd.identity.jose import Refused
from gatewayd.identity.jwk import Key
from gatewayd.identity.require import challenge, insufficient_scope, unauthorized
from gatewayd.identity.tokens import Verified, Verify
from gatewayd.rfc.cookies import cookie

_log = logging.getLogger(__name__)

Proof = Callable[[Exchange, bytes, Mapping[str, Any]], str | Reply]
"""(exchange, token, its claims): "", or why the caller has not shown that the token was issued to it.

A `Reply` where it has to be told how it may."""


class Admitted(NamedTuple):
    """Whom a token makes its bearer, or the refusal; and the fields by which targets are told."""

    outcome: Identity | Reply
    fields: Headers
    expires: float
    """Seconds since the epoch at which this has to be decided anew."""


Admit = Callable[[Verified], Admitted]
Proofs = Callable[[Mapping[str, Any], bytes | None], tuple[Proof, ...]]
"""What the bearer of a token with such claims has to show besides, by the scheme before it. Raises `Refused`."""


class Replies:
    """The refusals of one realm (RFC 6750 §3.1). They tell nothing of what was wrong with a token."""

    def __init__(self, realm: str, scopes: tuple[str, ...] = (), schemes: tuple[str, ...] = ("Bearer",)) -> None:
        """`schemes` are those by which a token may be shown, "Bearer" or "DPoP"; `scopes` those it must have."""
        self.challenges = tuple(challenge(scheme, realm) for scheme in schemes)
        self.invalid = unauthorized(challenge(scheme, realm, error="invalid_token") for scheme in schemes)
        self.scope = insufficient_scope(schemes[0], realm, scopes)


# -- places ----------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where tokens stand."""

    read: Callable[[Exchange], bytes | None]
    """What stands there; None: nothing. Raises `Refused`: more than one."""
    take_out: Callable[[Headers], Headers]
    """The headers without it, and without proofs that go with it (`DPoP`)."""
    has_scheme: bool


def place(text: str) -> Place:
    """The place that is written as "authorization", "header:<name>" or "cookie:<name>"."""
    kind, _, name = text.partition(":")
    if kind == "cookie":
        return _in_cookie(name.encode())
    return _in_field(name.lower().encode() or b"authorization", has_scheme=kind == "authorization")


def _in_field(name: bytes, has_scheme: bool) -> Place:
    def read(exchange: Exchange) -> bytes | None:
        found = None
        for field, value in exchange.headers:
            if field == name:
                if found is not None:
                    raise Refused("repeated")
                found = value
        return found

    def take_out(headers: Headers) -> Headers:
        return [pair for pair in headers if pair[0] != name and pair[0] != b"dpop"]

    return Place(read, take_out, has_scheme)


def _in_cookie(name: bytes) -> Place:
    start = name + b"="

    def without(value: bytes) -> bytes:
        return b"; ".join(part for each in value.split(b";") if not (part := each.strip(b" \t")).startswith(start))

    def take_out(headers: Headers) -> Headers:
        pairs = [(field, without(value) if field == b"cookie" else value) for field, value in headers]
        return [pair for pair in pairs if pair[0] != b"dpop" and (pair[1] or pair[0] != b"cookie")]

    return Place(lambda exchange: cookie(exchange.headers, name), take_out, has_scheme=False)


_SCHEMES = {b"bearer", b"dpop"}


def apart(value: bytes, has_scheme: bool) -> tuple[bytes | None, bytes | None]:
    """Scheme (lower case; None where there is none) and token of what stands at a place; no token: another scheme."""
    if not has_scheme:
        return None, value
    scheme, _, token = value.partition(b" ")
    scheme = scheme.lower()  # RFC 9110 §11.1
    return scheme, (token.lstrip(b" ") or None) if scheme in _SCHEMES else None


# -- what is remembered ----------------------------------------------------------------------------------------------


class _Known:
    """A token met before."""

    __slots__ = ("claims", "due", "expires", "fields", "key", "outcome", "proofs")

    def __init__(self, verified: Verified, admitted: Admitted, proofs: tuple[Proof, ...]) -> None:
        self.claims = verified.claims
        self.due = verified.due
        self.key = verified.key or _NO_KEY
        self.outcome = admitted.outcome
        self.fields = admitted.fields
        self.expires = min(verified.expires, admitted.expires)
        self.proofs = proofs


_NO_KEY = Key("", None, {})


class Recent:
    """Tokens met lately, `size` at most: two halves, of which the older is dropped when the younger is full.

    What is in use stays that way, and asking costs no more than a dict.
    """

    def __init__(self, size: int) -> None:
        self._half = max(1, size // 2)
        self.young: dict[bytes, _Known] = {}  # the same dict for ever, so that it can be asked without us
        self._old: dict[bytes, _Known] = {}

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def put(self, digest: bytes, known: _Known) -> None:
        """Remember it."""
        self._old.pop(digest, None)
        if len(self.young) >= self._half and digest not in self.young:
            self._old = self.young.copy()
            self.young.clear()
        self.young[digest] = known

    def again(self, digest: bytes) -> _Known | None:
        """One of the older half, which is young from now on."""
        known = self._old.get(digest)
        if known is not None:
            self.put(digest, known)
        return known


class Bearer:
    """Finds out who calls by the token that a request bears."""

    def __init__(
        self,
        place: Place,
        verify: Verify,
        admit: Admit,
        proofs: Proofs,
        replies: Replies,
        clock: Clock,
        remembered: int,
        pass_on: bool = False,
        fields: frozenset[bytes] = frozenset(),
    ) -> None:
        """`remembered`: how many tokens. `fields` are those by which targets are told: callers' copies are taken out.

        With `pass_on` targets get the token.
        """
        self._place = place
        self._read = place.read
        self._take_out = None if pass_on else place.take_out
        self._verify = verify
        self._admit = admit
        self._proofs = proofs
        self._replies = replies
        self._recent = Recent(remembered)
        self._young = self._recent.young
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._fields = fields

    def authenticate(self, exchange: Exchange) -> Outcome | Awaitable[Outcome]:
        """A `core.identity.Authenticator`. Raises `Undecided` where nobody can say what the token is worth."""
        if self._fields:
            exchange.headers = [pair for pair in exchange.headers if pair[0] not in self._fields]
        try:
            value = self._read(exchange)
            if value is None:
                return None
            digest = sha256(value).digest()
            known = self._young.get(digest) or self._recent.again(digest)
            if known is None or known.expires <= self._wall() or known.due <= self._monotonic() or not known.key.live:
                return self._first(exchange, value, digest)
            token = apart(value, self._place.has_scheme)[1] or b"" if known.proofs else b""
            return self._let_in(exchange, token, known)
        except Refused as error:
            return self._refused(error)

    def _first(self, exchange: Exchange, value: bytes, digest: bytes) -> Outcome | Awaitable[Outcome]:
        """A token not met before, or not lately enough."""
        scheme, token = apart(value, self._place.has_scheme)
        if token is None:
            return None
        found = self._verify(token)
        if found is None:
            return None
        if isinstance(found, Verified):
            return self._decide(exchange, scheme, token, digest, found)
        return self._later(exchange, scheme, token, digest, found)

    async def _later(
        self, exchange: Exchange, scheme: bytes | None, token: bytes, digest: bytes, waiting: Awaitable[Verified]
    ) -> Identity | Reply:
        try:
            return self._decide(exchange, scheme, token, digest, await waiting)
        except Refused as error:
            return self._refused(error)

    def _decide(
        self, exchange: Exchange, scheme: bytes | None, token: bytes, digest: bytes, verified: Verified
    ) -> Identity | Reply:
        known = _Known(verified, self._admit(verified), self._proofs(verified.claims, scheme))
        self._recent.put(digest, known)
        return self._let_in(exchange, token, known)

    def _let_in(self, exchange: Exchange, token: bytes, known: _Known) -> Identity | Reply:
        for proof in known.proofs:
            reason = proof(exchange, token, known.claims)
            if isinstance(reason, Reply):
                return reason
            if reason:
                raise Refused(reason)
        outcome = known.outcome
        if outcome.__class__ is Identity:
            if self._take_out is not None:
                exchange.headers = self._take_out(exchange.headers)
            if known.fields:
                exchange.headers += known.fields
        return outcome

    def _refused(self, error: Refused) -> Reply:
        _log.debug("a token is refused: %s", error.reason)
        return self._replies.invalid
