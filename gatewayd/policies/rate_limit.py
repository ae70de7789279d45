"""How many requests there may be in a time, for each address, consumer, route or what else they are counted by.

All limits of a route are decided in one step, and hold for all workers together. Refused with 429.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gatewayd.config.keys import join
from gatewayd.config.units import Rate
from gatewayd.config.values import Count, Share
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.limits.bucket import Bucket
from gatewayd.limits.fields import SECOND, fields, legacy
from gatewayd.limits.keys import KeyNames, Keys, key_faults, names_of
from gatewayd.limits.leases import BucketSide, Leased, OnFailure, Shared
from gatewayd.limits.lender import Lender
from gatewayd.limits.rate import Counter, RateLimit
from gatewayd.limits.window import MOST, Window

STACKS = True

_LONGEST = 1 << 61
"""Nanoseconds a bucket may take to fill: 73 years."""
_SHORTEST = 0.01
"""Seconds of a window at least."""


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `rate_limit`."""

    rate: Annotated[Rate, Meta(extra={"gt": 0})]  # "50/s", "100/m", "10/15m"
    burst: Count = 0  # token_bucket: so many at once after a pause; 0: as many as the rate says
    algorithm: Literal["token_bucket", "sliding_window"] = "token_bucket"  # how it is counted
    key: KeyNames = "address"  # whom it is counted for; a list: for each combination
    weights: dict[str, Count] = field(default_factory=dict)  # what a request counts, by route; 1 on others
    charge: Literal["request", "success"] = "request"  # success: what fails in the gateway or behind is given back
    legacy_headers: bool = False  # X-RateLimit-Limit, -Remaining and -Reset as well
    store: Literal["local", "redis"] = "local"  # redis: one limit for all machines that share redis.url
    lease: Share = 0.25  # store = "redis": of the burst, what a machine may take ahead, or before it has heard of a key
    on_store_failure: OnFailure = "local"  # while Redis is out: each machine by itself, "deny" all, "allow" all


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    names = names_of(config.key)
    most = _most(config)
    faults = list(_faults(config, context, most))
    if faults:
        raise ConfigError(faults)
    rate = config.rate
    write = fields(context.instance, rate.amount, rate.period)
    limit = RateLimit(
        context.instance,
        Keys(names, context.consumers),
        _counter(config, context, most),
        config.weights,
        legacy(write, most) if config.legacy_headers else write,
    )
    shared = config.store == "redis"
    return Hooks(
        limit=Shared(limit, context.instance, Lender.of(context), config.on_store_failure) if shared else limit,
        usage=limit.usage,
        reply=limit.show,
        log=limit.refund if config.charge == "success" else None,
        explain=_explain(config, names, most),
    )


def _most(config: Config) -> int:
    """The most requests at once."""
    return config.burst or max(1, int(config.rate.amount))


def _counter(config: Config, context: BuildContext, burst: int) -> Counter:
    amount, period = config.rate.amount, config.rate.period * SECOND
    if config.algorithm == "token_bucket":
        each = round(period / amount)
        bucket = Bucket.of(context, each, burst)
        if config.store == "redis":
            return Leased.of(context, BucketSide(bucket, each, context.instance), config.lease)
        return bucket
    return Window.of(context, int(amount), round(period))


def _explain(config: Config, names: list[str], burst: int) -> str:
    at_once = f", {burst} at once" if config.algorithm == "token_bucket" else " in any window"
    where = ", over all machines" if config.store == "redis" else ""
    return f"{config.rate}{at_once}{where}, for each {' and '.join(names)}"


def _faults(config: Config, context: BuildContext, most: int) -> Iterator[Fault]:
    yield from key_faults(config.key)
    rate, text = config.rate, str(config.rate)
    if config.algorithm == "sliding_window":
        if config.store == "redis":
            yield Fault("store", "no windows are shared", config.store, hint='see algorithm = "token_bucket"')
        if config.burst:
            yield Fault("burst", "a sliding window has none", str(config.burst), hint='see algorithm = "token_bucket"')
        if rate.amount != int(rate.amount) or not 1 <= rate.amount <= MOST or rate.period < _SHORTEST:
            yield Fault("rate", "no window can count this", text, f"1 to {MOST} requests, in 10 ms or more")
    elif round(rate.period * SECOND / rate.amount) * most > _LONGEST:
        yield Fault("rate", "a bucket of this takes centuries to fill", text)
    elif rate.amount / rate.period > SECOND / 10:
        yield Fault("rate", "faster than can be counted", text, "100 million per second at most")
    for route, cost in config.weights.items():
        if route not in context.document.routes:
            yield Fault(join(("weights", route)), "there is no such route", route, ", ".join(context.document.routes))
        elif cost > most:
            yield Fault(join(("weights", route)), "more than is ever let through", str(cost), f"{most} at most")
