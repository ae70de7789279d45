"""What the tests of upstreams are made from: targets, exchanges, and pauses that a test ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

from gatewayd.config import address, model
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange
from gatewayd.upstream.group import UpstreamGroup
from gatewayd.upstream.target import Target


def make_targets(*weights: int) -> tuple[Target, ...]:
    """Available targets at 10.0.0.0, 10.0.0.1, …"""
    made = []
    for number, weight in enumerate(weights):
        ip = f"10.0.{number // 256}.{number % 256}"
        target = Target(f"{ip}:80", address.parse(f"{ip}:80"), ip, weight)
        target.available = True
        made.append(target)
    return tuple(made)


def make_exchange(client: str = "203.0.113.7", *headers: tuple[bytes, bytes]) -> Exchange:
    """A request from `client`."""
    exchange = Exchange()
    exchange.client = client
    exchange.headers = list(headers)
    return exchange


def make_upstream(*addresses: str, weights: tuple[int, ...] = (), **options: Any) -> model.Upstream:
    """The configuration of an upstream at these addresses."""
    weights = weights or (1,) * len(addresses)
    pairs = zip(addresses, weights, strict=True)
    return model.Upstream(targets=[model.Target(address=text, weight=weight) for text, weight in pairs], **options)


def make_group(clock: FakeClock, config: model.Upstream, **parts: Any) -> UpstreamGroup:
    """A group with a seeded random."""
    return UpstreamGroup("u", config, clock, Random(1), **parts)


class Pauses:
    """Stands in for `asyncio.sleep`: a pause lasts until the test's next `step`."""

    def __init__(self) -> None:
        self._begun: asyncio.Queue[tuple[float, asyncio.Future[None]]] = asyncio.Queue()
        self._held: list[asyncio.Future[None]] = []

    async def sleep(self, seconds: float) -> None:
        """Wait for `step`."""
        over = asyncio.get_running_loop().create_future()
        self._begun.put_nowait((seconds, over))
        await over

    async def step(self, count: int = 1) -> list[float]:
        """End the pauses that go on; return when `count` others began, with their seconds."""
        for over in self._held:
            if not over.done():
                over.set_result(None)
        begun = [await self._begun.get() for _ in range(count)]
        self._held = [over for _, over in begun]
        return [seconds for seconds, _ in begun]


ANY = make_exchange()
A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
EASILY = model.PassiveHealth(failures=2)  # ejects after two failures, for 10 s, half of the targets at most


def exchange(group: UpstreamGroup, clock: FakeClock, target, failed: bool = False, seconds: float = 0.01) -> None:
    """One attempt at `target`."""
    group.started(target)
    group.finished(target, seconds, failed, clock.now)


def eject(group: UpstreamGroup, clock: FakeClock, target) -> None:
    """Fail until it rests."""
    while not target.ejected_until:
        exchange(group, clock, target, failed=True)


def picks(group: UpstreamGroup, count: int = 60) -> Counter:
    """The addresses of so many picks, none of them taken."""
    return Counter(target.address for target in (group.pick(ANY) for _ in range(count)) if target)


class Dns:
    """Answers that a test changes."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names

    async def __call__(self, host: str, _port: int) -> list[str]:
        """The addresses of a name; `OSError` if it has none."""
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]


async def healthy(_target, _config) -> int:
    """A probe that finds everything well."""
    return 200
