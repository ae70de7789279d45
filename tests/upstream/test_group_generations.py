"""Groups of one upstream that follow one another at reloads."""

import asyncio

from gatewayd.config import model
from gatewayd.config.units import Duration
from gatewayd.core.clock import FakeClock
from gatewayd.upstream.group import UpstreamGroup

from .build import ANY, EASILY, A, B, C, Dns, Pauses, eject, exchange, healthy, make_group, make_upstream, picks


def follow(old: UpstreamGroup, clock: FakeClock, config: model.Upstream, **parts) -> UpstreamGroup:
    """The group of the next generation."""
    new = make_group(clock, config, **parts)
    new.carry_over(old)
    return new


def test_a_target_that_stays_is_the_same_with_its_pool_health_and_latency():
    clock = FakeClock()
    old = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    a, b = old.targets
    a.pool, b.pool = "pool of a", "pool of b"
    exchange(old, clock, b, seconds=0.7)
    eject(old, clock, a)
    joined, retired = [], []
    new = follow(
        old,
        clock,
        make_upstream(B, A, C, weights=(5, 1, 1), passive_health=EASILY),
        on_join=lambda target: joined.append((target.address, target.pool)),
        on_retire=lambda target: retired.append(target.pool),
    )
    assert new.targets[:2] == (b, a)
    assert (b.weight, b.latency, a.available) == (5, 0.7, False)
    assert [target.address for target in new.available] == [B, C]
    assert joined[3:] == [(B, "pool of b"), (A, "pool of a")]
    assert retired == [None, None]  # the fresh ones that were made for nothing
    clock.advance(10)
    new.pick(ANY)
    assert a.available


def test_exchanges_of_the_old_generation_end_well_and_teach_the_new_one():
    clock = FakeClock()
    config = make_upstream(A, B, passive_health=EASILY, balance="round_robin")
    old = make_group(clock, config)
    a, b = old.targets
    for _ in range(3):
        old.started(a)
    new = follow(old, clock, config)
    new.started(a)
    old.finished(a, 0.4, False, clock.now)
    assert (a.in_flight, a.latency) == (3, 0.4)
    old.finished(a, 0.1, True, clock.now)
    old.finished(a, 0.1, True, clock.now)
    assert new.available == (b,)
    assert picks(old) == {B: 60}  # retries of old exchanges
    new.finished(a, 0.1, True, clock.now)
    assert a.in_flight == 0


def test_what_a_reload_adds_comes_in_by_a_slow_start():
    async def run() -> list[tuple[str, float]]:
        clock, options = FakeClock(), {"slow_start": Duration(10)}
        old = make_group(clock, make_upstream(A, **options))
        new = follow(old, clock, make_upstream(A, B, "api:80", **options), resolve=Dns(api=["10.0.0.3"]))
        await new.start()
        shares = [(target.place, target.share) for target in new.targets]
        await new.stop()
        return shares

    assert asyncio.run(run()) == [(A, 1), (B, 0.1), (C, 0.1)]


def test_only_what_the_new_generation_left_is_retired_when_the_old_one_stops():
    clock = FakeClock()
    retired = []
    config = make_upstream(A, B, balance="round_robin")
    old = make_group(clock, config, on_retire=lambda target: retired.append(target.address))
    new = follow(old, clock, make_upstream(B, C))
    assert retired == []
    assert set(picks(old)) == {A, B}
    asyncio.run(old.stop())
    assert retired == [A]
    assert [target.address for target in new.available] == [B, C]
    assert set(picks(old)) == {B}


def test_other_tls_options_mean_other_connections_but_not_other_health():
    clock = FakeClock()
    old = make_group(clock, make_upstream(A, B, passive_health=EASILY))
    a, b = old.targets
    a.pool, b.latency = "plain connections", 0.3
    eject(old, clock, a)
    new = follow(old, clock, make_upstream(A, B, passive_health=EASILY, tls=model.UpstreamTls()))
    assert not set(new.targets) & {a, b}
    assert (new.targets[0].pool, new.targets[0].ejected_until, new.targets[1].latency) == (None, 1010.0, 0.3)
    assert new.available == (new.targets[1],)
    old.started(a)
    old.finished(a, 0.1, True, clock.now)
    assert old.pick(ANY) is b


def test_a_name_that_stays_needs_no_second_answer():
    async def run() -> None:
        clock, dns, pauses = FakeClock(), Dns(api=["10.0.0.1", "10.0.0.2"]), Pauses()
        parts = {"resolve": dns, "sleep": pauses.sleep}
        old = make_group(clock, make_upstream("api:80", slow_start=Duration(10)), **parts)
        await old.start()
        new = follow(old, clock, make_upstream("api:80", slow_start=Duration(10)), **parts)
        assert new.targets == new.available == old.targets
        assert [target.share for target in new.targets] == [1, 1]
        assert new.status()["names"]["api:80"]["addresses"] == ["10.0.0.1", "10.0.0.2"]
        await new.start()
        await old.stop()
        assert new.targets == new.available == old.targets
        await new.stop()

    asyncio.run(run())


def test_carrying_over_after_start_keeps_the_old_targets_too():
    async def run() -> None:
        clock, dns, pauses = FakeClock(), Dns(api=["10.0.0.1", "10.0.0.2"]), Pauses()
        parts = {"resolve": dns, "sleep": pauses.sleep, "probe": healthy}
        config = make_upstream("api:80", active_health=model.ActiveHealth(path="/"))
        old = make_group(clock, config, **parts)
        await old.start()
        new = make_group(clock, config, **parts)
        dns.names["api"] = ["10.0.0.2", "10.0.0.3"]
        await new.start()
        new.carry_over(old)
        assert [target.place for target in new.available] == ["10.0.0.2:80", "10.0.0.3:80"]
        assert new.targets[0] is old.targets[1]
        await old.stop()
        probing = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("probe")]
        assert sorted(probing) == ["probe u 10.0.0.2:80", "probe u 10.0.0.3:80"]
        await new.stop()

    asyncio.run(run())


def test_what_probes_said_is_forgotten_when_nobody_probes_any_more():
    clock = FakeClock()
    old = make_group(clock, make_upstream(A, active_health=model.ActiveHealth(path="/")), probe=healthy)
    old.targets[0].unhealthy = True
    old._refresh()
    assert old.pick(ANY) is None
    assert follow(old, clock, make_upstream(A), probe=healthy).pick(ANY) is old.targets[0]


def test_a_breaker_of_the_same_configuration_stays_open():
    clock = FakeClock()
    breaker = model.Breaker(min_requests=1)
    old = make_group(clock, make_upstream(A, breaker=breaker))
    exchange(old, clock, old.targets[0], failed=True)
    old.budget.take(0.0, 1)
    same = follow(old, clock, make_upstream(A, breaker=breaker))
    assert not same.breaker.allow(clock.now)
    assert same.budget.retries.count == 1
    assert follow(same, clock, make_upstream(A)).breaker.allow(clock.now)
