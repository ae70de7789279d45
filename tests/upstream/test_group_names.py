"""Names that a group resolves, and that move."""

import asyncio

import pytest

from gatewayd.config import model
from gatewayd.config.units import Duration
from gatewayd.core.clock import FakeClock

from .build import ANY, EASILY, B, Dns, Pauses, healthy, make_group, make_upstream


def test_a_name_stands_for_all_its_addresses_and_keeps_the_targets_that_stay():
    async def run() -> None:
        dns, pauses = Dns(api=["10.0.0.2", "10.0.0.1"]), Pauses()
        joined, retired = [], []
        group = make_group(
            FakeClock(),
            make_upstream("api:80", weights=(3,)),
            resolve=dns,
            sleep=pauses.sleep,
            on_join=lambda target: joined.append(target.place),
            on_retire=lambda target: retired.append(target.place),
        )
        assert group.pick(ANY) is None
        await group.start()
        one, two = group.available
        assert [one.place, two.place] == joined == ["10.0.0.1:80", "10.0.0.2:80"]
        assert (one.address, one.host, one.weight) == ("api:80", "api", 3)
        dns.names["api"] = ["fd00::1", "10.0.0.2"]
        await pauses.step()
        await pauses.step()
        assert [target.place for target in group.available] == ["10.0.0.2:80", "[fd00::1]:80"]
        assert group.available[0] is two
        assert (retired, one.retired, one.available) == (["10.0.0.1:80"], True, False)
        del dns.names["api"]
        await pauses.step()
        assert len(group.available) == 2
        await group.stop()
        assert sorted(retired) == ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]
        assert group.pick(ANY) is None

    asyncio.run(run())


def test_an_exchange_may_end_on_a_retired_target():
    async def run() -> None:
        clock, dns, pauses = FakeClock(), Dns(api=["10.0.0.1"]), Pauses()
        config = make_upstream("api:80", B, passive_health=EASILY)
        group = make_group(clock, config, resolve=dns, sleep=pauses.sleep)
        await group.start()
        gone = group.targets[0]
        for _ in range(3):
            group.started(gone)
        dns.names["api"] = ["10.0.0.9"]
        await pauses.step()
        await pauses.step()
        for failed in (True, True, True):
            group.finished(gone, 0.1, failed, clock.now)
        assert (gone.in_flight, gone.ejected_until, len(group.available)) == (0, 0.0, 2)
        await group.stop()

    asyncio.run(run())


def test_an_address_that_turns_up_later_comes_in_by_a_slow_start():
    async def run() -> list[float]:
        dns, pauses = Dns(api=["10.0.0.1"]), Pauses()
        config = make_upstream("api:80", slow_start=Duration(10))
        group = make_group(FakeClock(), config, resolve=dns, sleep=pauses.sleep)
        await group.start()
        first = group.targets[0].share
        dns.names["api"] = ["10.0.0.1", "10.0.0.2"]
        await pauses.step()
        await pauses.step()
        shares = [first, *(target.share for target in group.targets)]
        await group.stop()
        return shares

    assert asyncio.run(run()) == pytest.approx([1, 1, 0.1])


def test_start_does_not_wait_for_a_name_that_fails_or_hangs(monkeypatch):
    monkeypatch.setattr("gatewayd.upstream.group.FIRST_ANSWER_WAIT", 0.01)

    async def run() -> list[str]:
        answered, joined = asyncio.Event(), asyncio.Event()

        async def resolve(host: str, _port: int) -> list[str]:
            if host == "broken":
                raise OSError("no such name")
            await answered.wait()
            return ["10.0.0.5"]

        config = make_upstream("broken:80", "slow:80")
        group = make_group(FakeClock(), config, resolve=resolve, on_join=lambda _: joined.set())
        await group.start()
        assert group.pick(ANY) is None
        answered.set()
        await joined.wait()
        places = [target.place for target in group.available]
        await group.stop()
        return places

    assert asyncio.run(run()) == ["10.0.0.5:80"]


def test_stop_leaves_no_task_behind():
    async def run() -> set[str]:
        active = model.ActiveHealth(path="/")
        config = make_upstream("api:80", B, active_health=active)
        group = make_group(FakeClock(), config, probe=healthy, resolve=Dns(api=["10.0.0.1"]))
        await group.start()
        assert len(asyncio.all_tasks()) == 4
        await group.stop()
        return {task.get_name() for task in asyncio.all_tasks()} - {asyncio.current_task().get_name()}

    assert asyncio.run(run()) == set()
