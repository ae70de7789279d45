"""From a signed request to who calls: whose key it is, whether it made the signature, and whether that is new."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import NamedTuple

from gatewayd.core.arena import Arena
from gatewayd.core.body import gather
from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Identity, Outcome
from gatewayd.core.policy import BuildContext, Credential, Reply
from gatewayd.core.problem import problem
from gatewayd.identity import signatures
from gatewayd.identity.jose import Refused
from gatewayd.identity.replay import Replays
from gatewayd.identity.signature_keys import Check, check_of
from gatewayd.identity.signatures import INPUT, SIGNATURE, Shown

_log = logging.getLogger(__name__)

LEEWAY = 30.0
"""Seconds by which a caller's clock may be ahead."""
KEYS = 1024
"""Keys kept ready, per worker and instance."""


class Terms(NamedTuple):
    """What is asked of signatures: the options of `policies.http_signature`."""

    components: tuple[str, ...]
    digest: bool
    largest_body: int
    max_age: float
    nonce_required: bool
    nonces: int
    label: str
    tag: str
    pass_on: bool


class Signed:
    """Finds out who calls by the signature that a request bears."""

    def __init__(self, terms: Terms, context: BuildContext, wrong: Reply) -> None:
        """`wrong` is the answer to every signature that is not taken. Raises `core.arena.ArenaFull`."""
        self._terms = terms
        self._wall = context.clock.wall
        self._find = context.consumers.by_credential
        self._wrong = wrong
        self._crowded = problem(503, "nonces_full", "too many signed requests at once", ((b"retry-after", b"5"),))
        self._too_large = problem(413, "body_too_large", "a signed body has to be smaller here")
        self._keys: dict[str, tuple[Credential, Check]] = {}
        arena = context.arena or context.keep("arena", Arena)
        name = f"http_signature/{context.instance}"
        self._replays = Replays(arena, name, terms.nonces, context.worker, context.workers)

    def authenticate(self, exchange: Exchange) -> Outcome | Awaitable[Outcome]:
        """A `core.identity.Authenticator`."""
        try:
            shown = signatures.read(exchange, self._terms.label)
            if shown is None:
                return None
            credential = self._check(exchange, shown)
            if not self._is_new(credential, shown):
                return self._crowded
            if signatures.DIGEST.decode() not in shown.covered():
                return self._admit(exchange, credential)
            return self._check_body(exchange, credential)
        except Refused as error:
            return self._refused(error)

    def _check(self, exchange: Exchange, shown: Shown) -> Credential:
        """Whose signature it is. Raises `Refused`: nobody's, or of too little."""
        terms, keyid = self._terms, shown.text("keyid")
        credential = self._find("signature", keyid.encode())
        if credential is None or not credential.not_before <= self._wall() < (credential.expires or float("inf")):
            raise Refused("unknown key")
        if shown.text("alg") not in ("", credential.data["algorithm"]):
            raise Refused("another algorithm than the key's")
        if terms.tag and shown.text("tag") != terms.tag:
            raise Refused("made for another use")
        wanted = [*terms.components, *(["content-digest"] if terms.digest and exchange.body_length else ())]
        if missing := signatures.uncovered(shown, wanted):
            raise Refused(f"not covered: {' '.join(missing)}")
        if not self._key(keyid, credential)(shown.signature, signatures.base(exchange, shown)):
            raise Refused("not the key's signature")
        return credential

    def _key(self, keyid: str, credential: Credential) -> Check:
        found = self._keys.get(keyid)
        if found is None or (found[0] is not credential and found[0] != credential):
            if len(self._keys) >= KEYS:
                del self._keys[next(iter(self._keys))]
            found = self._keys[keyid] = credential, _check_of(credential)
        return found[1]

    def _is_new(self, credential: Credential, shown: Shown) -> bool:
        """Remember the nonce; False if there is no room for it. Raises `Refused`: too old, or seen before."""
        now, nonce = self._wall(), shown.text("nonce")
        until = signatures.check_times(shown, now, self._terms.max_age, LEEWAY)
        if not nonce:
            if self._terms.nonce_required:
                raise Refused("no nonce")
            return True
        verdict = self._replays.first(credential.consumer.id.encode(), f"{credential.id}\0{nonce}".encode(), until, now)
        if verdict == "replayed":
            raise Refused("shown before")
        return verdict == ""

    def _check_body(self, exchange: Exchange, credential: Credential) -> Outcome | Awaitable[Outcome]:
        if not exchange.body_length:
            signatures.check_digest(exchange, b"")
            return self._admit(exchange, credential)
        return self._gather(exchange, credential)

    async def _gather(self, exchange: Exchange, credential: Credential) -> Outcome:
        body = await gather(exchange, self._terms.largest_body)
        if body is None:
            return self._too_large
        try:
            signatures.check_digest(exchange, body)
        except Refused as error:
            return self._refused(error)
        return self._admit(exchange, credential)

    def _admit(self, exchange: Exchange, credential: Credential) -> Identity:
        if not self._terms.pass_on:
            exchange.headers = [pair for pair in exchange.headers if pair[0] not in (INPUT, SIGNATURE)]
        return Identity(credential.consumer, "http_signature", credential.id, credential.scopes)

    def _refused(self, error: Refused) -> Reply:
        _log.debug("a signature is refused: %s", error.reason)
        return self._wrong


def _check_of(credential: Credential) -> Check:
    """Loading refuses keys that are none. One of an index that another version made is told of, and checks nothing."""
    try:
        return check_of(credential.data["algorithm"], credential.data["key"])
    except ValueError as error:
        _log.warning("the signature key %s of %s cannot be used: %s", credential.id, credential.consumer.id, error)
        return lambda signature, content: False
