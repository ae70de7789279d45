"""Fetches under way: who asks for what another asks for already waits for the same reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from gatewayd.core.exchange import Headers
from gatewayd.rfc.caching import selecting

if TYPE_CHECKING:
    from gatewayd.cache.fetching import Fetch
    from gatewayd.cache.streaming import Stream

SWEEP = 0.1
"""Seconds between two looks at the deadlines of fetches, while there are some."""
FlightKey = tuple[Hashable, bool]
"""A key, and whether the request has credentials: what one of the latter gets may be for nobody else."""


class Flights:
    """The fetches of one worker. `buffered` are the bytes of bodies that they hold."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.buffered = 0
        self._monotonic = monotonic
        self._joinable: dict[FlightKey, list[Fetch]] = {}
        self._running: set[Stream] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._running)

    def add(self, fetch: Fetch) -> None:
        """Others may join `fetch` from now on."""
        self._joinable.setdefault(fetch.flight, []).append(fetch)

    def leave(self, fetch: Stream) -> None:
        """Nobody may join `fetch` any more."""
        flying = self._joinable.get(fetch.flight)
        if flying is not None and fetch in flying:
            flying.remove(fetch)
            if not flying:
                del self._joinable[fetch.flight]

    def find(self, flight: FlightKey, headers: Headers, vary: tuple[bytes, ...] | None) -> Fetch | None:
        """A fetch whose reply will do for a request with `headers`, as far as is known.

        Before a reply's head is there `vary` says what replies of this key were chosen by, None if nobody knows.
        """
        flying = self._joinable.get(flight, ())
        known = next((each.vary for each in flying if each.vary is not None), vary)
        for fetch in flying:
            names = fetch.vary if fetch.vary is not None else known
            if fetch.valid and (not names or selecting(names, headers) == selecting(names, fetch.asked)):
                return fetch
        return None

    def watch(self, fetch: Stream) -> None:
        """See to the deadlines of `fetch` until it is `unwatch`ed."""
        self._running.add(fetch)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def unwatch(self, fetch: Stream) -> None:
        """It is over."""
        self._running.discard(fetch)

    def _sweep(self) -> None:
        now = self._monotonic()
        for fetch in list(self._running):
            sink = fetch.sink
            if sink is not None and sink.deadline <= now:
                sink.expire(now)
        self._timer = asyncio.get_running_loop().call_later(SWEEP, self._sweep) if self._running else None
