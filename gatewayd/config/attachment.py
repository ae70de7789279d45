"""Where policies are attached: which routes ask an instance, themselves or through one that combines others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gatewayd.config.model import Document, Route


class _Combined(msgspec.Struct):
    """What counts here of an instance of `authentication`."""

    any_of: list[str] = []
    all_of: list[str] = []


def policy_of(instance: str, table: dict[str, Any]) -> str:
    """The policy that the table `policies.<instance>` configures."""
    return table.get("policy") or instance


def levels(document: Document, route: Route, plan: str = "") -> list[Sequence[str]]:
    """The instances on `route` for callers with `plan`: the gateway's, the service's, the route's and the plan's."""
    service = document.services.get(route.service)
    found: list[Sequence[str]] = [document.gateway.policies, service.policies if service else (), route.policies]
    return [*found, document.plans[plan].policies] if plan else found


def reached(document: Document) -> dict[str, list[tuple[str, Route]]]:
    """The routes, by name, on which each instance may be asked: attached there, or named by one that is."""
    members = {}
    for name, table in document.policies.items():
        if policy_of(name, table) == "authentication":
            with contextlib.suppress(msgspec.ValidationError):  # told of elsewhere
                combined = msgspec.convert(table, _Combined)
                members[name] = combined.any_of + combined.all_of
    of_plans = [name for plan in document.plans.values() for name in plan.policies]
    found: dict[str, list[tuple[str, Route]]] = {}
    for route_name, route in document.routes.items():
        here = [*of_plans, *(name for level in levels(document, route) for name in level)]
        for name in _with_members(here, members):
            found.setdefault(name, []).append((route_name, route))
    return found


def _with_members(names: Iterable[str], members: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += members.get(name, ())
    return found
