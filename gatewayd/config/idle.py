"""What is right by itself and can never take effect where it stands: warnings and no faults, for it may be on purpose.

Rules of `acl` about callers or path parameters that do not exist: in `deny`, a slip of the pen there refuses nobody.
And `mtls` where no listener asks callers for a certificate. Options that cannot be read are told of elsewhere.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gatewayd.config.attachment import policy_of, reached
from gatewayd.config.faults import Faults, Locate, did_you_mean, nowhere
from gatewayd.config.keys import Key
from gatewayd.config.model import Document, Route
from gatewayd.config.subscriptions import listed
from gatewayd.errors import Fault

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)")
_OF_TOKENS = "|"
"""In ids that tokens give to subjects nobody has heard of (`identity.admission`), and in no others."""
T = TypeVar("T")


class _Rule(Struct):
    """What counts here of a rule of `acl`."""

    consumers: list[str] = []
    routes: list[str] = []
    params: dict[str, Any] = {}


class _Rules(Struct):
    """What counts here of an instance of `acl`."""

    deny: list[_Rule] = []
    allow: list[_Rule] = []


def idle(document: Document, locate: Locate = nowhere) -> list[Fault]:
    """What is to be said of rules and policies that can never take effect."""
    faults = Faults(locate)
    asked = reached(document)
    rules = list(_rules(document))
    _strangers(document, rules, faults)
    for key, rule in rules:
        routes = [route for name, route in asked.get(str(key[1]), ()) if name in (rule.routes or document.routes)]
        _unknown_parameters(key, rule, routes, faults)
    for name in _instances(document, "mtls"):
        if asked.get(name) and not any(_asks(document, route) for _, route in asked[name]):
            hint = "set client_auth and client_ca in the tls table of a listener"
            faults.add(("policies", name), "no listener of its routes asks callers for a certificate", hint=hint)
    return faults.found


def _instances(document: Document, policy: str) -> Iterator[str]:
    for name, table in document.policies.items():
        if policy_of(name, table) == policy:
            yield name


def _read(table: object, kind: type[T]) -> T:
    """What counts of `table`; nothing of one that is wrong."""
    with contextlib.suppress(msgspec.ValidationError):
        return msgspec.convert(table, kind)
    return kind()


def _rules(document: Document) -> Iterator[tuple[Key, _Rule]]:
    """All rules of `acl`, and where they stand."""
    for name in _instances(document, "acl"):
        rules = _read(document.policies[name], _Rules)
        for kind, those in (("deny", rules.deny), ("allow", rules.allow)):
            for at, rule in enumerate(those):
                yield ("policies", name, kind, at), rule


def _strangers(document: Document, rules: list[tuple[Key, _Rule]], faults: Faults) -> None:
    """The consumers file is read only if the configuration does not know all the ids."""
    named = [((*key, "consumers", at), name) for key, rule in rules for at, name in enumerate(rule.consumers)]
    unknown = {name for _, name in named if name != "*" and _OF_TOKENS not in name} - document.consumers.keys()
    if unknown:
        with contextlib.suppress(OSError, ValueError):  # it is another file by now
            unknown -= {each.id for _, each in listed(document.identity.consumers_file)}
    for key, name in named:
        if name in unknown:
            faults.add(key, "there is no consumer of this id", name, hint=did_you_mean(name, document.consumers))


def _unknown_parameters(key: Key, rule: _Rule, routes: list[Route], faults: Faults) -> None:
    """`routes` are those on which the rule is asked; with none of them it is at rest, and nothing is said."""
    known = {name for route in routes for name in _PARAMETER.findall(route.path)}
    for name in rule.params:
        if routes and name not in known:
            faults.choose((*key, "params", name), "no route that this is attached to has this parameter", name, known)


def _asks(document: Document, route: Route) -> bool:
    """Whether a listener of `route` asks callers for a certificate."""
    listeners = [
        document.listeners[name] for name in route.listeners or document.listeners if name in document.listeners
    ]
    return any(each.tls is not None and each.tls.client_auth != "none" for each in listeners)
