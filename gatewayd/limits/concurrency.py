"""The concurrency limit of a policy's instance: who is counted, and when an exchange counts no more."""

from __future__ import annotations

from typing import Any

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Reply, Usage
from gatewayd.limits.in_flight import InFlight
from gatewayd.limits.keys import Keys
from gatewayd.limits.table import Memo


class Concurrency:
    """A `core.policy.Limit` that is given back when the exchange ends; `exchange.context` holds its row till then."""

    def __init__(self, instance: str, keys: Keys, in_flight: InFlight, refusal: Reply) -> None:
        self._instance = instance
        self._key = keys.of
        self._can_tell = keys.tell
        self._in_flight = in_flight
        self._refusal = refusal
        self._spots: Memo[Any, int] = Memo(lambda key: in_flight.spot(*keys.place(key)))

    def take(self, exchange: Exchange, now: int) -> Reply | None:
        """See `core.policy.Limit`."""
        spot = self._spots[self._key(exchange)]
        if not self._in_flight.begin(spot):
            return self._refusal
        if exchange.context is None:
            exchange.context = {}
        exchange.context[self._instance] = spot
        return None

    def usage(self, exchange: Exchange, now: int) -> Usage | None:
        """See `core.policy.Hooks`."""
        if not self._can_tell(exchange):
            return None
        limit, used = self._in_flight.limit, self._in_flight.count(self._spots[self._key(exchange)])
        return Usage(limit, used, max(0, limit - used), 0)

    def give_back(self, exchange: Exchange) -> None:
        """See `core.policy.Limit`; as a log hook it runs at once when the exchange ends."""
        spot = exchange.context.pop(self._instance, None) if exchange.context else None
        if spot is not None:
            self._in_flight.end(spot)
