"""Names to addresses, again and again, without blocking the loop. A failure keeps the last answer."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from random import Random

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""IP addresses of a host and port. Raises `OSError` (`socket.gaierror`), `UnicodeError` (no such name)."""
Sleep = Callable[[float], Awaitable[object]]

SHORTEST_INTERVAL = 1.0
"""Seconds between two questions at least; the first pause after a failure, doubling up to the interval."""
_log = logging.getLogger(__name__)


async def resolve_name(host: str, port: int) -> list[str]:
    """Ask the system (hosts file, DNS) for A and AAAA, in the loop's thread pool."""
    loop = asyncio.get_running_loop()
    # AI_ADDRCONFIG: no AAAA where this machine has no IPv6, and the other way round (RFC 3493 §6.1).
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(entry[4][0]) for entry in found]


def in_order(ips: Sequence[str]) -> tuple[str, ...]:
    """Each address once, IPv4 first, ascending: the same answer in another order changes nothing."""
    return tuple(sorted(set(ips), key=_rank))


def _rank(ip: str) -> tuple[int, int, str]:
    parsed = ipaddress.ip_address(ip)
    return parsed.version, int(parsed), ip


class Resolver:
    """Keeps one name's addresses fresh: `answer` is called with all of them when they change."""

    __slots__ = (
        "_answer",
        "_failed_in_row",
        "_interval",
        "_random",
        "_resolve",
        "_sleep",
        "asked",
        "failures",
        "host",
        "ips",
        "port",
    )

    def __init__(
        self,
        host: str,
        port: int,
        interval: float,
        answer: Callable[[tuple[str, ...]], None],
        *,
        resolve: Resolve = resolve_name,
        random: Random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`interval`: seconds from one answer to the next question, give or take a tenth."""
        self.host = host
        self.port = port
        self.ips: tuple[str, ...] = ()
        self.failures = 0
        self.asked = asyncio.Event()  # the first question was answered, well or not
        self._failed_in_row = 0
        self._interval = max(interval, SHORTEST_INTERVAL)
        self._answer = answer
        self._resolve = resolve
        self._random = random
        self._sleep = sleep

    async def run(self) -> None:
        """Resolve until cancelled."""
        while True:
            try:
                ips = in_order(await self._resolve(self.host, self.port))
            except (OSError, UnicodeError) as error:
                self._failed(str(error))
            else:
                self._succeeded(ips)
            self.asked.set()
            await self._sleep(self._pause() * self._random.uniform(0.9, 1.1))

    def _pause(self) -> float:
        if not self._failed_in_row:
            return self._interval
        return min(SHORTEST_INTERVAL * 2.0 ** min(self._failed_in_row - 1, 10), self._interval)

    def _failed(self, why: str) -> None:
        self.failures += 1
        self._failed_in_row += 1
        if self._failed_in_row == 1:
            kept = f"keeping {', '.join(self.ips)}" if self.ips else "it has no address yet"
            _log.warning("%s cannot be resolved, %s: %s", self.host, kept, why)

    def _succeeded(self, ips: tuple[str, ...]) -> None:
        if not ips:
            self._failed("the answer is empty")
            return
        if self._failed_in_row:
            _log.info("%s can be resolved again", self.host)
        self._failed_in_row = 0
        if ips != self.ips:
            _log.info("%s is at %s", self.host, ", ".join(ips))
            self.ips = ips
            self._answer(ips)
