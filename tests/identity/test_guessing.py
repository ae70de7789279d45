"""Guessing: who fails too often is not listened to for a while."""

from __future__ import annotations

import pytest

from gatewayd.config.model import Document, Identity
from gatewayd.config.units import Rate
from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.identity import guessing as module
from gatewayd.identity.guessing import Guessing, guessing
from tests.support.exchanges import make_exchange

THREE = Rate.parse("3/m")


@pytest.fixture
def clock():
    return FakeClock()


def fail(guesses, client, times):
    for _ in range(times):
        assert guesses.refusal(make_exchange(client=client)) is None
        guesses.failed(make_exchange(client=client))


def wait_of(guesses, client):
    reply = guesses.refusal(make_exchange(client=client))
    if reply is None:
        return None
    assert (reply.status, reply.code) == (429, "too_many_failures")
    return int(dict(reply.headers)[b"retry-after"])


def test_so_many_failures_are_free_then_one_per_share_of_the_period(clock):
    guesses = Guessing(THREE, clock.monotonic)
    fail(guesses, "192.0.2.1", 3)
    assert wait_of(guesses, "192.0.2.1") == 20
    clock.advance(19.5)
    assert wait_of(guesses, "192.0.2.1") == 1
    clock.advance(0.5)
    fail(guesses, "192.0.2.1", 1)
    assert wait_of(guesses, "192.0.2.1") == 20
    clock.advance(60)
    fail(guesses, "192.0.2.1", 3)
    assert wait_of(guesses, "192.0.2.1") == 20


def test_other_addresses_are_not_touched(clock):
    guesses = Guessing(THREE, clock.monotonic)
    fail(guesses, "192.0.2.1", 3)
    fail(guesses, "192.0.2.2", 3)
    assert wait_of(guesses, "192.0.2.3") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::2", True),
        ("no:address", "no:address", True),
    ],
)
def test_an_ipv6_caller_is_its_64_bits(clock, one, other, same):
    guesses = Guessing(THREE, clock.monotonic)
    fail(guesses, one, 3)
    assert (wait_of(guesses, other) is not None) is same


def test_callers_without_an_address_do_not_share_one(clock):
    guesses = Guessing(THREE, clock.monotonic)
    fail(guesses, "", 100)


def test_zero_counts_nothing(clock):
    guesses = Guessing(Rate.parse(0), clock.monotonic)
    fail(guesses, "192.0.2.1", 100)


def test_a_burst_under_way_shuts_out_for_a_period_at_most(clock):
    guesses = Guessing(THREE, clock.monotonic)
    for _ in range(1_000):
        guesses.failed(make_exchange(client="192.0.2.1"))
    assert wait_of(guesses, "192.0.2.1") == 80
    clock.advance(80)
    assert wait_of(guesses, "192.0.2.1") is None


def test_the_table_is_bounded_and_forgets_the_oldest_failure(clock, monkeypatch):
    monkeypatch.setattr(module, "ADDRESSES", 10)
    table = {}
    guesses = Guessing(THREE, clock.monotonic, table)
    fail(guesses, "192.0.2.0", 2)
    for last in range(1, 10):
        fail(guesses, f"192.0.2.{last}", 3)
    fail(guesses, "192.0.2.0", 1)  # now the newest
    fail(guesses, "192.0.2.99", 3)
    assert len(table) == 10
    assert wait_of(guesses, "192.0.2.0") is not None
    assert wait_of(guesses, "192.0.2.1") is None


def test_one_table_for_all_policies_and_generations(clock):
    kept = {}
    document = Document(identity=Identity(failures_per_address=THREE))
    first = guessing(BuildContext("a", clock=clock, kept=kept, document=document))
    fail(first, "192.0.2.1", 3)
    other = guessing(BuildContext("b", clock=clock, kept=kept, document=document))
    assert wait_of(other, "192.0.2.1") == 20
    off = Document(identity=Identity(failures_per_address=Rate(0)))
    assert wait_of(guessing(BuildContext("b", clock=clock, kept=kept, document=off)), "192.0.2.1") is None
