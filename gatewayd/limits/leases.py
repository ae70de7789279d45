"""Limits that several machines share through Redis, decided without asking it: from leases taken ahead of need.

Each worker has an account for each key it counts. It knows the total that this worker has used (`own`), up to which
total Redis has let it go (`ceiling`), and how full Redis said the whole was. What is used beyond the ceiling is on
credit: it is only given where by the last answer there is room, or where there was no answer yet, up to one lease
(`credit`), and is charged as soon as Redis is asked. So all that is ever let through is charged, and what goes over the
limit because machines did not know of each other is paid for by those that come next.

A lease is what the key has lately used in `AHEAD`, at most `credit`; a key that is seldom used has none, and its
requests are only reported. The machine's own counter is always asked as well: no machine alone exceeds the limit, and
it is what counts when Redis is out of order.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from itertools import count
from typing import Any, Literal, Protocol

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import BuildContext, Limit, Reply, Undecided
from gatewayd.core.problem import problem
from gatewayd.core.workers import worker_count
from gatewayd.limits.bucket import Bucket
from gatewayd.limits.lender import BUCKET, QUOTA, Claim, Lender
from gatewayd.limits.quotas import Quota

AHEAD = 200_000_000
"""Nanoseconds for which a lease is to do."""
QUICKEST, SLOWEST = 5_000_000, 500_000_000
"""Nanoseconds after which an account that got too little asks again, at least and at most."""
_SHORTEST = 20_000_000
"""Nanoseconds in which use is looked at, at least."""
_UNKNOWN = -(1 << 62)
_LONG_AGO = -(1 << 62)
_KEPT = 86_400
"""Seconds that Redis remembers a quota after the end of its period: clocks differ, and may be set back."""

OnFailure = Literal["local", "deny", "allow"]
UNAVAILABLE = problem(
    503, "limit_unavailable", "it cannot be told now how much is left of a limit", ((b"retry-after", b"1"),)
)


class Side(Protocol):
    """A machine's own counter, as leases need it. Amounts are its own: nanoseconds of refilling, or requests."""

    limit: int
    depth: int
    """The most that can be used at once."""
    step: int
    """What one request uses."""
    flows: bool
    """Whether what is used comes back with time, one for each nanosecond."""

    @property
    def turn(self) -> int:
        """Changes when spots come to mean something else."""
        ...

    def spot(self, key: bytes, place: int) -> Any: ...
    def take(self, spot: Any, cost: int, now: int) -> int: ...
    def used(self, spot: Any, now: int) -> int: ...
    def give_back(self, spot: Any, cost: int, when: int) -> None: ...
    def left(self, used: int) -> tuple[int, int]: ...

    def wait(self, over: int) -> int:
        """Nanoseconds until there is room, if `over` more than `depth` is used."""
        ...

    def own(self, spot: Any) -> int:
        """The total that this worker has used."""
        ...

    def claim(self, account: Account, used: int, want: int) -> Claim | None:
        """To be charged up to the total `used` and get `want` more; None if the spot has lost its meaning."""
        ...


class BucketSpot:
    """Where a key counts, and what this worker took there: rows may be shared, what is charged is each key's own."""

    __slots__ = ("at", "total")

    def __init__(self, at: Any) -> None:
        self.at = at
        self.total = 0


class BucketSide:
    """Token buckets."""

    flows = True
    turn = 0

    def __init__(self, counter: Bucket, each: int, instance: str) -> None:
        """`each`: nanoseconds in which one request's worth comes in."""
        self._bucket = counter
        self._name = instance.encode()
        self.limit, self.depth, self.step = counter.limit, counter.limit * each, each
        self.left = counter.left

    def spot(self, key: bytes, place: int) -> BucketSpot:
        return BucketSpot(self._bucket.spot(key, place))

    def take(self, spot: BucketSpot, cost: int, now: int) -> int:
        used = self._bucket.take(spot.at, cost, now)
        if used >= 0:
            spot.total += cost * self.step
        return used

    def used(self, spot: BucketSpot, now: int) -> int:
        return self._bucket.used(spot.at, now)

    def give_back(self, spot: BucketSpot, cost: int, when: int) -> None:
        self._bucket.give_back(spot.at, cost, when)
        spot.total -= cost * self.step

    def wait(self, over: int) -> int:
        return over

    def own(self, spot: BucketSpot) -> int:
        return spot.total

    def claim(self, account: Account, used: int, want: int) -> Claim | None:
        arguments = (account.member, account.ceiling, used, want, self.step, self.depth)
        return Claim(BUCKET, b"rate:%b:%b" % (self._name, account.name), arguments, used, account.member)


class QuotaSide:
    """Quotas: what a worker used of a period stands in the machine's book, whose salt tells it from other machines'."""

    flows = False
    step = 1

    def __init__(self, counter: Quota, instance: str) -> None:
        self._quota = counter
        self._name = instance.encode()
        self.limit = self.depth = counter.limit
        self.spot, self.take, self.used = counter.spot, counter.take, counter.used
        self.give_back, self.left, self.own = counter.give_back, counter.left, counter.own

    @property
    def turn(self) -> int:
        return self._quota.turn

    def wait(self, over: int) -> int:
        return self._quota.wait()

    def claim(self, account: Account, used: int, want: int) -> Claim | None:
        period = self._quota.period
        key = b"quota:%b:%d:%b" % (self._name, period.start, account.name)
        over = 1000 * (period.end + _KEPT)
        member = self._quota.member
        machine, total = member.partition(b":")[0], self._quota.total(account.spot)
        return Claim(QUOTA, key, (machine, member, total, want, self.limit, over), used, account.member)


class Account:
    """What a worker knows of a key. Totals are `Side.own`'s."""

    __slots__ = (
        "ceiling", "credit", "era", "level", "low", "member", "name", "owner", "refused", "rests_until", "sent",
        "sent_at", "spot", "turn",
    )  # fmt: skip

    def __init__(self, owner: Leased, name: bytes, spot: Any) -> None:
        self.owner = owner
        self.name = name
        self.spot = spot
        self.turn = self.era = -1
        self.begin(0)

    def begin(self, own: int) -> None:
        """Nothing is known, and what was used before the total `own` is nobody's business."""
        self.member = self.owner.another()  # who asks, to Redis: it knows nothing of it
        self.ceiling = self.low = own  # charged up to there; it is time to ask
        self.credit = own + self.owner.lease
        self.level = _UNKNOWN  # how full the whole was when `own` was 0, and at nanosecond 0 if that flows
        self.refused = 0  # for want of a lease, since it last asked
        self.rests_until = 0  # nanosecond before which it does not ask
        self.sent, self.sent_at = own, _LONG_AGO

    def claim(self, now: int) -> Claim | None:
        """See `limits.lender.Borrower`."""
        return self.owner.claim(self, now)

    def told(self, claim: Claim, granted: int, lacking: int, now: int) -> bool:
        """See `limits.lender.Borrower`."""
        if claim.version != self.member:
            return False
        side = self.owner.side
        self.ceiling = claim.used + granted
        self.low = claim.used + granted // 2
        self.credit = claim.used + max(granted, self.owner.lease)
        self.level = lacking - self.ceiling + (now if side.flows else 0)
        short = lacking + side.step - side.depth
        if short > 0:
            wait = max(short, QUICKEST) if side.flows else SLOWEST
            self.rests_until = now + min(wait, SLOWEST)
        return granted > 0


class Leased:
    """A `limits.rate.Counter` that several machines share: `side` is this one's."""

    def __init__(self, side: Side, lender: Lender, lease: int) -> None:
        """`lease`: the most that this worker may hold for a key, in the amounts of `side`."""
        self.side = side
        self.limit = side.limit
        self.lease = lease
        self.left = side.left
        self._lender = lender
        self._server = lender.server
        self._name = os.urandom(8).hex().encode()
        self._numbers = count()

    @classmethod
    def of(cls, context: BuildContext, side: Side, share: float) -> Leased:
        """All workers of a machine together hold `share` of what can be used at once; each one request at least."""
        most = int(side.depth / side.step * share / worker_count(context.document))
        return cls(side, Lender.of(context), max(1, most) * side.step)

    def spot(self, key: bytes, place: int) -> Account:
        """The account of a key."""
        name = blake2b(key, digest_size=16, person=b"%d" % place).hexdigest().encode()
        return Account(self, name, self.side.spot(key, place))

    def another(self) -> bytes:
        """A name that none of all machines' accounts had yet."""
        return b"%b:%x" % (self._name, next(self._numbers))

    def take(self, account: Account, cost: int, now: int) -> int:
        """See `limits.rate.Counter`. Never waits."""
        side, server = self.side, self._server
        used = side.take(account.spot, cost, now)
        if used < 0 or not server.up:
            return used
        own = side.own(account.spot)
        if account.era != server.outages or account.turn != side.turn:
            account.begin(own - cost * side.step)
            account.era, account.turn = server.outages, side.turn
        if own > account.low and now >= account.rests_until:
            self._lender.ask(account)
        lacking = account.level + own
        if side.flows:
            lacking -= now
        if own > account.ceiling and (own > account.credit or lacking > side.depth):
            return self._refuse(account, cost, now, lacking - side.depth)
        return min(lacking, side.depth) if lacking > used else used

    def _refuse(self, account: Account, cost: int, now: int, over: int) -> int:
        """Minus the nanoseconds until there may be room."""
        side = self.side
        side.give_back(account.spot, cost, now)
        account.refused = min(account.refused + cost * side.step, self.lease)
        if over <= 0:  # it may be there already: nobody knows yet
            return -1
        return -side.wait(over)

    def give_back(self, account: Account, cost: int, when: int) -> None:
        """See `limits.rate.Counter`; the next answer from Redis has it given back there."""
        self.side.give_back(account.spot, cost, when)

    def used(self, account: Account, now: int) -> int:
        """See `limits.rate.Counter`: as far as this worker knows."""
        used = self.side.used(account.spot, now)
        if account.turn != self.side.turn or not self._server.up:
            return used
        return max(used, account.level + self.side.own(account.spot) - (now if self.side.flows else 0))

    def claim(self, account: Account, now: int) -> Claim | None:
        """What an account asks for: what its key has lately used in `AHEAD`, or was refused if that is more."""
        if account.turn != self.side.turn or account.era != self._server.outages:
            return None
        own = self.side.own(account.spot)
        elapsed = max(now - account.sent_at, _SHORTEST)
        want = max((own - account.sent) * AHEAD // elapsed, account.refused)
        want = min(want, self.lease) // self.side.step * self.side.step
        account.sent, account.sent_at, account.refused = own, now, 0
        return self.side.claim(account, own, max(0, want))


class Shared:
    """The `core.policy.Limit` of a policy's instance that is shared: `limit`, and what is done while Redis is out."""

    def __init__(self, limit: Limit, instance: str, lender: Lender, on_failure: OnFailure) -> None:
        self._limit = limit
        self._instance = instance
        self._lender = lender
        self._server = lender.server
        self._on_failure = on_failure

    def take(self, exchange: Exchange, now: int) -> Reply | None:
        """See `core.policy.Limit`. Raises `Undecided`."""
        if self._server.up:
            return self._limit.take(exchange, now)
        if self._server.ready():
            self._lender.look()
        if self._on_failure == "deny":
            raise Undecided(UNAVAILABLE)
        alone = self._on_failure == "local"
        exchange.note(self._instance, "alone" if alone else "uncounted")
        return self._limit.take(exchange, now) if alone else None

    def give_back(self, exchange: Exchange) -> None:
        """See `core.policy.Limit`."""
        self._limit.give_back(exchange)
