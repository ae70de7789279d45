"""Limits over several machines: what is let through in all, however Redis is treated, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import random

import pytest

from gatewayd.config.units import Duration
from gatewayd.core.clock import FakeClock, SystemClock
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Reply, Undecided
from gatewayd.core.redis import RedisServer
from gatewayd.limits.bucket import Bucket
from gatewayd.limits.calendar import Calendar
from gatewayd.limits.leases import UNAVAILABLE, BucketSide, QuotaSide, Shared
from gatewayd.limits.ledger import Ledger
from gatewayd.limits.quotas import Quota
from tests.limits.machines import PATIENT, Machine, connected
from tests.limits.workers import SECOND
from tests.support.exchanges import make_exchange
from tests.support.redis_server import RedisProcess, needs_redis

EACH = 20_000_000  # 50 a second
BURST = 20
LEASE = 5


def bucket_side(each=EACH, burst=BURST):
    return lambda context: BucketSide(Bucket.of(context, each, burst), each, "limit")


def quota_side(state, clock, limit=100):
    def make(context):
        ledger = Ledger(state)
        calendar = Calendar("day")
        return QuotaSide(Quota("limit", limit, calendar, lambda: ledger, clock.wall), "limit")

    return make


def machines(process, count=2, clock=None, side=None, lease=LEASE, timeout=PATIENT):
    clock = clock or FakeClock()
    return [Machine(process.url, clock, side or bucket_side(), lease, timeout) for _ in range(count)]


@pytest.fixture(scope="module")
def shared_redis():
    with RedisProcess() as process:
        yield process


@pytest.fixture
def process(shared_redis):
    shared_redis.command("FLUSHALL")
    return shared_redis


pytestmark = needs_redis


# -- buckets ----------------------------------------------------------------------------------------------------------


def load(run, hosts, seconds, rate, between=lambda number: None):
    """Real time, for it is Redis' clock that counts: how many of `rate` per second were let through, what the rate had
    room for, and how much of that came while this process stood still for longer than a lease lasts.
    """
    clock = SystemClock()
    begin = last = clock.monotonic()
    number, accepted, missed = 0, 0, 0.0
    while (now := clock.monotonic()) - begin < seconds:
        missed += max(0.0, now - last - 0.05)
        last = now
        while number < (now - begin) * rate:
            accepted += hosts[number % len(hosts)].take()
            between(number)
            number += 1
        for host in hosts:
            run(host.sync())
    return accepted, (last - begin) * SECOND / EACH, missed * SECOND / EACH


@pytest.mark.parametrize("count", [2, 3])
def test_machines_share_one_limit(process, count):
    """The bucket and what came in meanwhile; a lease for each machine is the error."""
    hosts = machines(process, count, SystemClock())
    with connected(process) as run:
        accepted, room, missed = load(run, hosts, 0.8, 400)
    ideal = BURST + room
    assert ideal - missed - count * LEASE - 1 <= accepted <= ideal + count * LEASE
    assert not any(host.server.failures for host in hosts)


def test_a_key_nobody_has_heard_of_gets_a_lease_on_credit_and_no_more(process):
    host, other = machines(process, side=bucket_side(each=60 * SECOND))
    assert [host.take() for _ in range(8)] == [True] * LEASE + [False] * 3
    assert host.begun
    with connected(process) as run:
        run(host.sync())
        for _ in range(BURST):
            host.take()
            run(host.sync())
        assert not host.take()  # the bucket is empty, and this one knows
        assert [other.take() for _ in range(6)] == [True] * LEASE + [False]  # this one does not: the error
        run(other.sync())
        assert not other.take()


def test_what_was_given_on_credit_is_paid_for(process):
    """Two machines empty a full bucket on credit: the debt is charged, so it takes longer until there is room."""
    host, other = machines(process, lease=BURST, side=bucket_side(each=60 * SECOND))
    assert host.take(BURST)
    assert other.take(BURST)
    with connected(process) as run:
        run(host.sync())
        run(other.sync())
        lacking = other.account().level + other.account().ceiling - other.now()
        assert 2 * BURST * 60 * SECOND - SECOND < lacking <= 2 * BURST * 60 * SECOND
        assert not other.take()


def test_who_asks_seldom_is_not_refused_though_little_is_left(process):
    """A quiet caller that lives on single tokens gets each of them at once."""
    clock = FakeClock()
    (host,) = machines(process, 1, clock, bucket_side(each=SECOND // 20, burst=1), lease=1)
    host.clock = clock
    with connected(process) as run:
        for _ in range(4):
            assert host.take()
            run(host.sync())
            assert not host.take()
            process.command("BLPOP", "nothing", "0.06")  # a token's time, by Redis' clock as by ours
            clock.advance(0.06)


def test_a_lease_that_is_not_used_is_given_back(process):
    clock = FakeClock()
    host, other = machines(process, 2, clock, bucket_side(each=60 * SECOND))
    with connected(process) as run:
        for _ in range(3):
            clock.advance(0.05)
            assert host.take()
            run(host.sync())
        held = host.account().ceiling - host.leased.side.own(host.account().spot)
        assert held > 0
        assert host.lender._held
        clock.advance(60)
        run(host.sync())
        assert not host.lender._held
        assert host.account().ceiling == host.leased.side.own(host.account().spot)
        other.take()
        run(other.sync())
        lacking = other.account().level + other.account().ceiling - other.now()
        assert 4 * 60 * SECOND - SECOND < lacking <= 4 * 60 * SECOND  # four were used in all


def test_what_is_refunded_is_refunded_everywhere(process):
    host, other = machines(process, lease=BURST, side=bucket_side(each=60 * SECOND))
    with connected(process) as run:
        assert host.take(BURST)
        run(host.sync())
        assert not host.take()
        host.leased.give_back(host.account(), BURST, host.now())
        host.lender.ask(host.account())
        run(host.sync())
        assert other.take()
        run(other.sync())
        assert other.take(BURST - 1)


def test_an_answer_that_was_lost_costs_nothing(process):
    host, other = machines(process, side=bucket_side(each=60 * SECOND))
    with connected(process) as run:
        host.take()
        claim = host.account().claim(host.now())
        host.lender._asked.clear()
        run(host.server.run([_call(claim)]))  # it was charged, and nobody was told
        host.take()
        run(host.sync())
        other.take()
        run(other.sync())
        lacking = other.account().level + other.account().ceiling - other.now()
        held = host.account().ceiling - host.leased.side.own(host.account().spot)
        assert 3 * 60 * SECOND - SECOND < lacking - held <= 3 * 60 * SECOND


def _call(claim):
    from gatewayd.core.redis import Call

    return Call(claim.script, [claim.key], list(claim.arguments))


@pytest.mark.parametrize("how", ["flush", "restart"])
def test_a_redis_that_forgets_grants_one_bucket_more(process, how):
    hosts = machines(process, 2, SystemClock())
    half = []

    def forget(number):
        if number == 150 and not half:
            half.append(number)
            if how == "flush":
                process.command("FLUSHALL")
            else:
                process.kill()
                process.start()

    with connected(process) as run:
        accepted, room, missed = load(run, hosts, 0.8, 400, forget)
    assert half
    ideal = BURST + room
    assert ideal - missed - 2 * LEASE - 1 <= accepted <= ideal + BURST + 2 * LEASE + (BURST if how == "restart" else 0)


@pytest.mark.parametrize("how", ["freeze", "kill"])
def test_without_redis_each_machine_limits_by_itself_and_afterwards_both_together(process, how):
    hosts = machines(process, 2, SystemClock(), timeout=Duration(0.05))
    with connected(process) as run:
        load(run, hosts, 0.2, 400)
        getattr(process, how)()
        alone, room, _ = load(run, hosts, 0.5, 400)
        assert not any(host.server.up for host in hosts)
        assert room - 2 * LEASE <= alone <= 2 * (room + BURST)
        if how == "freeze":
            process.thaw()
        else:
            process.start()
        for host in hosts:
            while not host.server.up:
                host.lender.look()
                run(host.sync())
        load(run, hosts, 0.3, 400)
        both, room, missed = load(run, hosts, 0.5, 400)
        assert room - missed - 2 * LEASE - BURST <= both <= room + 2 * LEASE + BURST


def test_whoever_ends_loses_one_lease_at_most(process):
    """A machine that is gone for good: the others have the rest."""
    host, other = machines(process, side=bucket_side(each=60 * SECOND))
    with connected(process) as run:
        host.take()
        run(host.sync())
        host.take()
        run(host.sync())
        used = 2
        del host
        got = 0
        for _ in range(3 * BURST):
            got += other.take()
            run(other.sync())
        assert BURST - used - LEASE <= got <= BURST - used


# -- quotas -----------------------------------------------------------------------------------------------------------


def quotas(process, tmp_path, count=2, limit=100, lease=LEASE):
    clock = FakeClock()
    return [machines(process, 1, clock, quota_side(tmp_path / str(at), clock, limit), lease)[0] for at in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_a_quota_is_used_up_by_all_together_and_not_exceeded(process, tmp_path, seed):
    chance = random.Random(seed)
    hosts = quotas(process, tmp_path, 3)
    accepted = 0
    with connected(process) as run:
        for _ in range(900):
            host = chance.choice(hosts)
            accepted += host.take()
            if chance.random() < 0.5:
                run(host.sync())
            host.clock.advance(0.003)
        for host in hosts:
            host.clock.advance(60)
            for _ in range(2):  # leases are given back, and the rest is used
                run(host.sync())
        for _ in range(40):
            for host in hosts:
                host.clock.advance(1)
                accepted += host.take()
                run(host.sync())
    assert 100 <= accepted <= 100 + 3 * LEASE
    assert not any(host.take() for host in hosts)


def test_a_flush_is_made_good_by_what_machines_remember(process, tmp_path):
    host, other = quotas(process, tmp_path)
    with connected(process) as run:
        for each in (host, other):
            for _ in range(40):
                assert each.take()
                run(each.sync())
        process.command("FLUSHALL")
        got = 0
        for _ in range(60):
            for each in (host, other):
                got += each.take()
                run(each.sync())
        assert 20 - 2 * LEASE <= got <= 20 + 2 * LEASE


def test_a_quota_refused_says_when_the_next_period_begins(process, tmp_path):
    (host,) = quotas(process, tmp_path, 1, limit=3)
    with connected(process) as run:
        other = quotas(process, tmp_path / "b", 1, limit=3)[0]
        assert [other.take() for _ in range(3)] == [True] * 3
        run(other.sync())
        assert host.take()  # on credit
        run(host.sync())
        assert host.asked() == -host.leased.side.wait(0)


# -- the limit of a policy --------------------------------------------------------------------------------------------


class Fixed:
    """A limit that lets all through, and counts them."""

    def __init__(self):
        self.taken = self.given_back = 0

    def take(self, exchange: Exchange, now: int) -> Reply | None:
        self.taken += 1
        return None

    def give_back(self, exchange: Exchange) -> None:
        self.given_back += 1


@pytest.mark.parametrize(
    ("on_failure", "taken", "verdicts"),
    [("local", 2, [("limit", "alone")]), ("allow", 1, [("limit", "uncounted")])],
)
def test_what_is_done_while_redis_is_out_is_noted(process, on_failure, taken, verdicts):
    (host,) = machines(process, 1)
    inner = Fixed()
    limit = Shared(inner, "limit", host.lender, on_failure)
    exchange = make_exchange()
    assert limit.take(exchange, 0) is None
    assert exchange.verdicts is None
    host.server._failed(TimeoutError())
    assert limit.take(exchange, 0) is None
    assert exchange.verdicts == verdicts
    assert inner.taken == taken
    assert not host.begun  # it is too early to look again
    host.clock.advance(1)
    limit.take(exchange, 0)
    assert host.begun
    limit.give_back(exchange)
    assert inner.given_back == 1


def test_denied_is_undecided_so_failure_open_counts(process):
    (host,) = machines(process, 1)
    limit = Shared(Fixed(), "limit", host.lender, "deny")
    host.server._failed(TimeoutError())
    with pytest.raises(Undecided) as caught:
        limit.take(make_exchange(), 0)
    assert caught.value.reply is UNAVAILABLE


def test_what_is_used_is_told_as_far_as_it_is_known(process):
    host, other = machines(process, lease=BURST, side=bucket_side(each=60 * SECOND))
    with connected(process) as run:
        host.take(10)
        run(host.sync())
        other.take(1)
        assert other.leased.left(other.leased.used(other.account(), other.now()))[0] == 19
        run(other.sync())
        assert other.leased.left(other.leased.used(other.account(), other.now()))[0] == 9
        assert other.leased.left(other.asked())[0] == 8
        assert asyncio.iscoroutinefunction(other.leased.take) is False
        assert isinstance(other.server, RedisServer)
