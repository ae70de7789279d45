"""Policies of plans: a route goes on as its variant for the caller's plan once it is known who calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy

from gatewayd.config import model
from gatewayd.core.policy import Route
from gatewayd.errors import Fault
from gatewayd.gateway.chains import access_of, attach, chain
from gatewayd.gateway.snapshot import ChainLink

NO_PLAN = ""
"""The variant of callers without an identity, or whose consumer has no plan, or one that is not configured."""


def attach_with_plans(
    route: Route,
    links: dict[str, ChainLink],
    document: model.Document,
    config: model.Route,
    monotonic: Callable[[], float],
) -> tuple[ChainLink, ...]:
    """Put the hooks of gateway, service and route on `route`, and each plan's behind those that find out who calls.

    Returns the chain without any plan. Where nobody is asked who they are, plans mean nothing.
    """
    base = chain(links, document, config)
    bare = copy(route)
    attach(route, base, monotonic)
    before = until_known(base)
    if not document.plans or not before:
        return base
    route.by_plan = {
        plan: _variant(bare, before, chain(links, document, config, plan), monotonic)
        for plan in (NO_PLAN, *document.plans)
    }
    route.access = access_of(before, monotonic)
    return base


def until_known(base: tuple[ChainLink, ...]) -> tuple[ChainLink, ...]:
    """The links up to the last that finds out who calls; none where nobody is asked."""
    return base[: 1 + max((at for at, link in enumerate(base) if link.hooks.authenticate is not None), default=-1)]


def from_then_on(
    before: tuple[ChainLink, ...], links: dict[str, ChainLink], document: model.Document, config: model.Route, plan: str
) -> tuple[ChainLink, ...]:
    """The links that a caller with `plan` meets behind `before`; a plan that is not configured is none."""
    return _behind(before, chain(links, document, config, plan if plan in document.plans else NO_PLAN))


def _behind(before: tuple[ChainLink, ...], links: tuple[ChainLink, ...]) -> tuple[ChainLink, ...]:
    return tuple(link for link in links if link not in before)


def _variant(
    bare: Route, before: tuple[ChainLink, ...], links: tuple[ChainLink, ...], monotonic: Callable[[], float]
) -> Route:
    """`bare` as it goes on behind the links `before`; its reply and log hooks are those of the whole chain."""
    variant = copy(bare)
    attach(variant, links, monotonic)
    variant.access = access_of(_behind(before, links), monotonic)
    return variant


def misplaced(links: dict[str, ChainLink], document: model.Document) -> list[Fault]:
    """Instances that a plan cannot have."""
    return [
        fault
        for plan, config in document.plans.items()
        for index, name in enumerate(config.policies)
        if name in links
        for fault in _misplaced(f"plans.{plan}.policies[{index}]", links[name], links)
    ]


def _misplaced(where: str, link: ChainLink, links: dict[str, ChainLink]) -> Iterator[Fault]:
    """One that runs before the plan is known, or answers in the handler's stead. And one whose kind tells targets in
    fields of other names who calls: on one route some callers would then get by whoever takes these out.
    """
    if link.hooks.authenticate is not None or link.hooks.handler is not None:
        allowed = "what runs behind authentication, and leaves the answer to others"
        yield Fault(where, f"a plan cannot have a {link.policy}", link.instance, allowed)
        return
    told = {field.decode() for other in links.values() if other.policy == link.policy for field in other.hooks.tells}
    if told:
        message = f"with another {link.policy} for some callers, these could send {', '.join(sorted(told))} themselves"
        yield Fault(
            where, message, link.instance, hint="name it on the route, or let the fields begin with X-Consumer-"
        )
