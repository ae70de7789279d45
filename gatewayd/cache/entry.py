"""One stored reply. Everything that a hit needs is made when it is stored."""

from __future__ import annotations

from collections.abc import Hashable

from gatewayd.core.exchange import Headers
from gatewayd.rfc.caching import Terms, selecting
from gatewayd.rfc.conditional import Validators

OVERHEAD = 1024
"""Bytes of objects around a body and its headers, roughly."""
_PER_FIELD = 120
SPELLINGS = 16
LONGEST_SPELLING = 256
"""Bytes; so much the memory of spellings may take beside an entry's counted size."""
MAX_TAGS = 128
"""Tags of one reply that count."""

Key = tuple[str | None, bytes, bytes, bytes | None, bytes, bytes | None, Hashable]
"""(route, scheme, host, forwarded host, path, query, whose): see `cache.keys`."""


class Entry:
    """A reply in the store. Times are monotonic seconds unless said otherwise."""

    __slots__ = (
        "body", "born", "for_all", "fresh_until", "headers", "held", "hits", "key", "made", "made_at", "needs_check",
        "rests_until", "row", "selected", "size", "spellings", "stamp", "status", "tags", "terms", "vary",
    )  # fmt: skip

    def __init__(
        self,
        key: Key,
        status: int,
        headers: Headers,
        body: bytes,
        terms: Terms,
        held: Validators,
        now: float,
        vary: tuple[bytes, ...] = (),
        selected: tuple[bytes | None, ...] = (),
        tags: tuple[bytes, ...] = (),
        row: int = 0,
        stamp: int = 0,
    ) -> None:
        """A reply that came at `now`. `headers` are what `rfc.caching.stored_headers` left of its own."""
        self.key = key
        self.status = status
        self.headers = headers
        self.body = body
        self.terms = terms
        self.held = held
        self.vary = vary
        self.selected = selected
        self.tags = tags
        self.row = row
        self.stamp = stamp
        self.spellings: set[tuple[bytes | None, ...]] = set()
        self.hits = 0  # since the store last looked, at most 3
        self.born = now - terms.age  # its age is counted from here
        self.fresh_until = self.born + terms.lifetime
        self.needs_check = terms.no_cache
        self.for_all = terms.for_all
        self.rests_until = 0.0  # it is not validated in the background before, for that has just failed
        self.made: Headers = []  # what hits are answered with within the second `made_at`, its age and ours included
        self.made_at = -1
        fields = sum(len(name) + len(value) + _PER_FIELD for name, value in headers)
        chosen = sum(len(value or b"") for value in selected)
        uri = len(key[2]) + len(key[4]) + len(key[5] or b"")
        self.size = OVERHEAD + len(body) + fields + chosen + uri + sum(map(len, tags))

    def __repr__(self) -> str:
        """Neither body nor headers: they may be somebody's."""
        return f"<Entry {self.status} {self.size} bytes>"

    def suits(self, names: dict[bytes, bytes], headers: Headers) -> bool:
        """Whether `Vary` allows it for a request with `headers`; `names` are the same as a dict.

        Spellings that were found to mean the same are remembered, some and short ones: most callers use a few.
        """
        vary = self.vary
        if not vary:
            return True
        if len(names) != len(headers):  # a field that is repeated counts as a whole
            return selecting(vary, headers) == self.selected
        spelling = tuple(map(names.get, vary))
        if spelling in self.spellings:
            return True
        if selecting(vary, headers) != self.selected:
            return False
        if len(self.spellings) < SPELLINGS and sum(len(value or b"") for value in spelling) <= LONGEST_SPELLING:
            self.spellings.add(spelling)
        return True

    @property
    def stale_forbidden(self) -> bool:
        """Whether it may never be used stale."""
        return self.terms.must_revalidate or self.terms.no_cache

    def fresh_for(self, now: float) -> float:
        """Seconds that it stays fresh; below 0: it is stale for so long."""
        return self.fresh_until - now
