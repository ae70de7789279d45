"""Rules about who asks for what: data from the configuration, each made into one question at load.

A path parameter is compared with its escapes decoded, so that `%2B` and `+` are one; a claim with its type, so that
`true` is not `1`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from msgspec import Struct, field

from gatewayd.config.model import Method
from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Identity

ANYONE = "*"
OWN_ID = "{consumer.id}"
Condition = Callable[[Exchange, Identity | None], bool]
"""Whether it holds for a request of this caller; None: nobody found out who that is."""


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Holds for a request if all that it names holds; what it does not name may be anything."""

    consumers: list[str] = field(default_factory=list)  # one of these ids; "*": whoever showed a credential
    groups: list[str] = field(default_factory=list)  # in one of these
    scopes: list[str] = field(default_factory=list)  # has every one of these
    claims: dict[str, list[str | int | bool]] = field(default_factory=dict)  # each claim is one of its values
    methods: list[Method] = field(default_factory=list)  # one of these; GET is HEAD too
    routes: list[str] = field(default_factory=list)  # one of these, by name
    params: dict[str, list[str]] = field(default_factory=dict)  # each path parameter is one of its values

    def named(self) -> list[str]:
        """What the rule asks about."""
        return [name for name in self.__struct_fields__ if getattr(self, name)]

    def __str__(self) -> str:
        said = []
        for name in self.named():
            value = getattr(self, name)
            pairs = value.items() if isinstance(value, dict) else [("", value)]
            said += [" ".join(filter(None, (name, key, "/".join(map(str, values))))) for key, values in pairs]
        return ", ".join(said)


def condition(rule: Rule) -> Condition:
    """The rule as one question. What is cheap to ask and rules much out comes first."""
    found: list[Condition] = []
    if rule.methods:
        found.append(_method(rule.methods))
    if rule.routes:
        found.append(_route(frozenset(rule.routes)))
    if rule.consumers:
        found.append(_consumer(frozenset(rule.consumers)))
    if rule.groups:
        found.append(_group(frozenset(rule.groups)))
    if rule.scopes:
        found.append(_scope(frozenset(rule.scopes)))
    found += [_claim(name, values) for name, values in rule.claims.items()]
    found += [_param(name, values) for name, values in rule.params.items()]
    return found[0] if len(found) == 1 else _every(tuple(found))


def _every(conditions: tuple[Condition, ...]) -> Condition:
    def every(exchange: Exchange, identity: Identity | None) -> bool:
        for holds in conditions:  # noqa: SIM110 - `all` would make a generator for every request
            if not holds(exchange, identity):
                return False
        return True

    return every


def _method(names: list[str]) -> Condition:
    methods = {name.encode() for name in names}
    if b"GET" in methods:
        methods.add(b"HEAD")
    return lambda exchange, identity: exchange.method in methods


def _route(names: frozenset[str]) -> Condition:
    return lambda exchange, identity: exchange.route is not None and exchange.route.name in names


def _consumer(ids: frozenset[str]) -> Condition:
    def consumer(exchange: Exchange, identity: Identity | None) -> bool:
        return identity is not None and identity.consumer.id in ids

    def anyone(exchange: Exchange, identity: Identity | None) -> bool:
        return identity is not None and (identity.method != "anonymous" or identity.consumer.id in ids)

    return anyone if ANYONE in ids else consumer


def _group(names: frozenset[str]) -> Condition:
    apart = names.isdisjoint
    return lambda exchange, identity: identity is not None and not apart(identity.consumer.groups)


def _scope(names: frozenset[str]) -> Condition:
    return lambda exchange, identity: identity is not None and names <= identity.scopes


def _claim(name: str, values: list[str | int | bool]) -> Condition:
    wanted = frozenset((type(value), value) for value in values)
    path = name.split(".")

    def claim(exchange: Exchange, identity: Identity | None) -> bool:
        found = None if identity is None else _look_up(identity.claims, name, path)
        shown = found if isinstance(found, list | tuple) else (found,)
        return any((type(each), each) in wanted for each in shown if isinstance(each, str | int))

    return claim


def _look_up(claims: Mapping[str, Any], name: str, path: list[str]) -> Any:
    """The claim of that very name (some are URLs, with dots), else what the path of names leads to."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _param(name: str, values: list[str]) -> Condition:
    wanted = frozenset(value.encode() for value in values if value != OWN_ID)
    own = OWN_ID in values

    def param(exchange: Exchange, identity: Identity | None) -> bool:
        value = exchange.params.get(name) if exchange.params else None
        if value is None:
            return False
        if b"%" in value:
            value = unquote_to_bytes(value)
        return value in wanted or (own and identity is not None and value == identity.consumer.id.encode())

    return param
