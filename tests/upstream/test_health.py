"""Passive ejection, active probes, slow start."""

import asyncio
import logging
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import model
from gatewayd.config.units import Duration
from gatewayd.core.tasks import spawn
from gatewayd.errors import UpstreamError
from gatewayd.upstream.health import Ejector, Prober, ramped_share

from .build import Pauses, make_targets


def ejector(**options) -> Ejector:
    """An ejector that needs two failures in a row."""
    return Ejector("u", model.PassiveHealth(failures=2, **options))


# -- passive


@pytest.mark.parametrize(
    ("targets", "share", "limit"),
    [
        (1, 0.5, 0), (1, 1.0, 0), (2, 0.5, 1), (2, 0.1, 1), (2, 1.0, 1), (2, 0.0, 0), (3, 0.5, 1),
        (4, 0.5, 2), (5, 0.5, 2), (9, 0.1, 1), (10, 1.0, 9), (10, 0.3, 3), (30, 0.1, 3), (0, 0.5, 0),
    ],
)  # fmt: skip
def test_how_many_may_rest(targets, share, limit):
    assert ejector(max_ejected=share).limit(targets) == limit
    assert ejector(max_ejected=share, enabled=False).limit(targets) == 0


def fail(health: Ejector, target, targets, now: float) -> bool:
    """One failure."""
    ejected = health.failed(target, targets, now)
    target.available = not target.ejected_until
    return ejected


def test_failures_in_a_row_eject():
    targets = make_targets(1, 1)
    health = ejector()
    assert [fail(health, targets[0], targets, 100.0) for _ in range(2)] == [False, True]
    assert (targets[0].ejected_until, targets[0].ejections) == (110.0, 1)
    health.release(targets, 109.9)
    assert targets[0].ejected_until
    health.release(targets, 110.0)
    assert not targets[0].ejected_until


def test_passive_health_that_is_off_ejects_nobody():
    targets = make_targets(1, 1, 1)
    health = ejector(enabled=False)
    assert not any(fail(health, targets[0], targets, 100.0) for _ in range(20))


def test_the_last_that_serves_is_not_ejected():
    targets = make_targets(1, 1, 1)
    targets[1].available = targets[2].available = False
    assert not any(fail(ejector(max_ejected=1.0), targets[0], targets, 100.0) for _ in range(20))


def test_one_who_comes_back_is_on_probation_and_rests_twice_as_long_each_time():
    targets = make_targets(1, 1)
    target = targets[0]
    health = ejector()
    now, rests = 100.0, []
    fail(health, target, targets, now)
    for _ in range(6):
        assert fail(health, target, targets, now)
        rests.append(target.rested)
        now = target.ejected_until
        health.release(targets, now)
        assert target.latency == 0.0
    assert rests == [10, 20, 40, 80, 100, 100]


def test_a_success_ends_the_probation():
    targets = make_targets(1, 1)
    health = ejector()
    assert [fail(health, targets[0], targets, 100.0) for _ in range(2)] == [False, True]
    health.release(targets, 110.0)
    targets[0].failures_in_row = 0
    assert [fail(health, targets[0], targets, 112.0) for _ in range(2)] == [False, True]
    assert targets[0].rested == 20


def test_one_who_stayed_as_long_as_it_rested_starts_over():
    targets = make_targets(1, 1)
    health = ejector()
    for _ in range(2):
        fail(health, targets[0], targets, 100.0)
    health.release(targets, 110.0)
    assert fail(health, targets[0], targets, 120.5)
    assert targets[0].rested == 10


def test_if_fewer_targets_remain_those_beyond_the_limit_come_back_first_ejected_first():
    targets = make_targets(1, 1, 1, 1)
    health = ejector()
    for now, target in ((100.0, targets[0]), (101.0, targets[1])):
        for _ in range(2):
            fail(health, target, targets, now)
    assert [bool(target.ejected_until) for target in targets] == [True, True, False, False]
    health.release(targets[:3], 102.0)
    assert [bool(target.ejected_until) for target in targets] == [False, True, False, False]


def test_if_probes_take_the_rest_out_the_ejected_come_back():
    targets = make_targets(1, 1)
    health = ejector()
    for _ in range(2):
        fail(health, targets[0], targets, 100.0)
    targets[1].unhealthy = True
    health.release(targets, 101.0)
    assert not targets[0].ejected_until


# -- active


class Answers:
    """A probe that gives prepared answers."""

    def __init__(self, *answers: int | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self, target, config) -> int:
        """The next answer; 200 when there are no more."""
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return answer


def probed(*answers, config: model.ActiveHealth | None = None, unhealthy: bool = False) -> list[bool]:
    """Whether the target was unhealthy after each of these answers."""

    async def run() -> list[bool]:
        (target,) = make_targets(1)
        target.unhealthy = unhealthy
        pauses, seen, changes = Pauses(), [], []
        active = config or model.ActiveHealth(path="/health", unhealthy_after=3, healthy_after=2)
        prober = Prober(
            "u",
            target,
            active,
            Answers(*answers),
            lambda: changes.append(target.unhealthy),
            Random(1),
            pauses.sleep,
        )
        task = spawn(prober.run(), "under test")
        await pauses.step()
        for _ in answers:
            await pauses.step()
            seen.append(target.unhealthy)
        task.cancel()
        flips = [now for was, now in zip([unhealthy, *seen], seen, strict=False) if was != now]
        assert changes == flips
        return seen

    return asyncio.run(run())


BAD = (500, OSError("refused"), UpstreamError(502, "closed"), TimeoutError(), ValueError("broken probe"))


@pytest.mark.parametrize("bad", BAD)
def test_failures_in_a_row_make_unhealthy(bad):
    assert probed(bad, bad, bad, bad) == [False, False, True, True]


def test_a_good_answer_in_between_starts_the_count_over():
    assert probed(500, 500, 204, 500, 500, 500) == [False, False, False, False, False, True]


def test_good_answers_in_a_row_make_healthy():
    assert probed(200, 500, 200, 200, 200, unhealthy=True) == [True, True, True, False, False]


def test_which_statuses_are_good_is_configured():
    config = model.ActiveHealth(path="/", statuses=[418], unhealthy_after=1, healthy_after=1)
    assert probed(200, 418, 200, config=config) == [True, False, True]


def test_a_probe_that_takes_too_long_is_given_up():
    async def forever(_target, _config) -> int:
        await asyncio.Event().wait()
        return 200

    async def run() -> bool:
        (target,) = make_targets(1)
        pauses = Pauses()
        active = model.ActiveHealth(path="/", timeout=Duration(0.01), unhealthy_after=1)
        prober = Prober("u", target, active, forever, lambda: None, Random(1), pauses.sleep)
        task = spawn(prober.run(), "under test")
        await pauses.step()
        await pauses.step()
        task.cancel()
        return target.unhealthy

    assert asyncio.run(run())


def test_probes_start_at_random_and_keep_near_the_interval():
    async def run() -> tuple[list[float], list[float]]:
        firsts, later = [], []
        for seed in range(20):
            pauses = Pauses()
            active = model.ActiveHealth(path="/", interval=Duration(5))
            target = make_targets(1)[0]
            prober = Prober("u", target, active, Answers(), lambda: None, Random(seed), pauses.sleep)
            task = spawn(prober.run(), "under test")
            firsts += await pauses.step()
            later += await pauses.step() + await pauses.step()
            task.cancel()
        return firsts, later

    firsts, later = asyncio.run(run())
    assert all(0 <= pause <= 5 for pause in firsts)
    assert max(firsts) - min(firsts) > 2.5
    assert all(4.5 <= pause <= 5.5 for pause in later)


def test_changes_are_logged_with_their_cause(caplog):
    with caplog.at_level(logging.INFO):
        probed(503, 503, UpstreamError(502, "closed"), 200, 200)
    assert [record.getMessage() for record in caplog.records] == [
        "upstream u: target 10.0.0.0:80 unhealthy: 502 closed",
        "upstream u: target 10.0.0.0:80 healthy again",
    ]


# -- slow start


@given(st.integers(1, 100), st.floats(0.1, 600), st.floats(0, 1))
def test_the_share_grows_in_a_line_from_a_tenth(weight, seconds, part):
    (target,) = make_targets(weight)
    target.ramp_from = 50.0
    share = ramped_share(target, seconds, 50.0 + part * seconds)
    assert share == pytest.approx(weight * (0.1 + 0.9 * part))


def test_a_slow_start_ends():
    (target,) = make_targets(4)
    target.ramp_from = 50.0
    assert ramped_share(target, 10.0, 60.0) == 4.0
    assert target.ramp_from == 0.0
