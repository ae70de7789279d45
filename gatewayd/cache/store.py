"""A worker's stored replies, bounded in bytes, with an admission policy that scans do not get through.

S3-FIFO (Yang et al., SOSP 2023): what is new waits in a small queue, a tenth of the room; only what was asked for there
more than once, or comes again soon after it was dropped, gets into the main one. A hit counts to three and moves
nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from gatewayd.cache.entry import Entry, Key

VARIANTS = 64
"""Replies under one key; the oldest goes for another."""
GHOSTS = 16_384
"""Keys, or rather their hashes, remembered of what was dropped from the small queue."""
_SMALL = 0.1
_OFTEN = 1
_Queue = OrderedDict[Entry, None]


class Store:
    """The replies of one worker. `shelves` holds them by key, newest first; only this class changes it."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self.shelves: dict[Key, list[Entry]] = {}
        self.size = 0
        self.purges = 0
        """Times something was purged: what was asked for before is not to be stored after."""
        self._limit = limit
        self._small: _Queue = OrderedDict()
        self._main: _Queue = OrderedDict()
        self._small_size = 0
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._tagged: dict[bytes, set[Entry]] = {}

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    @property
    def limit(self) -> int:
        """Bytes that may be held."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self._limit = limit
        self._make_room()

    def put(self, entry: Entry) -> None:
        """Take `entry` in, in the place of the variant it replaces."""
        if entry.size > self._limit:
            return
        shelf = self.shelves.setdefault(entry.key, [])
        for other in [each for each in shelf if each.vary == entry.vary and each.selected == entry.selected]:
            entry.hits = other.hits
            self._forget(other)
        if len(shelf) >= VARIANTS:
            self._forget(shelf[-1])
        self.shelves.setdefault(entry.key, shelf).insert(0, entry)
        self._enqueue(entry)
        for tag in entry.tags:
            self._tagged.setdefault(tag, set()).add(entry)
        self._make_room()

    def _enqueue(self, entry: Entry) -> None:
        self.size += entry.size
        if self._ghosts.pop(hash(entry.key), False) is None:
            self._main[entry] = None
        else:
            self._small[entry] = None
            self._small_size += entry.size

    def holds(self, entry: Entry) -> bool:
        """Whether it is still there."""
        return entry in self._main or entry in self._small

    def remove(self, entry: Entry) -> None:
        """Forget one reply, if it is still there."""
        if self.holds(entry):
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        if entry in self._small:
            del self._small[entry]
            self._small_size -= entry.size
        else:
            del self._main[entry]
        self._unlink(entry)

    def _unlink(self, entry: Entry) -> None:
        """Take an entry that is in no queue any more out of everything else."""
        self.size -= entry.size
        shelf = self.shelves[entry.key]
        shelf.remove(entry)
        if not shelf:
            del self.shelves[entry.key]
        for tag in entry.tags:
            tagged = self._tagged[tag]
            tagged.discard(entry)
            if not tagged:
                del self._tagged[tag]

    def _make_room(self) -> None:
        while self.size > self._limit:
            if self._small_size > self._limit * _SMALL or not self._main:
                self._drop_from_small()
            else:
                self._drop_from_main()

    def _drop_from_small(self) -> None:
        entry, _ = self._small.popitem(last=False)
        self._small_size -= entry.size
        if entry.hits > _OFTEN:
            entry.hits = 0
            self._main[entry] = None
            return
        self._ghosts[hash(entry.key)] = None
        if len(self._ghosts) > GHOSTS:
            self._ghosts.popitem(last=False)
        self._unlink(entry)

    def _drop_from_main(self) -> None:
        entry, _ = self._main.popitem(last=False)
        if entry.hits:
            entry.hits -= 1
            self._main[entry] = None
        else:
            self._unlink(entry)

    # -- purging --------------------------------------------------------------------------------------------------

    def purge(self, kind: str, value: str) -> int:
        """Forget replies; how many. `kind`: "url" (exactly this one), "prefix" (of URLs), "tag" or "all".

        A URL may leave out scheme and host: `/path` means it everywhere. Raises `ValueError` for another kind.
        """
        found = list(self._selected(kind, value))
        self.purges += 1
        for entry in found:
            self._forget(entry)
        return len(found)

    def _selected(self, kind: str, value: str) -> Iterable[Entry]:
        if kind == "all":
            return self._all()
        if kind == "tag":
            return self._tagged.get(value.encode(), ())
        if kind == "url":
            return self._at(value.encode(), whole=True)
        if kind == "prefix":
            return self._at(value.encode(), whole=False)
        raise ValueError(f"nothing is purged by {kind!r}")

    def _all(self) -> Iterator[Entry]:
        yield from self._small
        yield from self._main

    def _at(self, url: bytes, whole: bool) -> Iterator[Entry]:
        at = url.find(b"/", url.find(b"://") + 3 if b"://" in url else 0)
        url = url[:at].lower() + url[at:] if at >= 0 else url.lower()
        for key, shelf in self.shelves.items():
            known = _url(key)
            for spelling in (known, known.partition(b"://")[2], known[known.find(b"/", known.find(b"://") + 3) :]):
                if spelling == url or (not whole and spelling.startswith(url)):
                    yield from shelf
                    break


def _url(key: Key) -> bytes:
    _, scheme, host, _, path, query, _ = key
    return b"%b://%b%b" % (scheme, host, path) if query is None else b"%b://%b%b?%b" % (scheme, host, path, query)
