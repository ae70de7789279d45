"""One request to the target on behalf of everyone who asks for the same: the reply is stored while it streams to all.

A `Fetch` is the `Downstream` of an exchange of its own, which the route's handler answers like any other. Its reply is
then one of these: stored and *shared*; *private*, for the one whose request it was, while the others go on by
themselves; a 304 that makes a stored reply fresh again; or an error, for which a stale reply may stand in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatewayd.cache.answering import CACHE_STATUS, answer, headers_with, without_content
from gatewayd.cache.asking import ask_for_all, conditions_for
from gatewayd.cache.entry import MAX_TAGS, Entry, Key
from gatewayd.cache.relaying import Waiter
from gatewayd.cache.streaming import DRAINED, OVER, PRIVATE, SHARED, UNWANTED, WAITING, Stream
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.rfc.caching import (
    Asker,
    Refusal,
    Terms,
    freshened,
    is_failure,
    judge,
    read_wish,
    selecting,
    stored_headers,
    vary_names,
)
from gatewayd.rfc.conditional import Validators, none_match, not_modified, opaque_tag, validators
from gatewayd.rfc.headers import elements, values

if TYPE_CHECKING:
    from gatewayd.cache.serving import Cache

REST = 1.0
"""Seconds for which a target that failed is not asked again in the background."""


class Fetch(Stream):
    """See above. `candidates` are stored replies to validate."""

    def __init__(self, cache: Cache, exchange: Exchange, key: Key, candidates: list[Entry], fits: bool) -> None:
        """`exchange` is only read: who waits is said by `join`. `fits`: the one candidate is what it would get."""
        super().__init__(cache)
        self.key = key
        self.asked = exchange.headers
        self.credentials = cache.has_credentials(exchange)
        self.flight = (key, self.credentials)
        self.candidates = candidates
        self.fits = fits
        self.leader: Waiter | None = None
        self.vary: tuple[bytes, ...] | None = None  # known once the head is there and the reply is shared
        self.row = cache.stamps.row(exchange.host, exchange.path, key[5])
        self.stamp = cache.stamps.read(self.row)
        self.purges = cache.store.purges
        self.asked_at = self.came_at = cache.clock.wall()
        self.status = 0
        self.length = -1
        self.headers: Headers = []
        self.terms = Terms(0.0, 0.0)
        self.held = Validators()
        conditions = conditions_for(candidates, fits) + cache.capability
        self.inner = ask_for_all(exchange, self, conditions, cache.clock.monotonic())

    @property
    def valid(self) -> bool:
        """Whether its reply may be used for requests that come now: nothing was invalidated since it began."""
        cache = self.cache
        return self.purges == cache.store.purges and self.stamp == cache.stamps.read(self.row)

    def join(self, exchange: Exchange, tries: int) -> None:
        """`exchange` waits for this too; it has waited for `tries` others."""
        waiter = Waiter(exchange, self, tries)
        self.waiters.append(waiter)
        if self.leader is None:
            self.leader = waiter
        exchange.downstream.read_body(waiter)
        if self.mode == SHARED:
            self._begin(waiter, False)

    def start(self) -> None:
        """Ask the target."""
        try:
            self.cache.inner(self.inner)
        except Exception:
            self.abort()  # lest those who wait do so for ever
            raise
        if self.mode != OVER:
            self.cache.flights.watch(self)

    def start_unless_stored(self) -> None:
        """Ask the target, unless what everyone waits for is stored meanwhile."""
        if self.mode != WAITING:
            return
        if self.key in self.cache.store.shelves:
            waiters, self.waiters = self.waiters, []
            self._over()
            self._send_on(waiters, alone=False)
        else:
            self.start()

    # -- the reply's head: what becomes of it -------------------------------------------------------------------------

    def _head(self, status: int, headers: Headers, length: int, first: bytes, complete: bool) -> None:
        if self.mode == OVER:
            return
        if headers and headers[-1][0] == b"x-request-id":
            headers.pop()  # the inner exchange's; everyone gets one of his own
        self.status, self.headers, self.length = status, headers, length
        self.came_at = self.cache.clock.wall()
        if status == 304 and self.candidates and not self.inner.code:
            self._validated()
        elif is_failure(status) and self._stood_in():
            self._discard(complete)
        elif self.inner.code:
            self._refused(first)
        else:
            self._received(first, complete)

    def _received(self, first: bytes, complete: bool) -> None:
        cache = self.cache
        self.held = validators(self.headers, self.came_at)
        verdict = self._judge(self.status, self.headers, self.held)
        if isinstance(verdict, Refusal):
            lasting = verdict.lasting and not is_failure(self.status)
        elif max(self.length, len(first)) > cache.largest:
            lasting = True
        elif cache.flights.buffered > cache.store.limit:
            lasting = False
        else:
            self.terms = verdict
            self._share(first, complete)
            return
        if lasting:
            cache.remember_uncacheable(self.flight)
            if self.fits:
                cache.store.remove(self.candidates[0])
        self._keep_private(first, complete)

    def _judge(self, status: int, headers: Headers, held: Validators) -> Terms | Refusal:
        asker = Asker(read_wish(self.asked).directives, self.credentials)
        return judge(asker, status, headers, held, self.cache.rules, self.asked_at, self.came_at)

    def _keep_private(self, first: bytes, complete: bool) -> None:
        """The reply is its leader's alone."""
        self.cache.flights.leave(self)
        leader = self.leader if self.leader in self.waiters else None
        others = [waiter for waiter in self.waiters if waiter is not leader]
        self.waiters = [] if leader is None else [leader]
        if leader is None:
            self._cancel()
        else:
            self.mode = PRIVATE
            leader.begun = True
            self._send(leader, self._reply_headers(leader, False), first, complete)
        self._send_on(others, alone=True)

    def _share(self, first: bytes, complete: bool) -> None:
        self.vary = vary_names(self.headers) or ()
        self.mode = SHARED
        chosen = selecting(self.vary, self.asked)
        others = [each for each in self.waiters if selecting(self.vary, each.exchange.headers) != chosen]
        self.waiters = [each for each in self.waiters if each not in others]
        if first:
            self._take(first)
        if complete:
            self._store(first)
        for waiter in self.waiters.copy():
            self._begin(waiter, complete)
        if complete:
            self._over()
        self._send_on(others, alone=False)

    def _begin(self, waiter: Waiter, complete: bool) -> None:
        """Begin the reply of one who shares it; `complete`: there is all of it."""
        waiter.begun = True
        exchange = waiter.exchange
        headers = self._reply_headers(waiter, True)
        if 200 <= self.status < 300 and not_modified(exchange.headers, self.held, self.came_at):
            self.waiters.remove(waiter)
            self._note_facts(exchange)
            exchange.reply(304, without_content(headers), -1, b"")
        else:
            self._send(waiter, headers, self.relay.begin(waiter), complete)

    def _send(self, waiter: Waiter, headers: Headers, first: bytes, complete: bool) -> None:
        exchange = waiter.exchange
        self._note_facts(exchange)
        if not complete:
            exchange.start_reply(self.status, headers, self.length, first)
            return
        self.waiters.remove(waiter)
        if self.mode == PRIVATE:
            self._over()
        exchange.reply(self.status, headers, self.length, first)

    def _reply_headers(self, waiter: Waiter, stored: bool) -> Headers:
        cache = self.cache
        reason = b"stale" if self.fits else (b"vary-miss" if self.candidates else b"uri-miss")
        status = b"%b; fwd=%b; fwd-status=%d" % (cache.rules.name, reason, self.status)
        if stored:
            status += b"; stored"
        if waiter is not self.leader:
            status += b"; collapsed"
        cache.note(waiter.exchange, "miss" if waiter is self.leader else "collapsed")
        return [*cache.outgoing(self.headers), (CACHE_STATUS, status)]

    # -- stored replies that still do -----------------------------------------------------------------------------

    def _validated(self) -> None:
        """304: a stored reply is still the right one, and fresh again (RFC 9111 §4.3.4)."""
        entry = self._confirmed()
        waiters, self.waiters = self.waiters, []
        self._over()
        if entry is None:
            self._send_on(waiters, alone=True)
            return
        entry = self._freshen(entry)
        chosen = selecting(entry.vary, self.asked)
        others = [each for each in waiters if selecting(entry.vary, each.exchange.headers) != chosen]
        for waiter in waiters:
            if waiter not in others:
                self._answer_from(entry, waiter, "revalidated", b"; fwd=stale; fwd-status=304")
        self._send_on(others, alone=False)

    def _confirmed(self) -> Entry | None:
        """The stored reply that a 304 is about: the one that was asked about, else the one with its tag."""
        if len(self.candidates) == 1:
            return self.candidates[0]
        tags = [value for value in values(self.headers, b"etag") if opaque_tag(value)]
        return next((each for each in self.candidates if not none_match(tags, opaque_tag(each.held.etag))), None)

    def _freshen(self, entry: Entry) -> Entry:
        """The entry with what the 304 says; it takes the old one's place."""
        headers = freshened(entry.headers, self.headers)
        held = validators(headers, self.came_at)
        verdict = self._judge(entry.status, headers + [each for each in self.headers if each[0] == b"age"], held)
        if isinstance(verdict, Refusal):
            if verdict.lasting:
                self.cache.store.remove(entry)
            return entry
        self.status, self.headers, self.terms, self.held = entry.status, headers, verdict, held
        self.vary = vary_names(headers) or ()
        return self._store(entry.body, entry.tags)

    def _stood_in(self) -> bool:
        """Whether everyone who waits got a stale reply instead of an error. In the background nobody does."""
        now = self.cache.clock.monotonic()
        if self.background:
            for entry in self.candidates:
                entry.rests_until = now + REST
        elif self.fits:
            entry = self.candidates[0]
            for waiter in self.waiters.copy():
                if self.cache.may_stand_in(entry, waiter.exchange, now):
                    self.waiters.remove(waiter)
                    status = b"; hit; ttl=%d; fwd-status=%d" % (entry.fresh_for(now), self.status)
                    self._answer_from(entry, waiter, "stale", status)
            return not self.waiters
        return False

    def _answer_from(self, entry: Entry, waiter: Waiter, verdict: str, status: bytes) -> None:
        cache, exchange = self.cache, waiter.exchange
        self._note_facts(exchange)
        cache.note(exchange, verdict)
        headers = headers_with(entry, cache.clock.monotonic(), cache.rules.name + status)
        answer(exchange, entry, headers, self.came_at)

    def _refused(self, body: bytes) -> None:
        """The gateway could not get an answer: everyone who waits is told so."""
        waiters, self.waiters = self.waiters, []
        inner = self.inner
        self._over()
        for waiter in waiters:
            exchange = waiter.exchange
            self._note_facts(exchange)
            exchange.code = inner.code
            text = body.replace(inner.request_id, exchange.request_id)
            exchange.reply(self.status, self.headers.copy(), len(text), text)

    def _discard(self, complete: bool) -> None:
        """Nobody wants the body."""
        if complete or not 0 <= self.length <= DRAINED:
            self._cancel()
        else:
            self.cache.flights.leave(self)
            self.mode = UNWANTED

    # -- the store ------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        self._store(self.relay.body)

    def _store(self, body: bytes, tags: tuple[bytes, ...] | None = None) -> Entry:
        """Store the reply, unless it was invalidated on its way."""
        cache, vary = self.cache, self.vary or ()
        headers = stored_headers(cache.outgoing(self.headers), self.terms, cache.rules)
        now = cache.clock.monotonic()
        entry = Entry(
            self.key, self.status, headers, body, self.terms, self.held, now, vary, selecting(vary, self.asked),
            _tags(self.headers) if tags is None else tags, self.row, self.stamp,
        )  # fmt: skip
        if self.valid:
            cache.keep(entry, now)
        return entry

    # -- those who wait -----------------------------------------------------------------------------------------------

    def _send_on(self, waiters: list[Waiter], alone: bool) -> None:
        for waiter in waiters:
            if not waiter.exchange.status:  # else its caller has gone meanwhile
                self.cache.again(waiter.exchange, waiter.tries + 1, alone)

    def _note_facts(self, exchange: Exchange) -> None:
        """For the log: what the fetch found out about the target."""
        inner = self.inner
        exchange.target, exchange.attempts = inner.target, inner.attempts
        waited = self.cache.clock.monotonic() - exchange.started
        exchange.upstream_seconds = min(inner.upstream_seconds, waited)
        exchange.reason = exchange.reason or inner.reason


def _tags(headers: Headers) -> tuple[bytes, ...]:
    """What a reply may be purged by: the words of `Surrogate-Key`, the elements of `Cache-Tag`."""
    found = elements(values(headers, b"cache-tag"))
    for value in values(headers, b"surrogate-key"):
        found += value.split()
    return tuple(dict.fromkeys(found))[:MAX_TAGS]
