"""Several ways to find out who calls, asked one after the other as one. What is refused is refused: no other is tried.

A caller that shows a wrong key and a right token is not let in for the token: whoever guesses keys would otherwise need
any account to do so unseen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Authenticator, Identity, Outcome
from gatewayd.core.policy import Reply
from gatewayd.identity.require import agree


def any_of(members: Sequence[Authenticator]) -> Authenticator:
    """The first member decides that finds something of its kind. None: no member does."""

    def ask(exchange: Exchange, at: int = 0) -> Outcome | Awaitable[Outcome]:
        for number in range(at, len(members)):
            found = members[number](exchange)
            if isinstance(found, Identity | Reply):
                return found
            if found is not None:
                return wait(exchange, found, number + 1)
        return None

    async def wait(exchange: Exchange, waiting: Awaitable[Outcome], then: int) -> Outcome:
        found = await waiting
        return await settled(ask(exchange, then)) if found is None else found

    return ask


def all_of(members: Sequence[Authenticator], missing: Reply) -> Authenticator:
    """Every member must find the same consumer. None: no member finds anything; if only some do, it is `missing`."""

    def ask(exchange: Exchange) -> Outcome | Awaitable[Outcome]:
        found: list[Identity | None] = []
        for then, member in enumerate(members, 1):
            outcome = member(exchange)
            if isinstance(outcome, Reply):
                return outcome
            if outcome is not None and not isinstance(outcome, Identity):
                return wait(exchange, outcome, found, members[then:])
            found.append(outcome)
        return _together(found, missing)

    async def wait(
        exchange: Exchange, waiting: Awaitable[Outcome], found: list[Identity | None], rest: Sequence[Authenticator]
    ) -> Outcome:
        outcome = await waiting
        for member in rest:
            if isinstance(outcome, Reply):
                return outcome
            found.append(outcome)
            outcome = await settled(member(exchange))
        return outcome if isinstance(outcome, Reply) else _together([*found, outcome], missing)

    return ask


def _together(found: list[Identity | None], missing: Reply) -> Outcome:
    shown = [each for each in found if each is not None]
    if len(shown) < len(found):
        return missing if shown else None
    agreed: Identity | Reply = shown[0]
    for each in shown[1:]:
        if isinstance(agreed, Identity):
            agreed = agree(agreed, each)
    return agreed


def untold(authenticate: Authenticator, fields: frozenset[bytes]) -> Authenticator:
    """Asks `authenticate` once callers' own `fields` are taken out: they would pass where a member is not asked."""

    def ask(exchange: Exchange) -> Outcome | Awaitable[Outcome]:
        exchange.headers = [pair for pair in exchange.headers if pair[0] not in fields]
        return authenticate(exchange)

    return ask if fields else authenticate


def or_else(authenticate: Authenticator, fallback: Identity) -> Authenticator:
    """Who shows nothing at all is `fallback`.

    An `Authorization` that nobody took for a credential of its kind goes no further: a target that understands it would
    let in as somebody whom all limits and rules here take for a guest.
    """

    def guest(exchange: Exchange) -> Identity:
        exchange.headers = [pair for pair in exchange.headers if pair[0] != b"authorization"]
        return fallback

    def ask(exchange: Exchange) -> Outcome | Awaitable[Outcome]:
        found = authenticate(exchange)
        if found is None:
            return guest(exchange)
        return found if isinstance(found, Identity | Reply) else wait(exchange, found)

    async def wait(exchange: Exchange, waiting: Awaitable[Outcome]) -> Outcome:
        found = await waiting
        return guest(exchange) if found is None else found

    return ask


async def settled(found: Outcome | Awaitable[Outcome]) -> Outcome:
    """`found`, waited for if need be."""
    return found if found is None or isinstance(found, Identity | Reply) else await found
