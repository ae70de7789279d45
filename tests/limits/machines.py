"""Machines in one process: each has memory, a lender and a connection to Redis of its own; they share a clock."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from gatewayd.config.model import Redis
from gatewayd.config.units import Duration
from gatewayd.core.arena import Arena
from gatewayd.core.clock import Clock
from gatewayd.core.policy import BuildContext
from gatewayd.core.redis import RedisServer, close
from gatewayd.limits.leases import Leased, Side
from gatewayd.limits.lender import Lender
from gatewayd.limits.table import OWN
from tests.support.redis_server import RedisProcess

PATIENT = Duration(10)
"""For tests in which Redis is to answer, however busy the machine is."""


class Machine:
    """One worker of one machine, counting the key "key" unless told otherwise."""

    def __init__(
        self, url: str, clock: Clock, side: Callable[[BuildContext], Side], lease: int, timeout: Duration
    ) -> None:
        """`lease` in requests."""
        self.clock = clock
        self.server = RedisServer(Redis(url=url, timeout=timeout), clock.monotonic)
        self.lender = Lender(self.server, clock.monotonic, self._begin)
        self.begun = 0  # times the lender was to work by itself; here it works when it is told to
        context = BuildContext("limit", clock=clock, arena=Arena(size=1 << 28), workers=8)
        side_of_it = side(context)
        self.leased = Leased(side_of_it, self.lender, lease * side_of_it.step)
        self.accounts: dict[bytes, Any] = {}

    def _begin(self, work: Any, name: str) -> None:
        work.close()
        self.begun += 1
        self.lender._works = False

    def take(self, cost: int = 1, key: bytes = b"key") -> bool:
        """Whether a request is let through."""
        return self.asked(cost, key) >= 0

    def asked(self, cost: int = 1, key: bytes = b"key") -> int:
        """What the counter says to a request. It is a plain number: nothing was waited for."""
        found = self.leased.take(self.account(key), cost, self.now())
        assert type(found) is int
        return found

    def account(self, key: bytes = b"key") -> Any:
        if key not in self.accounts:
            self.accounts[key] = self.leased.spot(key, OWN)
        return self.accounts[key]

    def now(self) -> int:
        return round(self.clock.monotonic() * 1e9)

    async def sync(self) -> None:
        """A round trip, if anybody asked."""
        await self.lender.round()


@contextlib.contextmanager
def connected(process: RedisProcess) -> Iterator[Callable[[Any], Any]]:
    """Runs coroutines in one loop, and closes its connections in the end."""
    del process
    with asyncio.Runner() as runner:
        try:
            yield runner.run
        finally:
            runner.run(close())
