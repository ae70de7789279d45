"""The rate limit of a policy's instance: what a request costs, whom it is charged to, what the caller is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import Reply, Usage
from gatewayd.core.problem import problem
from gatewayd.limits.fields import SECOND, Write
from gatewayd.limits.keys import Keys
from gatewayd.limits.table import Memo

_CALLERS_OWN = frozenset(("", "caller_gone", "caller_reads_nothing"))


class Counter(Protocol):
    """What counts requests: `limits.bucket`, `limits.window` or `limits.quotas`."""

    limit: int
    """The most requests at once, or in a period."""

    def spot(self, key: bytes, place: int) -> Any:
        """Where a key counts."""
        ...

    def take(self, spot: Any, cost: int, now: int) -> int:
        """Count `cost` requests at nanosecond `now`: what is used then; without room minus the nanoseconds to wait."""
        ...

    def used(self, spot: Any, now: int) -> int:
        """What is used at nanosecond `now`, as `take` tells it; nothing is counted."""
        ...

    def give_back(self, spot: Any, cost: int, when: int) -> None:
        """Undo what was taken at `when`."""
        ...

    def left(self, used: int) -> tuple[int, int]:
        """(Requests there is room for, seconds until there is room for all) after `take` said `used`."""
        ...


class RateLimit:
    """A `core.policy.Limit`, with what its policy does about replies and at the end.

    What it did about an exchange stands in `exchange.context` under the instance's name: what was used then (below 0:
    it refused, and charged nothing), where, at which cost, and when.
    """

    def __init__(
        self,
        instance: str,
        keys: Keys,
        counter: Counter,
        weights: Mapping[str, int],
        write: Write,
        code: str = "rate_limit_exceeded",
    ) -> None:
        """`weights`: what a request costs, by route; 1 on others. `code`: of its refusals."""
        self._instance = instance
        self._key = keys.of
        self._can_tell = keys.tell
        self._counter = counter
        self._weights = weights
        self._write = write
        self._code = code
        self._spots: Memo[Any, Any] = Memo(lambda key: counter.spot(*keys.place(key)))
        self._refusals: Memo[int, Reply] = Memo(self._refusal, 1024)

    def take(self, exchange: Exchange, now: int) -> Reply | None:
        """See `core.policy.Limit`."""
        cost = 1
        if self._weights and exchange.route is not None:
            cost = self._weights.get(exchange.route.name, 1)
            if not cost:
                return None
        spot = self._spots[self._key(exchange)]
        used = self._counter.take(spot, cost, now)
        charge = (used, spot, cost, now)
        if exchange.context is None:
            exchange.context = {self._instance: charge}
        else:
            exchange.context[self._instance] = charge
        return None if used >= 0 else self._refusals[-(used // SECOND)]

    def give_back(self, exchange: Exchange) -> None:
        """See `core.policy.Limit`."""
        charge = exchange.context.pop(self._instance, None) if exchange.context else None
        if charge is not None and charge[0] >= 0:
            _, spot, cost, when = charge
            self._counter.give_back(spot, cost, when)

    def usage(self, exchange: Exchange, now: int) -> Usage | None:
        """See `core.policy.Hooks`."""
        if not self._can_tell(exchange):
            return None
        used = self._counter.used(self._spots[self._key(exchange)], now)
        left, seconds = self._counter.left(used)
        left = min(max(left, 0), self._counter.limit)
        return Usage(self._counter.limit, self._counter.limit - left, left, seconds)

    def refund(self, exchange: Exchange) -> None:
        """A log hook: give back what was charged for an exchange that failed through no fault of the caller's."""
        if exchange.status >= 500 or exchange.reason not in _CALLERS_OWN:
            self.give_back(exchange)

    def show(self, exchange: Exchange, headers: Headers) -> None:
        """A reply hook: say how much is left."""
        charge = exchange.context.get(self._instance) if exchange.context else None
        if charge is not None:
            used = charge[0]
            left, seconds = self._counter.left(used) if used >= 0 else (0, -(used // SECOND))
            self._write(headers, left, seconds)

    def _refusal(self, wait: int) -> Reply:
        return problem(
            429,
            self._code,
            f"more requests than {self._instance} allows; try again in {wait} s",
            ((b"retry-after", b"%d" % wait),),
            policy=self._instance,
        )
