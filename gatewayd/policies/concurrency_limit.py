"""How many exchanges may be under way at once, for each address, consumer, route or what else they are counted by.

Exact over all workers. An exchange counts until its reply is complete, or its caller's connection is broken; a tunnel
(a WebSocket) until it is closed. Refused with 429.
"""

from __future__ import annotations

from msgspec import Struct

from gatewayd.config.values import Positive
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.core.problem import problem
from gatewayd.errors import ConfigError
from gatewayd.limits.concurrency import Concurrency
from gatewayd.limits.in_flight import InFlight
from gatewayd.limits.keys import KeyNames, Keys, key_faults, names_of

STACKS = True


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `concurrency_limit`."""

    limit: Positive  # so many at once
    key: KeyNames = "address"  # whom it is counted for; a list: for each combination


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    names = names_of(config.key)
    if faults := list(key_faults(config.key)):
        raise ConfigError(faults)
    refusal = problem(
        429,
        "concurrency_limit_exceeded",
        f"more requests at once than {context.instance} allows; wait for others to end",
        ((b"retry-after", b"1"),),
        policy=context.instance,
    )
    keys = Keys(names, context.consumers)
    limit = Concurrency(context.instance, keys, InFlight.of(context, config.limit), refusal)
    explain = f"{config.limit} at once, for each {' and '.join(names)}"
    return Hooks(limit=limit, usage=limit.usage, log=limit.give_back, explain=explain)
