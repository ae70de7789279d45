"""Callers that are known: consumers and credentials made up by a test, and what a policy finds out about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Credential


def known(consumer: str = "acme", **more: Any) -> Identity:
    """An identity; `groups` and `scopes` may be any iterable, `name`, `plan` and `labels` are the consumer's."""
    own = {key: more.pop(key) for key in ("name", "plan", "labels") if key in more}
    groups, scopes = frozenset(more.pop("groups", ())), frozenset(more.pop("scopes", ()))
    return Identity(Consumer(consumer, groups=groups, **own), more.pop("method", "api_key"), scopes=scopes, **more)


class Known:
    """A `core.policy.Consumers` of the given credentials, by (kind, key), and their consumers."""

    def __init__(self, credentials: dict[tuple[str, bytes], Credential] | None = None, *consumers: Consumer) -> None:
        self.credentials = credentials or {}
        self.consumers = {each.id: each for each in consumers}
        self.consumers |= {each.consumer.id: each.consumer for each in self.credentials.values()}

    def by_id(self, consumer: str) -> Consumer | None:
        return self.consumers.get(consumer)

    def by_credential(self, kind: str, key: bytes) -> Credential | None:
        return self.credentials.get((kind, key))


def outcome(found: Any) -> Any:
    """What a hook says, waited for in a loop of its own if need be."""

    async def wait(waiting: Awaitable[Any]) -> Any:
        return await waiting

    return asyncio.run(wait(found)) if isinstance(found, Awaitable) else found
