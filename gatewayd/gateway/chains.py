"""Policies on routes: tables of the configuration become hooks, in the order of `policies.ORDER`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from msgspec import Struct

from gatewayd import policies
from gatewayd.config import model
from gatewayd.config.attachment import levels
from gatewayd.config.convert import convert_policy
from gatewayd.config.faults import Locate, nowhere, placed
from gatewayd.config.keys import join
from gatewayd.config.model import PolicyTable
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import AccessHook, BuildContext, Hooks, ReplyHook, Route, Undecided, Verdict
from gatewayd.errors import ConfigError, Fault
from gatewayd.gateway.snapshot import ChainLink
from gatewayd.limits.step import Entry, one_step

_log = logging.getLogger(__name__)


class _Configs(Mapping[str, type[Struct]]):
    """Each policy's `Config`; a policy's module is imported when its own is asked for."""

    def __getitem__(self, name: str) -> type[Struct]:
        if name not in policies.ORDER:
            raise KeyError(name)
        config: type[Struct] = policies.load(name).Config
        return config

    def __iter__(self) -> Iterator[str]:
        return iter(policies.ORDER)

    def __len__(self) -> int:
        return len(policies.ORDER)


CONFIGS = _Configs()


def build_links(
    tables: dict[str, dict[str, Any]], context: Callable[[str], BuildContext], locate: Locate = nowhere
) -> tuple[dict[str, ChainLink], list[Fault]]:
    """Every instance of `[policies]`, built once, and all that is wrong with them. `context` makes an instance's."""
    links = _Links(tables, context, locate)
    for instance in tables:
        with contextlib.suppress(ConfigError):
            links.link(instance)
    return links.built, links.faults


class _Links:
    """Links in the making: one that combines others has them built first."""

    def __init__(
        self, tables: dict[str, dict[str, Any]], context: Callable[[str], BuildContext], locate: Locate
    ) -> None:
        self.built: dict[str, ChainLink] = {}
        self.faults: list[Fault] = []
        self._tables = tables
        self._context = context
        self._locate = locate
        self._begun: set[str] = set()

    def link(self, instance: str) -> ChainLink:
        """The link of `instance`. Raises `ConfigError`, whose faults are gathered the first time."""
        if instance in self.built:
            return self.built[instance]
        if instance not in self._tables:
            raise ConfigError([Fault("", "no such instance", instance, ", ".join(sorted(self._tables)))])
        if instance in self._begun:
            raise ConfigError([Fault("", "it leads back to itself, or is wrong itself", instance)])
        self._begun.add(instance)
        context = self._context(instance)
        context.hooks_of = lambda name: self.link(name).hooks
        try:
            self.built[instance] = _build_link(instance, self._tables[instance], context, self._locate)
        except ConfigError as error:
            self.faults.extend(error.faults)
            raise
        return self.built[instance]


def _build_link(instance: str, table: dict[str, Any], context: BuildContext, locate: Locate) -> ChainLink:
    common, config, faults = convert_policy(CONFIGS, instance, table, locate)
    if common is None or config is None:
        raise ConfigError(faults)
    try:
        hooks = policies.load(common.policy).build(config, context)
    except ConfigError as error:
        raise ConfigError(placed(error.faults, ("policies", instance), locate)) from None
    return ChainLink(instance, common.policy, common.mode, common.failure, _tempered(hooks, instance, common))


def _tempered(hooks: Hooks, instance: str, common: PolicyTable) -> Hooks:
    """Hooks that do as `mode` and `failure` say. Enforcing and failing closed is the plain case and costs nothing."""
    access = hooks.access
    if access is not None and (common.mode == "observe" or common.failure == "open"):
        access = _lenient(access, instance, common.mode == "observe", common.failure == "open")
    reply = hooks.reply
    if reply is not None and common.mode == "observe":
        reply = None  # what it would add or remove is no verdict to record
    elif reply is not None and common.failure == "open":
        reply = _lenient_reply(reply, instance)
    handler = hooks.handler if common.mode == "enforce" else None  # who observes answers nobody
    return replace(hooks, access=access, reply=reply, handler=handler)


def _lenient(hook: AccessHook, instance: str, observe: bool, fail_open: bool) -> AccessHook:
    def settle(exchange: Exchange, verdict: Verdict) -> Verdict:
        if verdict is None or not observe:
            return verdict
        exchange.note(instance, "observed")
        return None

    def failed(exchange: Exchange, error: Exception) -> Verdict:
        if not isinstance(error, Undecided):
            _log.exception("policy %s failed; it fails open", instance)
        exchange.note(instance, "failed")
        return None

    async def wait(exchange: Exchange, waiting: Awaitable[Verdict]) -> Verdict:
        try:
            return settle(exchange, await waiting)
        except Exception as error:
            if not (fail_open or observe):
                raise
            return failed(exchange, error)

    def lenient(exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        try:
            verdict = hook(exchange)
        except Exception as error:
            if not (fail_open or observe):
                raise
            return failed(exchange, error)
        if isinstance(verdict, Awaitable):
            return wait(exchange, verdict)
        return settle(exchange, verdict)

    return lenient


def _lenient_reply(hook: ReplyHook, instance: str) -> ReplyHook:
    def lenient(exchange: Exchange, headers: Headers) -> None:
        before = headers.copy()
        try:
            hook(exchange, headers)
        except Exception:
            _log.exception("policy %s failed at a reply; it fails open", instance)
            exchange.note(instance, "failed")
            headers[:] = before

    return lenient


def chain(
    links: dict[str, ChainLink], document: model.Document, route: model.Route, plan: str = ""
) -> tuple[ChainLink, ...]:
    """The links on `route` for callers with `plan`, in ORDER; of one policy gateway, service, route and plan in turn.

    Of a policy that does not stack only the nearest instances run: the plan's, else the route's, the service's, the
    gateway's.
    """
    named = levels(document, route, plan)
    found: list[ChainLink] = []
    for policy in policies.ORDER:
        here = [[links[name] for name in level if name in links and links[name].policy == policy] for level in named]
        if not policies.load(policy).STACKS if any(here) else False:
            here = [next(level for level in reversed(here) if level)]
        for level in here:
            found.extend(link for link in level if link not in found)
    return tuple(found)


def crowded(links: dict[str, ChainLink], document: model.Document) -> list[Fault]:
    """Levels with two instances of a policy of which only one can count there."""
    lists = [("gateway.policies", document.gateway.policies)]
    lists += [(join(("services", name, "policies")), each.policies) for name, each in document.services.items()]
    lists += [(join(("routes", name, "policies")), each.policies) for name, each in document.routes.items()]
    lists += [(join(("plans", name, "policies")), each.policies) for name, each in document.plans.items()]
    return [fault for where, names in lists for fault in _crowded(links, where, names)]


def _crowded(links: dict[str, ChainLink], where: str, names: Sequence[str]) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for index, name in enumerate(names):
        link = links.get(name)
        if link is None or policies.load(link.policy).STACKS:
            continue
        other = first.setdefault(link.policy, name)
        if other != name:
            message = f"{other} is a {link.policy} too, and only one can count here"
            yield Fault(f"{where}[{index}]", message, name)


def attach(route: Route, links: Sequence[ChainLink], monotonic: Callable[[], float]) -> None:
    """Put the hooks of `links` on the compiled `route`. Limits are asked at the time that `monotonic` says."""
    route.access = access_of(links, monotonic)
    route.reply = tuple(link.hooks.reply for link in links if link.hooks.reply is not None)
    route.log = tuple(link.hooks.log for link in links if link.hooks.log is not None)
    for link in reversed(links):
        if link.hooks.handler is not None:
            route.handler = link.hooks.handler(route.handler)


def access_of(links: Sequence[ChainLink], monotonic: Callable[[], float]) -> tuple[tuple[str, AccessHook], ...]:
    """The access hooks of `links`, each with its instance; all their limits are one, at the place of the first."""
    access: list[tuple[str, AccessHook]] = []
    limits = [
        Entry(link.instance, link.hooks.limit, link.mode == "observe", link.failure == "open")
        for link in links
        if link.hooks.limit is not None
    ]
    for link in links:
        if limits and link.hooks.limit is not None:
            access.append(("", one_step(limits, monotonic)))
            limits = []
        if link.hooks.access is not None:
            access.append((link.instance, link.hooks.access))
    return tuple(access)
