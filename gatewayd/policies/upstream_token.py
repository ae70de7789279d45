"""Tells targets who calls by a signed token, so that nobody who gets past the gateway can pretend to be someone.

Its keys are published at `publish` of every route it is on.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gatewayd.config.model import FieldName, File, Span
from gatewayd.config.units import Duration
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import AccessHook, BuildContext, Hooks, Reply, Verdict
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity.issuing import Issuer, load_keys
from gatewayd.identity.naming import is_reserved, name_faults

STACKS = False

_AUTHORIZATION = b"authorization"
Claim = Literal["name", "groups", "plan", "labels", "scope", "method", "credential"]
PublishedAt = Annotated[
    str, Meta(pattern=r"^(/[!-~]*)?$", extra={"allowed": 'a path such as "/.well-known/jwks.json", or ""'})
]


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `upstream_token`."""

    keys: list[File]  # PEM files; the first signs, all are published
    header: FieldName = "Authorization"  # there as "Bearer <token>", in any other field the token alone
    issuer: str = ""  # `iss`; "": the gateway's name
    audience: str = ""  # `aud`; "": the service's name
    lifetime: Span = Duration(60)  # between `iat` and `exp`; a token is sent for half of it
    claims: list[Claim] = field(default_factory=lambda: ["name", "groups", "plan", "scope"])  # beside `sub`
    publish: PublishedAt = "/.well-known/jwks.json"  # where the key set is answered; "": nowhere


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    faults = name_faults("header", config.header)
    if config.lifetime < 2:
        faults.append(Fault("lifetime", "too short: times in tokens are whole seconds", allowed="2s or more"))
    if faults:
        raise ConfigError(faults)
    name = config.issuer or context.document.gateway.name
    issuer = Issuer(load_keys(config.keys), name, config.lifetime, config.claims, context.clock)
    access = _teller(issuer, config.header.lower().encode(), config.audience)
    said = f"{config.header}: a token of {name}"
    if not config.publish:
        return Hooks(access=access, explain=said)
    return Hooks(access=_publisher(access, config.publish, issuer.key_set), explain=f"{said}; keys at {config.publish}")


def _teller(issuer: Issuer, header: bytes, audience: str) -> AccessHook:
    scheme = b"Bearer " if header == _AUTHORIZATION else b""
    reserved = is_reserved(header)
    token = issuer.token

    def tell(exchange: Exchange) -> None:
        identity = exchange.identity
        if not reserved:
            exchange.headers = [pair for pair in exchange.headers if pair[0] != header]
        if identity is not None:
            route = exchange.route
            wanted = audience or (route.service or route.name if route is not None else "")
            exchange.headers.append((header, scheme + token(identity, wanted)))

    return tell


def _publisher(tell: AccessHook, path: str, key_set: bytes) -> AccessHook:
    where = path.encode()
    fields = ((b"content-type", b"application/json"), (b"cache-control", b"public, max-age=300"))
    published = Reply(200, fields, key_set)

    def access(exchange: Exchange) -> Verdict:
        if exchange.path == where and exchange.method in (b"GET", b"HEAD"):
            return published
        tell(exchange)
        return None

    return access
