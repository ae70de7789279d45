"""The lender: what a worker's accounts of limits that several machines share ask Redis for, in one round trip for all.

Nobody waits for it. It works while somebody has asked or holds a lease, and then rests. What was used is told in
totals, never in differences, and Redis remembers what it has charged. So an answer that is lost costs nothing: the next
one makes it good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from itertools import islice
from typing import Any, NamedTuple, Protocol

from gatewayd.core.policy import BuildContext
from gatewayd.core.redis import Call, RedisServer, Script, Unreachable
from gatewayd.core.tasks import spawn

PACE = 0.005
"""Seconds between two round trips."""
HOLD = 500_000_000
"""Nanoseconds after which what is left of a lease is given back, or taken anew."""
TOGETHER = 200
"""Accounts in one run of a script: Redis does nothing else meanwhile, about a millisecond."""
MOST = 2_000
"""Accounts in one round trip."""

BUCKET = Script("""
local t = redis.call('TIME')
local now = (t[1] - 1700000000) * 1e9 + t[2] * 1e3
local out = {}
for i, key in ipairs(KEYS) do
  local a = 6 * (i - 1)
  local member, base, used = ARGV[a + 1], tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local want, step, depth = tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), tonumber(ARGV[a + 6])
  local known = redis.call('HMGET', key, 'full', 'at', member)
  local full, at = tonumber(known[1] or now), tonumber(known[2] or now)
  if at > now then full = full - (at - now) end
  full = math.max(full, now) + used - tonumber(known[3] or base)
  full = math.max(full, now)
  local room = math.floor((now + depth - full) / step) * step
  local granted = math.max(0, math.min(want, room))
  full = full + granted
  redis.call('HSET', key, 'full', string.format('%.0f', full), 'at', string.format('%.0f', now),
    member, string.format('%.0f', used + granted))
  redis.call('PEXPIRE', key, math.ceil((full - now) / 1e6) + 5000)
  out[2 * i - 1] = string.format('%.0f', granted)
  out[2 * i] = string.format('%.0f', full - now)
end
return out
""")
"""GCRA by the server's clock: `full` is the nanosecond at which a bucket is full again, `at` the last one seen (a clock
that was set back moves `full` with it), and for each member the total up to which it was charged. For a member that is
not known, `base` is taken for that."""

QUOTA = Script("""
local out = {}
for i, key in ipairs(KEYS) do
  local a = 6 * (i - 1)
  local machine, member, used = ARGV[a + 1], ARGV[a + 2], tonumber(ARGV[a + 3])
  local want, limit, over = tonumber(ARGV[a + 4]), tonumber(ARGV[a + 5]), ARGV[a + 6]
  local known = redis.call('HMGET', key, 'all', machine, member)
  local others = tonumber(known[1] or 0) - tonumber(known[2] or 0) - tonumber(known[3] or 0)
  local granted = math.max(0, math.min(want, limit - others - used))
  local all = others + used + granted
  redis.call('HSET', key, 'all', string.format('%.0f', all), machine, string.format('%.0f', used),
    member, string.format('%.0f', granted))
  redis.call('PEXPIREAT', key, over)
  out[2 * i - 1] = string.format('%.0f', granted)
  out[2 * i] = string.format('%.0f', all)
end
return out
""")
"""For each machine what it used, for each worker what it holds, and the sum of all of it. What a worker used of its
lease counts twice until it is heard of again. A server that forgot all this is told it again by whoever asks."""

_PING = Call(None, (), ("PING",))


class Claim(NamedTuple):
    """What an account asks: a script for its `key`, with its part of the arguments."""

    script: Script
    key: bytes
    arguments: tuple[bytes | int, ...]
    used: int
    """The total it has used, of which the answer will be."""
    version: Hashable
    """Of what it knew: an answer to what it has forgotten meanwhile means nothing."""


class Borrower(Protocol):
    """An account of `limits.leases`, as the lender sees it."""

    def claim(self, now: int) -> Claim | None:
        """What to ask for at nanosecond `now`; None: nothing any more."""
        ...

    def told(self, claim: Claim, granted: int, lacking: int, now: int) -> bool:
        """The answer to `claim`. Whether it holds a lease now."""
        ...


class Lender:
    """The one of a worker."""

    def __init__(
        self,
        server: RedisServer,
        monotonic: Callable[[], float],
        begin: Callable[[Coroutine[Any, Any, None], str], object] = spawn,
    ) -> None:
        """`begin` runs a coroutine by itself."""
        self.server = server
        self._monotonic = monotonic
        self._begin = begin
        self._asked: dict[Borrower, None] = {}
        self._held: dict[Borrower, int] = {}  # until which nanosecond
        self._works = False

    @classmethod
    def of(cls, context: BuildContext) -> Lender:
        """The one for the server of the configuration, kept over reloads. Raises `ConfigError`."""
        server = RedisServer.of(context, "limits")
        found: Lender | None = context.kept.get(("", "lender"))
        if found is None or found.server is not server:
            found = context.kept[("", "lender")] = cls(server, context.clock.monotonic)
        return found

    def ask(self, account: Borrower) -> None:
        """Soon ask for what `account` claims then. Does not wait."""
        self._asked[account] = None
        self.look()

    def look(self) -> None:
        """Do what there is to do; if Redis was out of order, see if it still is. Does not wait."""
        if not self._works:
            self._works = True
            self._begin(self._work(), "leases")

    async def _work(self) -> None:
        try:
            await self.round()
            while self._asked or self._held:
                await asyncio.sleep(PACE)
                await self.round()
        finally:
            self._works = False

    async def round(self) -> None:
        """One round trip for all that have asked, and for leases whose time is over."""
        now = self._now()
        for account in [account for account, until in self._held.items() if until <= now]:
            del self._held[account]
            self._asked[account] = None
        batch = list(islice(self._asked, MOST))
        for account in batch:
            del self._asked[account]
        if not self.server.up:
            await self._run([_PING])
            return
        claims = [(account, claim) for account in batch if (claim := account.claim(now)) is not None]
        if claims:
            await self._claim(claims)

    async def _claim(self, claims: list[tuple[Borrower, Claim]]) -> None:
        runs = list(_runs(claims))
        calls = [
            Call(
                run[0][1].script,
                [claim.key for _, claim in run],
                [argument for _, claim in run for argument in claim.arguments],
            )
            for run in runs
        ]
        answers = await self._run(calls)
        now = self._now()
        for run, answer in zip(runs, answers, strict=bool(answers)):
            numbers = [int(number) for number in answer]
            for (account, claim), granted, lacking in zip(run, numbers[::2], numbers[1::2], strict=True):
                if account.told(claim, granted, lacking, now):
                    self._held[account] = now + HOLD

    async def _run(self, calls: list[Call]) -> list[Any]:
        """The answers, or none: who needs something then asks again when it is time."""
        try:
            return await self.server.run(calls)
        except Unreachable:
            self._asked.clear()
            self._held.clear()
            return []

    def _now(self) -> int:
        return round(self._monotonic() * 1e9)


def _runs(claims: list[tuple[Borrower, Claim]]) -> list[list[tuple[Borrower, Claim]]]:
    """Claims of one script each, few enough for one run of it."""
    by_script: dict[Script, list[tuple[Borrower, Claim]]] = {}
    for each in claims:
        by_script.setdefault(each[1].script, []).append(each)
    return [found[at : at + TOGETHER] for found in by_script.values() for at in range(0, len(found), TOGETHER)]
