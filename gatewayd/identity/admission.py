"""From what a token says to who calls: the consumer, its scopes, and the fields by which targets are told of claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from gatewayd.core.exchange import Headers
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Consumers
from gatewayd.identity.bearer import Admit, Admitted, Proof, Proofs, Replies
from gatewayd.identity.jose import Refused
from gatewayd.identity.tokens import Verified

Binding = Literal["none", "dpop", "mtls", "any"]
"""Which proof, that a token was issued to the caller, every token must ask for."""

LONGEST_SUBJECT = 255
"""Characters (OpenID Connect Core 1.0 §2)."""
_CONTROLS = bytes([*range(32), 127])
_Found = tuple[Consumer, str, float]
"""The consumer, what its credential is called, and when it ends (seconds since the epoch)."""
Find = Callable[[Mapping[str, Any]], _Found]
"""Whose a token with these claims is. Raises `Refused`."""


class Finding(NamedTuple):
    """How consumers are found by the claims of one issuer's tokens."""

    issuer: str
    consumers: Consumers
    wall: Callable[[], float]
    claim: str = ""
    """The claim that holds a consumer's id; "": by the credential of issuer and subject."""
    strangers: bool = False
    """Subjects that nobody has heard of are consumers, too, while their tokens last."""

    def find(self, claims: Mapping[str, Any]) -> _Found:
        """A `Find`."""
        if self.claim:
            name = claims.get(self.claim)
            consumer = self.consumers.by_id(name) if isinstance(name, str) else None
            if consumer is None:
                raise Refused("consumer")
            return consumer, _id_of(claims), math.inf
        return self._by_subject(claims)

    def _by_subject(self, claims: Mapping[str, Any]) -> _Found:
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
            raise Refused("subject")
        credential = self.consumers.by_credential("token", f"{self.issuer}\0{subject}".encode())
        if credential is not None:
            now = self.wall()
            if now < credential.not_before or 0 < credential.expires <= now:
                raise Refused("credential")
            return credential.consumer, credential.id, credential.expires or math.inf
        if not self.strangers:
            raise Refused("consumer")
        # Ids from the configuration have no "|" in them: a subject cannot take the place of one.
        return Consumer(f"{self.issuer}|{subject}"), _id_of(claims), math.inf


def always(consumer: Consumer) -> Find:
    """Every token is this consumer's."""
    return lambda claims: (consumer, _id_of(claims), math.inf)


def admission(
    find: Mapping[str, Find], method: str, scopes: Iterable[str], replies: Replies, fields: Mapping[str, str]
) -> Admit:
    """Admits tokens of the issuers in `find` that have all `scopes`. `fields`: claim → header it is told in.

    `method` is the name of the policy.
    """
    needed = frozenset(scopes)
    told = [(claim, name.lower().encode()) for claim, name in fields.items()]

    def admit(verified: Verified) -> Admitted:
        claims = verified.claims
        consumer, credential, expires = find[verified.issuer](claims)
        having = scopes_of(claims)
        if not needed <= having:
            return Admitted(replies.scope, [], math.inf)
        identity = Identity(consumer, method, credential, having, claims)
        return Admitted(identity, _fields(claims, told) if told else [], expires)

    return admit


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """The scopes: `scope`, separated by spaces (RFC 8693 §4.2, RFC 9068 §2.2.3), or the list `scp`, which some use."""
    found = claims.get("scope", claims.get("scp", ""))
    if isinstance(found, str):
        return frozenset(found.split(" ")) - _NO_SCOPE
    if not isinstance(found, list):
        return frozenset()
    return frozenset(each for each in found if isinstance(each, str)) - _NO_SCOPE


_NO_SCOPE = frozenset({""})


def _id_of(claims: Mapping[str, Any]) -> str:
    """What a token is called in logs: its own id, if it can stand there."""
    found = claims.get("jti")
    return found if isinstance(found, str) and len(found) <= 64 and found.isprintable() else ""


def _fields(claims: Mapping[str, Any], told: list[tuple[str, bytes]]) -> Headers:
    return [(name, text) for claim, name in told if (text := field_value(claims.get(claim)))]


def field_value(claim: object) -> bytes:
    """A claim as a header can hold it, b"" for none: texts, numbers, `true`; lists of them, separated by commas.

    Control characters are taken out. An item with a comma would read as two, so it is left out.
    """
    if isinstance(claim, list):
        items = [_plain(each) for each in claim]
        return b",".join(each for each in items if each and b"," not in each)
    return _plain(claim)


def _plain(value: object) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int | float):
        return repr(value).encode()
    if isinstance(value, str):
        return value.encode().translate(None, _CONTROLS).strip()
    return b""


def proofs_by(binding: Binding, dpop: Proof, mtls: Proof) -> Proofs:
    """Which proofs a token asks for: those that its `cnf` names (RFC 7800), whether or not `binding` demands any.

    A token bound to a key comes with the scheme DPoP, and no other does (RFC 9449 §7.1).
    """
    lax = binding == "none"

    def proofs(claims: Mapping[str, Any], scheme: bytes | None) -> tuple[Proof, ...]:
        if lax and scheme != b"dpop" and "cnf" not in claims:  # nearly always
            return ()
        confirmation = claims.get("cnf", {})
        if not isinstance(confirmation, dict):
            raise Refused("confirmation")
        by_key, by_certificate = "jkt" in confirmation, "x5t#S256" in confirmation
        if "cnf" in claims and not (by_key or by_certificate):
            raise Refused("confirmation")
        if scheme is not None and by_key != (scheme == b"dpop"):
            raise Refused("scheme")
        if not {"none": True, "dpop": by_key, "mtls": by_certificate, "any": by_key or by_certificate}[binding]:
            raise Refused("not_bound")
        return (mtls,) * by_certificate + (dpop,) * by_key  # a proof by key can be used once, so it comes last

    return proofs
