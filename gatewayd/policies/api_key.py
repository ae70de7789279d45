"""Callers show an API key of a consumer: in a header, behind a scheme of Authorization, or in the query where allowed.

Garbage is refused by its checksum before anything is looked up among consumers. A key that was replaced works until its
grace is over; replies then say so in `Gatewayd-Key-Expires`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.identity import Identity, Outcome
from gatewayd.core.policy import BuildContext, Credential, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity import api_keys
from gatewayd.identity.key_places import Place, anywhere, behind_scheme, in_header, in_query
from gatewayd.identity.last_use import HOUR, open_last_use
from gatewayd.identity.require import challenge, require, unauthorized
from gatewayd.rfc.headers import http_date

STACKS = False

KNOWN = 16_384
"""Keys that a worker remembers having checked, per instance; the one it met first is forgotten first."""


TokenOrNone = Annotated[
    str, Meta(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]*$", extra={"allowed": 'a token (RFC 9110 §5.6.2), or ""'})
]


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `api_key`."""

    header: TokenOrNone = "X-Api-Key"  # "": none
    scheme: TokenOrNone = ""  # before the key, such as Bearer or ApiKey; needed in Authorization
    query: str = ""  # parameter that may hold the key; "": none. Queries end up in histories and logs of others
    imported: bool = False  # take keys that were made elsewhere: they have no checksum
    pass_on: bool = False  # let targets see the key


class _Known(NamedTuple):
    """A key that was checked: who it is, until when (wall-clock seconds) nothing about it changes, and its end."""

    identity: Identity
    until: float
    ends: bytes


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for one route."""
    identity = context.document.identity
    find = anywhere(_places(config))
    if len(identity.pepper) < api_keys.SHORTEST_PEPPER:
        raise ConfigError([Fault("", "API keys need a pepper", allowed="identity.pepper of 32 characters or more")])
    challenges = (challenge(config.scheme or "ApiKey", identity.realm),)
    invalid = unauthorized(challenges)
    check = _checker(config, context)
    take, instance = not config.pass_on, context.instance

    def authenticate(exchange: Exchange) -> Outcome:
        shown = find(exchange, take)
        if not shown:
            return None
        known = check(shown[0]) if len(shown) == 1 else None
        if known is None:
            return invalid
        if known.ends:
            exchange.context = {**(exchange.context or {}), instance: known.ends}
        return known.identity

    def reply(exchange: Exchange, headers: Headers) -> None:
        if exchange.context is not None and instance in exchange.context:
            headers.append((b"gatewayd-key-expires", exchange.context[instance]))

    access = require(authenticate, challenges, context)
    return Hooks(access, reply, explain=_explain(config), authenticate=authenticate, challenges=challenges)


def _places(config: Config) -> list[Place]:
    places: list[Place] = []
    if config.header:
        is_authorization = config.header.lower() == "authorization"
        if is_authorization and not config.scheme:
            raise ConfigError([Fault("scheme", "Authorization has a scheme", allowed='such as "Bearer" or "ApiKey"')])
        # Behind Bearer stand tokens of others as well; behind a scheme of our own there are keys alone.
        mixed = config.scheme.lower() == "bearer" and not config.imported
        is_key: Callable[[bytes], bool] = api_keys.is_ours if mixed else bool
        places.append(
            behind_scheme(config.header, config.scheme, is_key) if config.scheme else in_header(config.header)
        )
    if config.query:
        places.append(in_query(config.query))
    if not places:
        raise ConfigError([Fault("header", "there is no place where a key could be", allowed="header or query")])
    return places


def _checker(config: Config, context: BuildContext) -> Callable[[bytes], _Known | None]:
    """What tells of a key whose it is, None if it is nobody's or not valid now."""
    recognised = api_keys.recogniser(context.document.identity.environment)
    digest_of = api_keys.hasher(context.document.identity.pepper)
    mark_of = api_keys.marker()  # half of what `digest_of` takes, for keys met before
    find, wall = context.consumers.by_credential, context.clock.wall
    uses = open_last_use(context)
    memo: dict[bytes, _Known] = {}

    def look(key: bytes, mark: bytes, now: float) -> _Known | None:
        if not recognised(key) and not (config.imported and api_keys.fit_elsewhere(key)):
            return None
        digest = digest_of(key)
        credential = find("key", digest)
        known = None if credential is None else _known(credential, now)
        if known is not None:
            if len(memo) >= KNOWN:
                del memo[next(iter(memo))]
            memo[mark] = known
            if uses is not None:
                uses.mark(digest, now)
        return known

    def check(key: bytes) -> _Known | None:
        if len(key) > api_keys.LONGEST:
            return None
        mark = mark_of(key)
        now = wall()
        known = memo.get(mark)
        return known if known is not None and now < known.until else look(key, mark, now)

    return check


def _known(credential: Credential, now: float) -> _Known | None:
    grace = credential.data.get("grace_until", 0.0)
    end = min(credential.expires or grace, grace or credential.expires)
    if now < credential.not_before or (end and now >= end):
        return None
    hour = (now // HOUR + 1) * HOUR  # then the next use is noted
    ends = http_date(end) if grace else b""
    identity = Identity(credential.consumer, "api_key", credential.id, credential.scopes)
    return _Known(identity, min(end or hour, hour), ends)


def _explain(config: Config) -> str:
    places = [f"{config.header}: {config.scheme} …".replace(":  …", "")] if config.header else []
    places += [f"?{config.query}="] if config.query else []
    return f"API key in {' or '.join(places)}{', made here or elsewhere' if config.imported else ''}"
