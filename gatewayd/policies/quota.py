"""How much may be used in a calendar month, day or year, for each consumer or what else it is counted by.

Counted for all workers together, and kept over restarts and crashes. Refused with 429.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct, field

from gatewayd.config.keys import join
from gatewayd.config.model import Document
from gatewayd.config.values import Count, Share
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.limits.calendar import ANCHOR, SECONDS, Calendar, Per
from gatewayd.limits.fields import fields, legacy
from gatewayd.limits.keys import KeyNames, Keys, key_faults, names_of
from gatewayd.limits.leases import Leased, OnFailure, QuotaSide, Shared
from gatewayd.limits.ledger import Ledger
from gatewayd.limits.lender import Lender
from gatewayd.limits.quotas import MOST, Quota, QuotaError
from gatewayd.limits.rate import Counter, RateLimit

STACKS = True


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `quota`."""

    limit: Annotated[int, Meta(ge=1, le=MOST)]  # so much in each period
    per: Per = "month"  # a period
    time_zone: str = "UTC"  # whose midnight counts, such as "Europe/Berlin"
    starts: str = (
        ""  # when some period begins, "2026-01-15" or "2026-01-01T06:00"; "": the first, a Monday, at midnight
    )
    key: KeyNames = "consumer"  # whom it is counted for; a list: for each combination
    weights: dict[str, Count] = field(default_factory=dict)  # what a request uses, by route; 1 on others
    charge: Literal["request", "success"] = "request"  # success: what fails in the gateway or behind is given back
    legacy_headers: bool = False  # X-RateLimit-Limit, -Remaining and -Reset as well
    store: Literal["local", "redis"] = "local"  # redis: one quota for all machines that share redis.url
    lease: Share = 0.05  # store = "redis": of the limit, what a machine may take ahead, or before it has heard of a key
    on_store_failure: OnFailure = "local"  # while Redis is out: each machine by itself, "deny" all, "allow" all


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    names = names_of(config.key)
    faults = list(_faults(config, context.document))
    if faults:
        raise ConfigError(faults)
    calendar = Calendar(config.per, ZoneInfo(config.time_zone), _anchor(config.starts))
    quota = Quota(context.instance, config.limit, calendar, lambda: Ledger.of(context), context.clock.wall)
    if context.arena is not None and _is_attached(context.instance, context.document):
        _open(quota, context)
    context.show(quota.figures)
    shared = config.store == "redis"
    counter: Counter = Leased.of(context, QuotaSide(quota, context.instance), config.lease) if shared else quota
    write = fields(context.instance, config.limit, SECONDS[config.per])
    limit = RateLimit(
        context.instance,
        Keys(names, context.consumers),
        counter,
        config.weights,
        legacy(write, config.limit) if config.legacy_headers else write,
        "quota_exceeded",
    )
    where = ", over all machines" if shared else ""
    return Hooks(
        limit=Shared(limit, context.instance, Lender.of(context), config.on_store_failure) if shared else limit,
        usage=limit.usage,
        reply=limit.show,
        log=limit.refund if config.charge == "success" else None,
        explain=f"{config.limit} per {config.per} ({config.time_zone}){where}, for each {' and '.join(names)}",
    )


def _open(quota: Quota, context: BuildContext) -> None:
    """Open its book now, so that a configuration whose counts cannot be kept is refused."""
    clock = context.clock
    try:
        quota.open(clock.wall(), round(clock.monotonic() * 1e9))
    except QuotaError as error:
        raise ConfigError([Fault("", f"what is used cannot be kept: {error}", hint="see gateway.state_dir")]) from error


def _is_attached(instance: str, document: Document) -> bool:
    """Whether anything names the instance: one that only stands there must not want a directory."""
    levels = [document.gateway.policies]
    levels += [each.policies for each in document.services.values()]
    levels += [each.policies for each in document.routes.values()]
    levels += [each.policies for each in document.plans.values()]
    return any(instance in level for level in levels)


def _anchor(starts: str) -> datetime:
    """Raises `ValueError`."""
    if not starts:
        return ANCHOR
    found = datetime.fromisoformat(starts)
    if found.tzinfo is not None or found.microsecond:
        raise ValueError("a local time in whole seconds")
    return found


def _faults(config: Config, document: Document) -> Iterator[Fault]:
    yield from key_faults(config.key)
    try:
        ZoneInfo(config.time_zone)
    except (KeyError, ValueError, OSError):
        yield Fault("time_zone", "there is no such time zone", config.time_zone, 'a name such as "Europe/Berlin"')
    try:
        _anchor(config.starts)
    except ValueError:
        allowed = 'a local date or time, such as "2026-01-15" or "2026-01-01T06:00"'
        yield Fault("starts", "no date", config.starts, allowed)
    for route, cost in config.weights.items():
        if route not in document.routes:
            yield Fault(join(("weights", route)), "there is no such route", route, ", ".join(document.routes))
        elif cost > config.limit:
            yield Fault(join(("weights", route)), "more than is ever let through", str(cost), f"{config.limit} at most")
