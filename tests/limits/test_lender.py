"""The lender: one round trip for all who ask, runs of bounded size, and nothing left waiting without an answer."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.core.redis import Unreachable
from gatewayd.core.tasks import spawn
from gatewayd.limits.lender import BUCKET, HOLD, MOST, QUOTA, TOGETHER, Claim, Lender


class Server:
    """A Redis that notes what it is asked, and grants 3 of whatever it is."""

    def __init__(self):
        self.up = True
        self.trips = []

    async def run(self, calls):
        self.trips.append(calls)
        if not self.up:
            raise Unreachable("timeout")
        return [[b"3", b"7"] * len(call.keys) for call in calls]


class Account:
    """Asks for what it is told to."""

    def __init__(self, name=b"a", script=BUCKET, holds=False, over=False):
        self.made = None if over else Claim(script, name, (name, 1), 5, 0)
        self.holds = holds
        self.answers = []

    def claim(self, now):
        return self.made

    def told(self, claim, granted, lacking, now):
        assert claim is self.made
        self.answers.append((granted, lacking))
        return self.holds


@pytest.fixture
def clock():
    return FakeClock()


def lender_of(clock, server=None):
    return Lender(server or Server(), clock.monotonic, lambda work, name: work.close())


def test_all_who_asked_are_asked_for_in_one_trip_a_script_at_a_time(clock):
    lender = lender_of(clock)
    accounts = [Account(b"%d" % at, QUOTA if at % 2 else BUCKET) for at in range(6)]
    for account in [*accounts, *accounts]:
        lender.ask(account)
    lender.ask(Account(over=True))
    asyncio.run(lender.round())
    (calls,) = lender.server.trips
    assert [(call.script, call.keys) for call in calls] == [(BUCKET, [b"0", b"2", b"4"]), (QUOTA, [b"1", b"3", b"5"])]
    assert calls[0].arguments == [b"0", 1, b"2", 1, b"4", 1]
    assert [account.answers for account in accounts] == [[(3, 7)]] * 6
    asyncio.run(lender.round())
    assert len(lender.server.trips) == 1  # nobody asked


def test_trips_and_runs_are_bounded(clock):
    lender = lender_of(clock)
    for at in range(MOST + 50):
        lender.ask(Account(b"%d" % at))
    asyncio.run(lender.round())
    asyncio.run(lender.round())
    first, second = lender.server.trips
    assert [len(call.keys) for call in first] == [TOGETHER] * (MOST // TOGETHER)
    assert [len(call.keys) for call in second] == [50]


def test_who_holds_a_lease_is_asked_when_its_time_is_over(clock):
    lender = lender_of(clock)
    account = Account(holds=True)
    lender.ask(account)
    asyncio.run(lender.round())
    clock.advance(0.9 * HOLD / 1e9)
    asyncio.run(lender.round())
    assert len(account.answers) == 1
    account.holds = False
    clock.advance(0.2 * HOLD / 1e9)
    asyncio.run(lender.round())
    asyncio.run(lender.round())
    assert len(account.answers) == 2


def test_without_an_answer_nothing_waits_and_only_a_ping_looks_whether_it_is_back(clock):
    lender = lender_of(clock)
    held, account = Account(holds=True), Account()
    lender.ask(held)
    asyncio.run(lender.round())
    lender.server.up = False
    lender.ask(account)
    asyncio.run(lender.round())
    assert account.answers == []
    assert not lender._asked
    assert not lender._held
    asyncio.run(lender.round())
    assert [call.arguments for call in lender.server.trips[-1]] == [("PING",)]


def test_it_works_by_itself_while_there_is_something_to_do(clock):
    server, tasks = Server(), []
    lender = Lender(server, clock.monotonic, lambda work, name: tasks.append(spawn(work, name)))
    accounts = [Account(b"%d" % at) for at in range(MOST + 1)]

    async def run():
        for account in accounts:
            lender.ask(account)
        await tasks[0]
        lender.ask(accounts[0])
        await tasks[1]

    asyncio.run(run())
    assert [len(account.answers) for account in (accounts[0], accounts[-1])] == [2, 1]
    assert len(server.trips) == 3
