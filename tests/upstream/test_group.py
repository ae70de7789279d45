"""The group: who may serve, and what exchanges and probes teach it."""

import asyncio
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.config import model
from gatewayd.config.units import Duration
from gatewayd.core.clock import FakeClock

from .build import ANY, EASILY, A, B, C, Dns, Pauses, eject, exchange, healthy, make_group, make_upstream, picks

NO_BREAKER = model.Breaker(enabled=False)


# -- picking


def test_literal_addresses_serve_at_once():
    group = make_group(FakeClock(), make_upstream(A, "[::1]:81", "unix:/run/app.sock"))
    assert [(t.place, t.ip, t.port, t.path) for t in group.targets] == [
        ("10.0.0.1:80", "10.0.0.1", 80, ""),
        ("[::1]:81", "::1", 81, ""),
        ("/run/app.sock", "", 0, "/run/app.sock"),
    ]
    assert group.available == group.targets


def test_a_lone_target_is_picked_even_if_it_was_tried():
    group = make_group(FakeClock(), make_upstream(A))
    (target,) = group.targets
    assert group.pick(ANY) is target
    assert group.pick(ANY, (target,)) is target


@pytest.mark.parametrize("balance", ["p2c_ewma", "round_robin", "least_requests", "consistent_hash"])
def test_tried_targets_come_last(balance):
    group = make_group(FakeClock(), make_upstream(A, B, C, balance=balance))
    a, b, c = group.targets
    for _ in range(10):
        assert group.pick(ANY, (a, b)) is c
        assert group.pick(ANY, (a,)) in (b, c)
        assert group.pick(ANY, (a, b, c)) in (a, b, c)


def test_a_drained_target_gets_nothing():
    group = make_group(FakeClock(), make_upstream(A, B, weights=(0, 1)))
    assert set(picks(group)) == {B}
    assert make_group(FakeClock(), make_upstream(A, weights=(0,))).pick(ANY) is None


def test_an_address_that_stands_there_twice_is_one_target_of_their_weight():
    group = make_group(FakeClock(), make_upstream(A, B, A, weights=(1, 1, 2)))
    assert [(target.address, target.weight) for target in group.targets] == [(A, 3), (B, 1)]


def test_what_the_check_refuses_is_an_error():
    with pytest.raises(ValueError, match="port"):
        make_group(FakeClock(), make_upstream("10.0.0.1"))


# -- what exchanges teach


def test_exchanges_are_counted_and_timed():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A))
    (target,) = group.targets
    group.started(target)
    group.started(target)
    assert (target.in_flight, target.requests) == (2, 2)
    group.finished(target, 0.25, False, clock.now)
    assert (target.in_flight, target.latency, target.failures) == (1, 0.25, 0)
    group.finished(target, 0.01, True, clock.now)
    assert (target.in_flight, target.failures) == (0, 1)


def test_refusing_at_once_does_not_look_fast():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B))
    broken, sound = group.targets
    exchange(group, clock, broken, failed=True, seconds=0.0001)
    exchange(group, clock, sound, seconds=0.02)
    assert picks(group) == {B: 60}


def test_failures_weigh_more_each_time_but_not_without_end():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A))
    (target,) = group.targets
    latencies = []
    for _ in range(12):
        exchange(group, clock, target, failed=True, seconds=0.001)
        latencies.append(target.latency)
    assert latencies[:4] == [0.1, 0.2, 0.4, 0.8]
    assert latencies[-1] == 60


def test_a_caller_that_leaves_only_says_that_it_takes_at_least_so_long():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    target = group.targets[0]
    exchange(group, clock, target, seconds=0.5)
    exchange(group, clock, target, failed=True, seconds=0.5)
    for seconds, latency in ((0.1, 1.0), (3.0, 3.0)):
        clock.advance(5)
        group.started(target)
        group.abandoned(target, seconds, clock.now)
        assert (target.in_flight, target.latency, target.failures_in_row) == (0, latency, 1)


def test_the_breaker_and_the_budget_hear_of_every_attempt():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, breaker=model.Breaker(min_requests=4)))
    (target,) = group.targets
    for failed in (False, False, True, True):
        assert group.breaker.allow(clock.now)
        exchange(group, clock, target, failed)
    assert not group.breaker.allow(clock.now)
    assert group.budget.attempts.total(clock.now) == 4


def test_the_breaker_counts_exchanges_not_attempts():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, breaker=model.Breaker(min_requests=4)))
    a, b = group.targets
    for _ in range(50):
        group.started(a)
        group.finished(a, 0.01, True, clock.now, retried=True)
        exchange(group, clock, b)
    assert group.breaker.closed
    assert group.budget.attempts.total(clock.now) == 100
    assert not a.available


def test_late_failures_of_a_target_that_rests_do_not_open_the_breaker():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY, breaker=model.Breaker(min_requests=4)))
    a = group.targets[0]
    for _ in range(50):
        group.started(a)
    for _ in range(50):
        group.finished(a, 0.01, True, clock.now)
    assert not a.available
    assert group.breaker.closed


# -- passive health


def test_an_ejected_target_rests_and_comes_back():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    a, b = group.targets
    eject(group, clock, a)
    assert group.available == (b,)
    assert picks(group) == {B: 60}
    clock.advance(10)
    assert A in picks(group)
    assert group.available == (a, b)


def test_a_finished_exchange_also_notices_that_an_ejection_is_over():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    a, b = group.targets
    eject(group, clock, a)
    clock.advance(10)
    exchange(group, clock, b)
    assert group.available == (a, b)


def test_successes_in_between_prevent_an_ejection():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY, breaker=NO_BREAKER))
    a, _ = group.targets
    for _ in range(10):
        exchange(group, clock, a, failed=True)
        exchange(group, clock, a)
    assert a.available


def test_a_lone_target_is_never_ejected():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, passive_health=EASILY))
    for _ in range(50):
        exchange(group, clock, group.targets[0], failed=True)
    assert group.pick(ANY) is group.targets[0]


EVENTS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["good", "bad", "bad", "bad", "wait", "sick", "well"])),
    max_size=80,
)


@given(st.integers(1, 6), st.floats(0, 1), EVENTS)
@settings(deadline=None)
def test_ejection_never_exceeds_its_share_nor_empties_the_upstream(count, share, events):
    clock = FakeClock()
    passive = model.PassiveHealth(failures=2, max_ejected=share)
    addresses = [f"10.0.0.{number}:80" for number in range(count)]
    active = model.ActiveHealth(path="/")
    config = make_upstream(*addresses, passive_health=passive, breaker=NO_BREAKER, active_health=active)
    group = make_group(clock, config, probe=healthy)
    most = min(count - 1, max(1, int(count * share + 1e-9))) if share and count > 1 else 0
    for number, event in events:
        target = group.targets[number % count]
        if event == "wait":
            clock.advance(7)
            group.pick(ANY)
        elif event in ("sick", "well"):
            target.unhealthy = event == "sick"
            group._refresh()
        else:
            exchange(group, clock, target, failed=event == "bad")
        assert sum(1 for each in group.targets if each.ejected_until) <= most
        assert group.available == tuple(each for each in group.targets if each.available)
        assert (group.pick(ANY) is None) == all(each.unhealthy for each in group.targets)


# -- active health


def test_probes_take_targets_out_and_none_left_means_none_picked():
    async def run() -> list[int]:
        sick: set[str] = set()

        async def probe(target, config) -> int:
            assert config.path == "/health"
            return 500 if target.address in sick else 200

        pauses = Pauses()
        active = model.ActiveHealth(path="/health", unhealthy_after=1, healthy_after=1)
        config = make_upstream(A, B, active_health=active, balance="round_robin")
        group = make_group(FakeClock(), config, probe=probe, sleep=pauses.sleep)
        await group.start()
        await pauses.step(2)
        available = []
        for sick_now in ({A}, {A, B}, {B}, set()):
            sick.clear()
            sick |= sick_now
            await pauses.step(2)
            available.append(len(group.available))
            assert {target.address for target in group.available} == {A, B} - sick_now
            assert set(picks(group)) == {A, B} - sick_now
        await group.stop()
        return available

    assert asyncio.run(run()) == [1, 0, 1, 2]


@pytest.mark.parametrize(("path", "probe"), [("", healthy), ("/health", None)])
def test_without_a_path_or_a_probe_nothing_is_probed(path, probe):
    async def run() -> set[str]:
        group = make_group(FakeClock(), make_upstream(A, active_health=model.ActiveHealth(path=path)), probe=probe)
        await group.start()
        names = {task.get_name() for task in asyncio.all_tasks()}
        await group.stop()
        return names

    assert not any(name.startswith("probe") for name in asyncio.run(run()))


# -- slow start


def test_a_target_that_comes_back_is_loaded_slowly_and_one_at_start_is_not():
    clock = FakeClock()
    options = {"passive_health": EASILY, "slow_start": Duration(100), "balance": "round_robin"}
    group = make_group(clock, make_upstream(A, B, **options))
    a, b = group.targets
    assert (a.share, b.share) == (1, 1)
    eject(group, clock, a)
    clock.advance(10)
    group.pick(ANY)
    assert a.share == pytest.approx(0.1)
    assert picks(group, 110)[A] == 10
    clock.advance(50)
    group.pick(ANY)
    assert a.share == pytest.approx(0.55)
    clock.advance(50)
    group.pick(ANY)
    assert a.share == 1
    assert b.share == 1


def test_a_changed_share_makes_a_new_choice_for_balancers_that_remember_theirs():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY, slow_start=Duration(100)))
    eject(group, clock, group.targets[0])
    clock.advance(10)
    group.pick(ANY)
    before = group.available
    group.pick(ANY)
    assert group.available is before
    clock.advance(50)
    group.pick(ANY)
    assert group.available == before
    assert group.available is not before


def test_a_single_target_in_slow_start_gets_everything():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY, slow_start=Duration(100)))
    a, b = group.targets
    eject(group, clock, a)
    clock.advance(10)
    eject(group, clock, b)
    assert picks(group) == {A: 60}


# -- status


def test_status():
    async def run() -> dict[str, object]:
        clock = FakeClock()
        config = make_upstream("api:80", B, passive_health=EASILY, active_health=model.ActiveHealth(path="/"))
        group = make_group(clock, config, probe=healthy, resolve=Dns(api=["10.0.0.1"]))
        await group.start()
        eject(group, clock, group.targets[0])
        clock.advance(4)
        status = group.status()
        await group.stop()
        return status

    status = asyncio.run(run())
    first, second = status["targets"]
    assert (first["place"], first["available"], first["failures"], first["ejected_for"]) == (
        "10.0.0.1:80",
        False,
        2,
        6,
    )
    assert (second["available"], second["probe"]) == (True, "healthy")
    assert status["balance"] == "p2c_ewma"
    assert status["breaker"] == {"state": "closed", "opened": 0, "requests": 2, "failures": 2}
    assert status["budget"] == {"attempts": 2, "retries": 0, "retries_total": 0, "refused_total": 0}
    assert status["names"] == {"api:80": {"addresses": ["10.0.0.1"], "failures": 0}}


def test_status_is_true_without_traffic():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    eject(group, clock, group.targets[0])
    clock.advance(11)
    assert [target["available"] for target in group.status()["targets"]] == [True, True]


def test_repr():
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    eject(group, clock, group.targets[0])
    assert repr(group) == "<UpstreamGroup u 1 of 2 available>"


def test_ejections_are_logged(caplog):
    clock = FakeClock()
    group = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    with caplog.at_level(logging.INFO):
        eject(group, clock, group.targets[0])
        clock.advance(10)
        group.pick(ANY)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "upstream u: target 10.0.0.1:80 ejected for 10 s after 2 failures in a row"),
        ("INFO", "upstream u: target 10.0.0.1:80 back after its ejection"),
    ]
