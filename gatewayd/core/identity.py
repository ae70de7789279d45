"""Who calls: the consumer, and the credential that says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Reply


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who is known to the gateway."""

    id: str
    name: str = ""
    groups: frozenset[str] = frozenset()
    plan: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a policy that authenticates found out. It goes to `exchange.identity`."""

    consumer: Consumer
    method: str
    """Name of the policy, such as "api_key"."""
    credential: str = ""
    """What the credential is called in logs; tells nothing secret."""
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict)


Outcome = Identity | Reply | None
"""None: the caller shows no credential of this kind. A `Reply`: it shows one that is refused."""
Authenticator = Callable[[Exchange], "Outcome | Awaitable[Outcome]"]
