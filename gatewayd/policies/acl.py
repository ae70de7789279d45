"""Who may do what: rules by consumer, group, scope, claim, method and operation; `deny` wins over `allow`.

It asks nobody who calls: what a policy before it found out is what the rules see, and an unknown caller if none did.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import BuildContext, Hooks, Verdict
from gatewayd.core.problem import problem
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity.rules import Rule, condition
from gatewayd.rfc.methods import METHODS

STACKS = True


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `acl`; at least one rule must be given."""

    deny: list[Rule] = field(default_factory=list)  # what one of these holds for is refused
    allow: list[Rule] = field(default_factory=list)  # where there are some, what none of them holds for is refused


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    faults = list(_faults(config, context))
    if faults:
        raise ConfigError(faults)
    rules = [("deny", at, rule) for at, rule in enumerate(config.deny)]
    rules += [("allow", at, rule) for at, rule in enumerate(config.allow)]
    denied = tuple(condition(rule) for rule in config.deny)
    allowed = tuple(condition(rule) for rule in config.allow)
    refusal = problem(403, "not_allowed", "the caller may not do this")
    otherwise = refusal if allowed else None

    def access(exchange: Exchange) -> Verdict:
        identity = exchange.identity
        for holds in denied:
            if holds(exchange, identity):
                return refusal
        for holds in allowed:
            if holds(exchange, identity):
                return None
        return otherwise

    def why(exchange: Exchange) -> str:
        for (key, at, rule), holds in zip(rules, denied + allowed, strict=True):
            if holds(exchange, exchange.identity):
                return f"{key}[{at}] holds: {rule}"
        return "no rule holds"

    return Hooks(access=access, explain="; ".join(f"{key} {rule}" for key, _, rule in rules), why=why)


def _faults(config: Config, context: BuildContext) -> Iterator[Fault]:
    if not (config.deny or config.allow):
        yield Fault("allow", "there is no rule", allowed="allow, deny")
    known = context.document.routes
    for key, rules in (("deny", config.deny), ("allow", config.allow)):
        for at, rule in enumerate(rules):
            if not rule.named():
                yield Fault(f"{key}[{at}]", "the rule names nothing", allowed=", ".join(Rule.__struct_fields__))
            for index, name in enumerate(rule.methods):
                if name.encode() not in METHODS:
                    hint = "methods are case-sensitive (RFC 9110 §9.1)"
                    yield Fault(f"{key}[{at}].methods[{index}]", "no method that is known here", name, hint=hint)
            for index, name in enumerate(rule.routes):
                if name not in known:
                    yield Fault(f"{key}[{at}].routes[{index}]", "there is no such route", name, ", ".join(known))
