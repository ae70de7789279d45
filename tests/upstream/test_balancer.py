"""Balancers: fairness, steadiness, and what they avoid."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.config import model
from gatewayd.core.clock import FakeClock
from gatewayd.upstream.balancer import (
    SLOTS,
    ConsistentHash,
    PowerOfTwo,
    key_of,
    least_requests,
    make_picker,
    observe,
    owner_of,
    round_robin,
)

from .build import make_exchange, make_targets

ANY = make_exchange()
WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=8)


def p2c(clock: FakeClock | None = None, seed: int = 1) -> PowerOfTwo:
    """A seeded power of two choices."""
    return PowerOfTwo(clock or FakeClock(), Random(seed))


def shares(pick, candidates, count: int) -> list[int]:
    """How many of `count` picks each candidate gets."""
    counted = Counter(id(pick(candidates, ANY)) for _ in range(count))
    return [counted[id(target)] for target in candidates]


# -- the latency that p2c_ewma goes by


def test_a_worse_latency_counts_at_once_and_a_better_one_gradually():
    (target,) = make_targets(1)
    observe(target, 0.010, 0.0)
    assert target.latency == 0.010
    observe(target, 0.200, 1.0)
    assert target.latency == 0.200
    observe(target, 0.010, 1.0)
    assert target.latency == 0.200  # no time has passed
    observe(target, 0.010, 11.0)
    assert target.latency == pytest.approx(0.010 + 0.190 / 2.718281828)
    observe(target, 0.010, 1000.0)
    assert target.latency == pytest.approx(0.010)


# -- p2c_ewma


@given(st.lists(st.floats(0.001, 10), min_size=3, max_size=10, unique=True), st.integers(0, 2**32))
def test_the_worst_of_several_is_never_picked(latencies, seed):
    targets = make_targets(*[1] * len(latencies))
    for target, latency in zip(targets, latencies, strict=True):
        observe(target, latency, 1000.0)
    picked = shares(p2c(seed=seed).pick, targets, 200)
    assert picked[latencies.index(max(latencies))] == 0
    assert picked[latencies.index(min(latencies))] > 0


@pytest.mark.parametrize("count", [3, 4, 7])
def test_equal_targets_are_picked_alike(count):
    targets = make_targets(*[1] * count)
    for target in targets:
        observe(target, 0.01, 1000.0)
    assert all(9000 / count < share < 11000 / count for share in shares(p2c().pick, targets, 10_000))


def test_load_outweighs_latency():
    fast, slow = make_targets(1, 1)
    observe(fast, 0.010, 1000.0)
    observe(slow, 0.025, 1000.0)
    pick = p2c().pick
    taken = []
    for _ in range(6):
        target = pick((fast, slow), ANY)
        target.in_flight += 1
        taken.append("fast" if target is fast else "slow")
    assert taken == ["fast", "fast", "slow", "fast", "fast", "fast"]


def test_an_unknown_target_gets_one_exchange_until_it_answered():
    known, unknown = make_targets(1, 1)
    observe(known, 0.010, 1000.0)
    pick = p2c().pick
    assert pick((known, unknown), ANY) is unknown
    unknown.in_flight += 1
    known.in_flight += 500
    assert pick((known, unknown), ANY) is known
    observe(unknown, 0.020, 1000.0)
    assert pick((known, unknown), ANY) is unknown


def test_unknown_targets_share_a_first_rush():
    targets = make_targets(1, 1)
    pick = p2c().pick
    for _ in range(100):
        pick(targets, ANY).in_flight += 1
    assert [target.in_flight for target in targets] == [50, 50]


def test_a_slow_target_is_tried_again_after_a_while():
    clock = FakeClock()
    fast, slow = make_targets(1, 1)
    observe(slow, 5.0, clock.now)
    pick = p2c(clock).pick
    waited = 0
    while pick((fast, slow), ANY) is fast:
        clock.advance(1)
        waited += 1
        observe(fast, 0.010, clock.now)
    assert 50 < waited < 80  # 10 s × ln(5 / 0.01)


@given(WEIGHTS, st.integers(0, 2**32))
@settings(max_examples=30)
def test_p2c_keeps_shares_where_latencies_are_alike(weights, seed):
    targets = make_targets(*weights)
    for target in targets:
        observe(target, 0.010, 1000.0)
    count = 4000
    for weight, picked in zip(weights, shares(p2c(seed=seed).pick, targets, count), strict=True):
        share = weight / sum(weights)
        if len(set(weights)) > 1:
            assert abs(picked - share * count) <= 6 * (share * (1 - share) * count) ** 0.5 + 1


def test_p2c_notices_other_candidates():
    one, two, three = make_targets(1, 5, 1)
    pick = p2c().pick
    pick((one, two, three), ANY)
    assert pick([three], ANY) is three
    assert {pick((one, three), ANY) for _ in range(20)} <= {one, three}


# -- round_robin


@given(WEIGHTS)
def test_round_robin_is_exact_over_each_turn(weights):
    targets = make_targets(*weights)
    for _ in range(3):
        assert shares(round_robin, targets, sum(weights)) == weights


def test_round_robin_is_smooth():
    a, b, c = make_targets(5, 1, 1)
    names = {id(a): "a", id(b): "b", id(c): "c"}
    assert "".join(names[id(round_robin((a, b, c)))] for _ in range(14)) == "aabacaaaabacaa"


def test_round_robin_passes_over_who_is_not_there():
    a, b, c = make_targets(1, 1, 1)
    for _ in range(7):
        round_robin((a, b, c))
    assert sorted(shares(round_robin, (a, c), 99)) == [49, 50]


# -- least_requests


@given(WEIGHTS, st.data())
def test_least_requests_picks_a_least_loaded_one(weights, data):
    targets = make_targets(*weights)
    for target in targets:
        target.in_flight = data.draw(st.integers(0, 30))
    picked = least_requests(targets, ANY)
    assert picked.in_flight / picked.weight == min(target.in_flight / target.weight for target in targets)


@given(WEIGHTS)
def test_idle_targets_take_turns_by_weight(weights):
    assert shares(least_requests, make_targets(*weights), sum(weights)) == weights


@given(WEIGHTS)
def test_what_stays_in_flight_follows_the_weights(weights):
    targets = make_targets(*weights)
    for _ in range(3 * sum(weights)):
        least_requests(targets, ANY).in_flight += 1
    assert [target.in_flight for target in targets] == [3 * weight for weight in weights]


# -- consistent_hash

CLIENTS = [make_exchange(f"192.0.{number // 250}.{number % 250}") for number in range(2000)]


def hashed(hash_on: str = "ip") -> ConsistentHash:
    """A consistent hash whose exchanges without a key go to the first candidate."""
    return ConsistentHash(key_of(hash_on), lambda candidates, _: candidates[0])


@given(st.integers(2, 12), st.integers(0, 11))
@settings(max_examples=8, deadline=None)
def test_a_new_target_moves_only_its_own_share_of_the_keys(count, place):
    targets = make_targets(*[1] * count)
    new = targets[place % count]
    before = tuple(target for target in targets if target is not new)
    pick = hashed().pick
    old = [pick(before, client) for client in CLIENTS]
    now = [pick(targets, client) for client in CLIENTS]
    moved = [after for was, after in zip(old, now, strict=True) if was is not after]
    assert all(target is new for target in moved)
    assert 0 < len(moved) <= 1.5 / count * len(CLIENTS)
    assert [pick(before, client) for client in CLIENTS] == old


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6))
@settings(max_examples=15, deadline=None)
def test_hash_shares_follow_the_weights(weights):
    targets = make_targets(*weights)
    counted = Counter(id(owner_of(slot, targets)) for slot in range(0, SLOTS, 2))
    for target in targets:
        share = target.weight / sum(weights)
        assert counted[id(target)] / (SLOTS / 2) == pytest.approx(share, rel=0.25, abs=0.02)


def test_hashing_does_not_depend_on_order_process_or_release():
    targets = make_targets(1, 1, 1, 1)
    pick = hashed().pick
    assert [pick(targets, client).ip for client in CLIENTS[:6]] == FIRST_SIX
    assert [pick(targets[::-1], client).ip for client in CLIENTS[:6]] == FIRST_SIX


FIRST_SIX = ["10.0.0.2", "10.0.0.2", "10.0.0.0", "10.0.0.3", "10.0.0.1", "10.0.0.3"]


def test_a_retry_goes_where_the_key_would_go_without_the_first_target():
    targets = make_targets(1, 1, 1, 1)
    for client in CLIENTS[:50]:
        pick = hashed().pick
        first = pick(targets, client)
        others = [target for target in targets if target is not first]
        assert pick(others, client) is pick(tuple(others), client)
        assert pick(targets, client) is first


def test_owners_are_worked_out_once(monkeypatch):
    worked_out = []

    def counted(slot, candidates):
        worked_out.append(slot)
        return owner_of(slot, candidates)

    monkeypatch.setattr("gatewayd.upstream.balancer.owner_of", counted)
    targets = make_targets(1, 1, 1)
    pick = hashed().pick
    for candidates in (targets, targets, list(targets[1:]), targets):
        pick(candidates, ANY)
    assert len(worked_out) == 2  # for the choice that stands, and for the retry


@pytest.mark.parametrize(
    ("hash_on", "headers", "key"),
    [
        ("ip", [], b"203.0.113.7"),
        ("header:X-Tenant", [(b"accept", b"*/*"), (b"x-tenant", b"acme"), (b"x-tenant", b"b")], b"acme"),
        ("header:x-tenant", [(b"x-tenant-id", b"acme")], b""),
        ("cookie:sid", [(b"cookie", b"a=b; sid=42; sid=43")], b"42"),
        ("cookie:sid", [(b"cookie", b"xsid=41"), (b"cookie", b'sid="42"')], b"42"),
        ("cookie:sid", [(b"cookie", b"xsid=41; asid=2")], b""),
        ("cookie:sid", [(b"x-cookie", b"sid=42")], b""),
        ("cookie:SID", [(b"cookie", b"sid=42")], b""),
    ],
)
def test_keys(hash_on, headers, key):
    assert key_of(hash_on)(make_exchange("203.0.113.7", *headers)) == key


@pytest.mark.parametrize("hash_on", ["", "header", "header:", "cookie:", "path", "ip:4"])
def test_unknown_keys_are_refused(hash_on):
    with pytest.raises(ValueError, match="header:<name>"):
        key_of(hash_on)


def test_exchanges_without_a_key_are_balanced_otherwise():
    targets = make_targets(1, 1, 1)
    assert hashed("header:x-tenant").pick(targets, ANY) is targets[0]


# -- all of them


@pytest.mark.parametrize("balance", ["p2c_ewma", "round_robin", "least_requests", "consistent_hash"])
@given(weights=WEIGHTS, seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_every_balancer_picks_a_candidate(balance, weights, seed):
    targets = make_targets(*weights)
    config = model.Upstream(targets=[model.Target(address="10.0.0.1:80")], balance=balance)
    pick = make_picker(config, FakeClock(), Random(seed))
    for client in CLIENTS[:20]:
        assert pick(targets, client) in targets
        assert pick(list(targets[:1]), client) is targets[0]
