"""A response cache: RFC 9111 as a shared cache, in each worker's memory, with one fetch for all who ask at once.

What may be stored, for how long and for whom is the replies' to say (`Cache-Control`); paths and extensions say
nothing. What RFC 9111 leaves open is decided by the options.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct, field

from gatewayd.cache.keys import query_normaliser
from gatewayd.cache.redis_tier import RedisTier
from gatewayd.cache.serving import Cache, Kept, Settings
from gatewayd.cache.stamps import Stamps
from gatewayd.config.model import Bytes, Span, Status
from gatewayd.config.units import Duration, Size
from gatewayd.config.values import Share
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.rfc.caching import Rules
from gatewayd.rfc.freshness import Heuristics

STACKS = False
PURGE = "cache/purge"
"""Topic on which workers are told what to forget."""
Targeted = Literal["Surrogate-Control", "CDN-Cache-Control"]


class Query(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which queries are the same one. They go to targets as they came."""

    sort: bool = False  # the order of parameters means nothing
    drop: list[str] = field(default_factory=list)  # parameters that mean nothing, such as utm_source


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `cache`."""

    memory: Bytes = Size(64 * 1024**2)  # that stored replies take in each worker
    object: Bytes = Size(1024**2)  # largest body that is stored
    scope: Literal["public", "consumer"] = "public"  # consumer: nobody gets what was fetched for another
    query: Query = Query()  # which queries are the same one
    set_cookie: Literal["refuse", "strip", "store"] = "refuse"  # replies that set cookies
    heed_callers: bool = True  # what callers say in Cache-Control and Pragma
    targeted: list[Targeted] = field(
        default_factory=lambda: ["Surrogate-Control", "CDN-Cache-Control"]
    )  # reply fields that count instead of Cache-Control, the first first
    heuristic: Share = 0.0  # of the time since Last-Modified, for replies that do not say how long they are fresh
    heuristic_max: Duration = Duration(86400)  # what that comes to at most
    default_ttl: Duration = Duration(0)  # for 200 and its like that say nothing at all
    negative_ttl: Duration = Duration(0)  # for negative_statuses that do not say
    negative_statuses: list[Status] = field(default_factory=lambda: [404, 410])  # what is negative
    stale_while_revalidate: Duration = Duration(0)  # for replies that do not say
    stale_if_error: Duration = Duration(0)  # for replies that do not say
    uncacheable_for: Span = Duration(10)  # nobody waits for another's fetch of what could not be stored
    hide_tags: bool = True  # Cache-Tag and Surrogate-Key stay here
    shared: bool = False  # with all machines that share redis.url; a miss asks there before it asks the target


class Order(Struct, frozen=True):
    """What to purge: see `cache.store.Store.purge`."""

    kind: Literal["url", "prefix", "tag", "all"]
    value: str = ""


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    if config.object > config.memory:
        raise ConfigError([Fault("object", "larger than what all replies may take", str(config.object), "memory")])
    tier = RedisTier.of(context) if config.shared else None
    cache = Cache(_settings(config, context), _kept(config, context), context.clock, tier)
    store = cache.store

    def purge(body: bytes) -> int:
        order = msgspec.json.decode(body, type=Order)
        found = store.purge(order.kind, order.value)
        if tier is not None:
            tier.purge(order.kind, order.value)
        return found

    context.hear(PURGE, purge)
    context.show(lambda: {"entries": len(store), "bytes": store.size, "bytes_most": int(store.limit)})
    return Hooks(handler=cache.wrap, reply=cache.replied, explain=_explain(config))


def _kept(config: Config, context: BuildContext) -> Kept:
    def make() -> Kept:
        stamps = Stamps(context.arena, context.worker, context.workers)
        return Kept(config.memory, context.clock, stamps, context.workers)

    kept = context.keep("cache", make)
    kept.store.limit = config.memory
    if kept.workers != context.workers:  # other rows: what they said of stored replies means nothing now
        kept.store.purge("all", "")
        kept.stamps, kept.workers = Stamps(context.arena, context.worker, context.workers), context.workers
    return kept


def _settings(config: Config, context: BuildContext) -> Settings:
    rules = Rules(
        name=context.document.gateway.name.encode(),
        heuristics=Heuristics(
            config.heuristic,
            float(config.heuristic_max),
            float(config.default_ttl),
            float(config.negative_ttl),
            frozenset(config.negative_statuses) if config.negative_ttl else frozenset(),
        ),
        targets=tuple(name.lower().encode() for name in config.targeted),
        set_cookie=config.set_cookie,
        stale_while_revalidate=float(config.stale_while_revalidate),
        stale_if_error=float(config.stale_if_error),
    )
    return Settings(
        instance=context.instance,
        rules=rules,
        largest=config.object,
        per_consumer=config.scope == "consumer",
        heed_callers=config.heed_callers,
        hide_tags=config.hide_tags,
        uncacheable_for=config.uncacheable_for,
        normalise=query_normaliser(config.query.sort, frozenset(name.encode() for name in config.query.drop)),
    )


def _explain(config: Config) -> str:
    where = ", and by all machines" if config.shared else ""
    return f"{config.memory} per worker, replies up to {config.object}, shared by {_SHARED[config.scope]}{where}"


_SHARED = {"public": "everyone, as they allow", "consumer": "one consumer alone"}
