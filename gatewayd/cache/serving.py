"""The cache of one policy instance: what is answered from the store, what is fetched, and what passes by.

`handler` is what a request meets. The plain hit stands first and costs least; everything else goes through `ask`.
"""

from __future__ import annotations

import logging
from copy import copy
from dataclasses import dataclass, field

from cachetools import TTLCache

from gatewayd.cache import answering
from gatewayd.cache.entry import Entry, Key
from gatewayd.cache.fetching import Fetch
from gatewayd.cache.flights import FlightKey, Flights
from gatewayd.cache.keys import Normalise, key_of, whose
from gatewayd.cache.stamps import Stamps
from gatewayd.cache.store import Store
from gatewayd.cache.tier import Tier, pack, unpack
from gatewayd.core.clock import Clock
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import Handler
from gatewayd.core.problem import answer as refuse
from gatewayd.core.problem import problem
from gatewayd.core.tasks import spawn
from gatewayd.rfc.caching import SAFE, Rules, Wish, invalidated, read_wish

_log = logging.getLogger(__name__)

UNCACHEABLE = 10_000
"""Keys, or rather their hashes, remembered as not worth waiting for another's fetch."""
TRIES = 2
"""Fetches of others an exchange waits for before it makes its own."""

_READ = frozenset((b"GET", b"HEAD"))
_FOR_THE_ORIGIN = frozenset((b"if-match", b"if-unmodified-since"))
_SPECIAL = _FOR_THE_ORIGIN | {
    b"cache-control", b"pragma", b"range", b"if-range", b"if-none-match", b"if-modified-since",
}  # fmt: skip
"""Fields without which a request is a plain one: any fresh reply that fits will do, as it is."""
_SPECIAL_OR_PERSONAL = _SPECIAL | {b"authorization"}
_TAGS = frozenset((b"cache-tag", b"surrogate-key"))
_NO_WISH = Wish(read_wish([]).directives)
NOT_CACHED = problem(504, "not_cached", "nothing stored answers this, and the request wants nothing else")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a cache does its work; what RFC 9111 leaves open is in `rules`."""

    instance: str = "cache"
    rules: Rules = field(default_factory=Rules)
    largest: int = 1024 * 1024  # bytes of a body that is stored
    per_consumer: bool = False  # whether consumers share replies
    heed_callers: bool = True  # what callers say in Cache-Control
    hide_tags: bool = True
    uncacheable_for: float = 10.0  # seconds
    normalise: Normalise | None = None  # of queries


class Kept:
    """What a cache keeps over reloads."""

    def __init__(self, limit: int, clock: Clock, stamps: Stamps, workers: int) -> None:
        """`limit` is the store's, in bytes; `stamps` have `workers` columns."""
        self.store = Store(limit)
        self.flights = Flights(clock.monotonic)
        self.stamps = stamps
        self.workers = workers


class Cache:
    """One policy instance on the routes of one handler."""

    def __init__(self, settings: Settings, kept: Kept, clock: Clock, tier: Tier | None = None) -> None:
        self.settings = settings
        self.rules = settings.rules
        self.largest = settings.largest
        self.clock = clock
        self.tier = tier
        self.kept = kept
        self.store, self.flights, self.stamps = kept.store, kept.flights, kept.stamps
        self.inner: Handler = _nobody
        self.capability: Headers = []
        if b"surrogate-control" in self.rules.targets:
            self.capability = [(b"surrogate-capability", b'%b="Surrogate/1.0"' % self.rules.name)]
        hidden = {b"surrogate-control"} if self.capability else set()
        self._hidden = frozenset(hidden | _TAGS if settings.hide_tags else hidden)
        self._uncacheable: TTLCache[int, bool] = TTLCache(UNCACHEABLE, settings.uncacheable_for, clock.monotonic)

    def wrap(self, inner: Handler) -> Handler:
        """The handler of a route whose own is `inner`."""
        cache = copy(self)
        cache.inner = inner
        return cache.handler()

    def handler(self) -> Handler:
        """What a request meets: a closure, so that nothing is looked up twice on a hit."""
        shelves, sum_of, name = self.store.shelves, self.stamps.read, self.rules.name
        ask, inner = self.ask, self.inner
        normalise, per_consumer = self.settings.normalise, self.settings.per_consumer
        note = (self.settings.instance, "hit")
        headers_of = answering.hit_headers

        def cached(exchange: Exchange) -> None:
            if exchange.method not in _READ or exchange.body_length or exchange.upgrade:
                inner(exchange)
                return
            query = exchange.query
            if query is not None and normalise is not None:
                query = normalise(query)
            key = key_of(exchange, query, whose(exchange) if per_consumer else None)
            shelf = shelves.get(key)
            if shelf is not None:
                headers, entry = exchange.headers, shelf[0]
                special = _SPECIAL if entry.for_all else _SPECIAL_OR_PERSONAL
                for field, _ in headers:
                    if field in special:
                        break
                else:
                    now = exchange.started
                    if (
                        now < entry.fresh_until
                        and not entry.needs_check
                        and (entry.for_all or per_consumer or exchange.identity is None)
                        and (not entry.vary or entry.suits(dict(headers), headers))
                        and sum_of(entry.row) == entry.stamp
                    ):
                        if entry.hits < 3:
                            entry.hits += 1
                        exchange.verdicts = [note] if exchange.verdicts is None else [*exchange.verdicts, note]
                        exchange.state = SERVED
                        body = entry.body
                        exchange.reply(entry.status, headers_of(entry, now, name).copy(), len(body), body)
                        return
            ask(exchange, key)

        return cached

    # -- what is not a plain hit --------------------------------------------------------------------------------------

    def ask(self, exchange: Exchange, key: Key, tries: int = 0, alone: bool = False) -> None:
        """Answer a GET or HEAD from the store, from a fetch, or by itself."""
        headers = exchange.headers
        names = dict(headers)
        if not _FOR_THE_ORIGIN.isdisjoint(names):
            self._pass(exchange, b"bypass")
            return
        wish = read_wish(headers) if self.settings.heed_callers else _NO_WISH
        now = self.clock.monotonic()
        entry = self._fitting(key, names, exchange)
        if entry is not None and self._answered(exchange, entry, wish, now):
            return
        if wish.only_if_cached:
            refuse(exchange, NOT_CACHED)
        elif exchange.method == b"HEAD" or b"range" in names or b"no-store" in wish.directives:
            self._pass(exchange, b"request")
        elif not alone and hash((key, self.has_credentials(exchange))) in self._uncacheable:
            self._pass(exchange, b"bypass")
        else:
            self._fetch(exchange, key, entry, tries, alone)

    def again(self, exchange: Exchange, tries: int, alone: bool) -> None:
        """An exchange that waited for a fetch got nothing from it; `alone`: it is not to wait for another."""
        self.ask(exchange, self._key(exchange), tries, alone or tries >= TRIES)

    def _key(self, exchange: Exchange) -> Key:
        query, normalise = exchange.query, self.settings.normalise
        if query is not None and normalise is not None:
            query = normalise(query)
        return key_of(exchange, query, whose(exchange) if self.settings.per_consumer else None)

    def _fitting(self, key: Key, names: dict[bytes, bytes], exchange: Exchange) -> Entry | None:
        """The newest stored reply that may be used for `exchange`; what was made invalid is thrown away."""
        credentials = self.has_credentials(exchange)
        for entry in tuple(self.store.shelves.get(key, ())):
            if self.stamps.read(entry.row) != entry.stamp:
                self.store.remove(entry)
            elif entry.suits(names, exchange.headers) and (entry.for_all or not credentials):
                return entry
        return None

    def _answered(self, exchange: Exchange, entry: Entry, wish: Wish, now: float) -> bool:
        """Whether `entry` will do, perhaps stale while another is fetched (RFC 5861 §3); then it was sent."""
        age, fresh_for = now - entry.born, entry.fresh_for(now)
        while_fetched = False
        if entry.needs_check or not wish.accepts(age, fresh_for, entry.stale_forbidden):
            in_time = 0 >= fresh_for > -entry.terms.stale_while_revalidate
            patient = not wish.no_cache and not wish.min_fresh and (wish.max_age is None or age <= wish.max_age)
            while_fetched = in_time and patient and not entry.stale_forbidden
            if not while_fetched:
                return False
        entry.hits = min(3, entry.hits + 1)
        self.note(exchange, "hit" if fresh_for > 0 else "stale")
        if while_fetched:
            self._validate_behind(exchange, entry, now)
        headers = answering.hit_headers(entry, now, self.rules.name).copy()
        answering.answer(exchange, entry, headers, self.clock.wall())
        return True

    def _validate_behind(self, exchange: Exchange, entry: Entry, now: float) -> None:
        flight = (entry.key, self.has_credentials(exchange))
        if now < entry.rests_until or self.flights.find(flight, exchange.headers, entry.vary) is not None:
            return
        fetch = Fetch(self, exchange, entry.key, [entry], True)
        fetch.background = True
        self.flights.add(fetch)
        fetch.start()

    def may_stand_in(self, entry: Entry, exchange: Exchange, now: float) -> bool:
        """Whether a stale `entry` may be sent instead of an error (RFC 5861 §4)."""
        wish = read_wish(exchange.headers) if self.settings.heed_callers else _NO_WISH
        if wish.no_cache or entry.stale_forbidden:
            return False
        return -entry.fresh_for(now) < max(entry.terms.stale_if_error, wish.stale_if_error)

    def _pass(self, exchange: Exchange, why: bytes) -> None:
        """The target answers this one, and nothing is stored."""
        exchange.note(self.settings.instance, "passed")
        if exchange.context is None:
            exchange.context = {}
        exchange.context[self.settings.instance] = why
        self.inner(exchange)

    def _fetch(self, exchange: Exchange, key: Key, entry: Entry | None, tries: int, alone: bool) -> None:
        loops = self.rules.name in exchange.via  # it may have come by here: waiting for itself it would wait for ever
        if not alone and not loops:
            shelf = self.store.shelves.get(key)
            vary = shelf[0].vary if shelf else None
            under_way = self.flights.find((key, self.has_credentials(exchange)), exchange.headers, vary)
            if under_way is not None:
                under_way.join(exchange, tries)
                return
        fetch = Fetch(
            self, exchange, key, [] if alone else self._candidates(key, entry), entry is not None and not alone
        )
        fetch.join(exchange, tries)
        if not alone and not loops:
            self.flights.add(fetch)
        if self.tier is not None and not fetch.candidates:
            spawn(self._ask_tier(self.tier, fetch), "cache tier")
        else:
            fetch.start()

    def _candidates(self, key: Key, entry: Entry | None) -> list[Entry]:
        """Stored replies that the target may confirm: the one that fits, or else all of that key that have a tag."""
        if entry is not None:
            return [entry]
        return [each for each in self.store.shelves.get(key, ()) if each.held.etag][:8]

    async def _ask_tier(self, tier: Tier, fetch: Fetch) -> None:
        """Look there before the target is asked, on behalf of all who wait."""
        now, wall = self.clock.monotonic(), self.clock.wall()
        try:
            found = [unpack(data, fetch.key, now, wall) for data in await tier.find(fetch.key)]
        except Exception:
            _log.exception("the cache's further tier failed")
            found = []
        for entry in found if fetch.valid else ():
            entry.row, entry.stamp = fetch.row, fetch.stamp
            self.store.put(entry)
        fetch.start_unless_stored()

    # -- what fetches need --------------------------------------------------------------------------------------------

    def has_credentials(self, exchange: Exchange) -> bool:
        """Whether RFC 9111 §3.5 is to be minded: the gateway's own credentials count as `Authorization` does, unless
        nobody else shares what they got."""
        if exchange.identity is not None:
            return not self.settings.per_consumer
        return any(name == b"authorization" for name, _ in exchange.headers)

    def note(self, exchange: Exchange, verdict: str) -> None:
        """What is sent now has come through the cache, and how."""
        exchange.note(self.settings.instance, verdict)
        exchange.state = SERVED

    def outgoing(self, headers: Headers) -> Headers:
        """A target's headers without what was meant for us."""
        return [pair for pair in headers if pair[0] not in self._hidden]

    def remember_uncacheable(self, flight: FlightKey) -> None:
        """For a while nobody waits for another's fetch of this."""
        self._uncacheable[hash(flight)] = True

    def keep(self, entry: Entry, now: float) -> None:
        """Store a fetched reply."""
        self.store.put(entry)
        if self.tier is not None:
            seconds = entry.fresh_for(now) + max(entry.terms.stale_while_revalidate, entry.terms.stale_if_error)
            try:
                self.tier.offer(entry, pack(entry, now, self.clock.wall()), seconds)
            except Exception:
                _log.exception("the cache's further tier failed")

    # -- replies that pass by -----------------------------------------------------------------------------------------

    def replied(self, exchange: Exchange, headers: Headers) -> None:
        """The reply hook: takes out what was meant for us, and minds what unsafe requests change."""
        if exchange.state is SERVED:
            return
        headers[:] = self.outgoing(headers)
        why = exchange.context.get(self.settings.instance) if exchange.context else None
        if why is not None:
            headers.append((answering.CACHE_STATUS, b"%b; fwd=%b" % (self.rules.name, why)))
        if exchange.method not in SAFE and 200 <= exchange.status < 400:
            self._invalidate(exchange, headers)

    def _invalidate(self, exchange: Exchange, headers: Headers) -> None:
        """RFC 9111 §4.4, in all workers."""
        host, path = exchange.host, exchange.path
        normalise = self.settings.normalise or _as_it_is
        for where, query in [(path, exchange.query), *invalidated(headers, exchange.scheme, host, path)]:
            normal = None if query is None else normalise(query)
            self.stamps.change(self.stamps.row(host, where, normal))
            if self.tier is not None:
                self.tier.forget(host, where, normal)


SERVED = object()
"""`exchange.state` of what was answered through a cache: nothing is left to be done to its reply."""


def _as_it_is(query: bytes) -> bytes | None:
    return query


def _nobody(_: Exchange) -> None:
    raise AssertionError("a cache answers nothing by itself")
