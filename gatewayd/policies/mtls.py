"""Who calls, by the certificate of the TLS connection: for listeners with `client_auth`.

The handshake checks the certificate against the listener's `client_ca`; here it becomes a consumer, by its fingerprint,
one of its alternative names, or its subject.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct, field

from gatewayd.config.model import File
from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Authenticator, Outcome
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity.certificates import By, Certificates, Concluded, Presented
from gatewayd.identity.require import challenge, require, unauthorized
from gatewayd.identity.revocations import NONE, CrlError, Lists, Revocations, read, stamp

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

STACKS = False

_log = logging.getLogger(__name__)


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `mtls`."""

    by: Annotated[list[By], Meta(min_length=1)] = field(
        default_factory=lambda: ["fingerprint", "uri", "dns", "email", "subject"]
    )  # what consumers are recognised by; the first that somebody is known under counts
    crl: File = ""  # revocation lists, PEM or DER; "": none are looked at
    crl_ca: File = ""  # PEM file: who signs them; "": the client_ca of the listeners
    crl_expired: Literal["refuse", "accept"] = "refuse"  # certificates whose list should have been replaced by now


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    revocations = _revocations(config, context) if config.crl else None
    challenges = (challenge("ClientCertificate", context.document.identity.realm),)
    authenticate = _authenticator(config, context, revocations, challenges)
    explain = f"by {', '.join(config.by)}" + (f", revocations in {config.crl}" if config.crl else "")
    return Hooks(
        access=require(authenticate, challenges, context),
        authenticate=authenticate,
        challenges=challenges,
        explain=explain,
    )


def _authenticator(
    config: Config, context: BuildContext, revocations: Revocations | None, challenges: Sequence[bytes]
) -> Authenticator:
    certificates = Certificates(context.consumers, config.by, "mtls")
    refusal = unauthorized(challenges)
    wall = context.clock.wall
    status = revocations.status if revocations is not None else _never

    def conclude(exchange: Exchange, lists: Lists, now: float) -> Outcome:
        found = certificates.conclude(exchange.tls, lists, status, now)
        if found.reason:
            _log.debug("a certificate is refused: %s", found.reason)
        return refusal if found.reason else found.identity

    async def wait(exchange: Exchange, looking: Awaitable[None]) -> Outcome:
        await looking
        return conclude(exchange, _lists(revocations), wall())

    def authenticate(exchange: Exchange) -> Outcome | Awaitable[Outcome]:
        tls = exchange.tls
        if tls is None:
            return None
        looking = revocations.look() if revocations is not None else None
        if looking is not None:
            return wait(exchange, looking)
        known, lists, now = tls.concluded, _lists(revocations), wall()
        if known.__class__ is Concluded and known.holds(certificates, lists, now):
            return refusal if known.reason else known.identity
        return conclude(exchange, lists, now)

    return authenticate


def _never(presented: Presented, now: float) -> tuple[str, float]:
    """No list says that it is revoked."""
    return "", math.inf


def _lists(revocations: Revocations | None) -> Lists:
    return NONE if revocations is None else revocations.lists


def _revocations(config: Config, context: BuildContext) -> Revocations:
    """The lists of the configured file, read again only if it, or who may sign it, has changed."""
    files = [config.crl_ca] if config.crl_ca else _client_authorities(context)
    kept: list[tuple[object, list[Certificate], Lists]] = context.keep("lists", list)
    signature = (config.crl, stamp(config.crl), [(path, stamp(path)) for path in files])
    if not kept or kept[0][0] != signature:
        try:
            authorities = [each for path in files for each in _certificates(path)]
            kept[:] = [(signature, authorities, read(config.crl, authorities))]
        except CrlError as error:
            raise ConfigError([Fault("crl", str(error), config.crl)]) from None
    _, authorities, lists = kept[0]
    accept = config.crl_expired == "accept"
    return Revocations(config.crl, authorities, lists, accept, context.clock.monotonic)


def _client_authorities(context: BuildContext) -> list[str]:
    listeners = context.document.listeners.values()
    return sorted({each.tls.client_ca for each in listeners if each.tls is not None and each.tls.client_ca})


def _certificates(path: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        with open(path, "rb") as file:
            return load_pem_x509_certificates(file.read())
    except (OSError, ValueError):
        raise CrlError(f"cannot be verified: {path} holds no PEM certificate") from None
