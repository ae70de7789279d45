"""Policies: one file each, named as the policy is. `docs/policies/README.md` says how to write one."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any, Protocol, cast

from msgspec import Struct

from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault

ORDER: tuple[str, ...] = (
    "capture",  # before all: it sees what callers sent as they sent it, and the refusals of those behind it
    "request_id",  # before what refuses, so that every refusal behind it carries the id the caller knows
    "tracing",  # before anything that refuses or waits: refused calls belong to their trace, too, with all they took
    "ip_restriction",  # needs nothing but the address: who is not let in learns nothing and costs least
    "cors",  # preflights carry no credentials, so they are answered before anything asks for some
    "request_size",  # decided by the head alone, before anyone waits for a body
    "api_key",  # first of those that ask who calls: the cheapest to ask
    "jwt",  # nearly as cheap for a token met before; others cost a signature
    "introspection",  # the same for a token met before; another waits for what its issuer says
    "mtls",  # who calls was settled when the connection was made
    "basic_auth",  # like the others that find out who calls; behind those that cost less, for it hashes
    "http_signature",  # behind those, too: it may have to wait for the body
    "authentication",  # asks the others in an order of its own
    "acl",  # as soon as it is known who calls, and before anything is charged for it
    "rate_limit",  # once it is known who calls; all limits that follow are decided here, in one step
    "quota",  # with it, in one step
    "concurrency_limit",  # with the others: what another limit refuses is not under way
    "bandwidth_limit",  # refuses nothing; outside of the cache, whose replies take bandwidth as well
    "consumer_headers",  # once it is settled that the request goes on: targets are told who calls
    "upstream_token",  # the same, signed; its own Authorization takes the place of the caller's
    "cache",  # behind everything that decides who may have the reply, and about what the target is sent
    "headers",  # last: it sees what the others made of the exchange, and what the operator sets stays
)
"""The order in which policies run, whatever the order in the configuration; reply hooks run in it too."""


class Policy(Protocol):
    """What a policy's module holds."""

    Config: type[Struct]
    """Its own options; `policy`, `mode` and `failure` are common to all and not among them."""
    STACKS: bool
    """True: instances of gateway, service and route all run; False: the nearest one does."""

    # PREFLIGHT = True, where it stands, has CORS preflights for a route's methods routed to the policy.

    def build(self, config: Any, context: BuildContext) -> Hooks:
        """Hooks for one route. Raises `ConfigError`, its paths relative to the policy's table."""
        ...


def load(name: str) -> Policy:
    """The module of a policy, imported on first use. Raises `ConfigError` for a name that is not in `ORDER`."""
    if name not in ORDER:
        near = get_close_matches(name, ORDER, n=1)
        hint = f"did you mean {near[0]}?" if near else ""
        raise ConfigError([Fault("policy", "no such policy", found=name, allowed=", ".join(ORDER), hint=hint)])
    return cast(Policy, importlib.import_module(f"{__name__}.{name}"))
