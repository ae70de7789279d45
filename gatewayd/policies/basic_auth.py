"""Finds out who calls by name and password (HTTP Basic, RFC 7617). Only for listeners with TLS: it hides nothing."""

from __future__ import annotations

from collections.abc import Awaitable

from msgspec import Struct

from gatewayd.config.model import Count, Positive
from gatewayd.config.units import Duration
from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Authenticator, Identity, Outcome
from gatewayd.core.policy import BuildContext, Credential, Hooks
from gatewayd.core.problem import problem
from gatewayd.identity.passwords import Busy, Login, Passwords, read_login
from gatewayd.identity.require import challenge, require, unauthorized
from gatewayd.rfc.headers import values

STACKS = False

_AUTHORIZATION = b"authorization"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `basic_auth`."""

    cache: Duration = Duration(60)  # a password found right is not hashed again for so long
    threads: Positive = 2  # hashes made at a time, per worker
    queue: Count = 64  # requests that may wait for one; more are answered 503
    pass_on: bool = False  # targets get the Authorization field


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    passwords = context.keep(
        f"{config.threads}/{config.queue}", lambda: Passwords(context.clock.monotonic, config.threads, config.queue)
    )
    challenges = (challenge("Basic", context.document.identity.realm, charset="UTF-8"),)
    authenticate = _authenticator(config, context, passwords, challenges)
    access = require(authenticate, challenges, context)
    return Hooks(access=access, authenticate=authenticate, challenges=challenges, explain="a name and its password")


def _authenticator(
    config: Config, context: BuildContext, passwords: Passwords, challenges: tuple[bytes, ...]
) -> Authenticator:
    wall = context.clock.wall
    find = context.consumers.by_credential
    wrong = unauthorized(challenges)
    busy = problem(503, "passwords_busy", "too many passwords are being checked", ((b"retry-after", b"1"),))

    def admit(exchange: Exchange, credential: Credential) -> Outcome:
        if not credential.not_before <= wall() < (credential.expires or float("inf")):
            return wrong
        if not config.pass_on:
            exchange.headers = [pair for pair in exchange.headers if pair[0] != _AUTHORIZATION]
        return Identity(credential.consumer, "basic_auth", credential.id, credential.scopes)

    async def wait(exchange: Exchange, digest: bytes, login: Login, credential: Credential | None) -> Outcome:
        try:
            right = await passwords.is_right(digest, login, _stored(credential))
        except Busy:
            return busy
        return admit(exchange, credential) if right and credential is not None else wrong

    def authenticate(exchange: Exchange) -> Outcome | Awaitable[Outcome]:
        shown = values(exchange.headers, _AUTHORIZATION)
        if not any(value[:6].lower() == b"basic " for value in shown):
            return None
        login = read_login(shown[0]) if len(shown) == 1 else None
        if login is None:
            return wrong
        credential = find("basic", login.name)
        digest = passwords.digest(login, _stored(credential))
        if credential is not None and passwords.remembers(digest, config.cache):
            return admit(exchange, credential)
        return wait(exchange, digest, login, credential)

    return authenticate


def _stored(credential: Credential | None) -> str | None:
    return None if credential is None else credential.data.get("hash")
