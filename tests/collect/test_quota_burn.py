"""Quotas that will not last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.collect.quota_burn import demand_of, exhausted_at, quota_burn, quotas, score_of
from gatewayd.config.alerts import QuotaBurn
from gatewayd.config.model import Document, Plan, Route

from .alert_store import DAY, HOUR, MONDAY, add_calls, add_hours, ground_of, opened

MARCH = MONDAY - DAY  # the 1st is a Sunday
NOW = MARCH + 5 * DAY


def document(**options):
    """A quota `monthly` on the route claims, and one on the plan `gold` for all routes."""
    return Document(
        routes={"claims": Route(path="/c", policies=["monthly"]), "quotes": Route(path="/q")},
        plans={"gold": Plan(policies=["golden"])},
        policies={
            "monthly": {"policy": "quota", "limit": 10_000, **options},
            "golden": {"policy": "quota", "limit": 500_000, "weights": {"quotes": 10}},
        },
    )


def burnt(tmp_path, calls, plan="", hour=NOW - HOUR, refused=0, route="claims"):
    """What is found of a consumer that made so many calls in every hour of March."""
    store = opened(tmp_path)
    ground = ground_of(store, document())
    add_hours(ground.cursor, dict.fromkeys(range(MARCH, NOW, HOUR), calls), route=route)
    add_calls(ground.cursor, hour + 5, plan=plan)
    if refused:
        add_calls(ground.cursor, hour + 6, refused, code="quota_exceeded", verdicts="other:observed monthly:refused")
    found = quota_burn(ground, hour, quotas(ground.document))
    ground.cursor.close()
    store.close()
    return found


@pytest.mark.parametrize(("calls", "found"), [(13, []), (14, []), (25, ["consumer:acme monthly"])])
def test_a_quota_that_will_not_last(tmp_path, calls, found):
    """13 calls an hour last for a month; of 14 and less nothing is said before a quarter is used."""
    assert [str(each.subject) for each in burnt(tmp_path, calls)] == found


def test_what_is_said_of_it(tmp_path):
    (found,) = burnt(tmp_path, 50)
    assert found.text == (
        "consumer acme has used 6,000 of the 10,000 calls of monthly, and as things go the rest by "
        "2026-03-09 08:00 UTC; the month ends 2026-04-01 00:00 UTC"
    )
    assert (found.detector, found.observed, found.severity) == ("quota_burn", 0.6, "critical")


def test_plans_and_weights_count(tmp_path):
    assert burnt(tmp_path, 120, plan="gold", route="quotes")[0].subject.about == "golden"


def test_other_routes_use_nothing(tmp_path):
    assert burnt(tmp_path, 500, route="quotes") == []


def test_a_quota_that_refuses_is_told_of_at_once(tmp_path):
    (found,) = burnt(tmp_path, 1, refused=7)
    assert found.text.startswith("consumer acme has used up monthly: 7 calls were refused within an hour")
    assert found.severity == "critical"


@pytest.mark.parametrize("options", [{"per": "hour"}, {"key": "address"}, {"key": ["consumer", "route"]}])
def test_what_is_not_watched(options):
    assert [each.instance for each in quotas(document(**options))] == ["golden"]


def test_what_is_watched():
    monthly, golden = quotas(
        document(key=["consumer"], per="day", starts="2026-01-01T06:00", time_zone="Europe/Berlin")
    )
    assert monthly.of_plan("") == {"claims": 1}
    assert monthly.of_plan("gold") == {"claims": 1}
    assert golden.of_plan("") == golden.of_plan("unheard of") == {}
    assert golden.of_plan("gold") == {"claims": 1, "quotes": 10}
    assert monthly.calendar.period(NOW).end - monthly.calendar.period(NOW).start == DAY


@given(st.floats(1, 1e6), st.floats(0, 1e6), st.floats(0.1, 1e4), st.integers(1, 800))
def test_a_steady_demand_ends_where_it_must(limit, used, each, hours):
    found = exhausted_at(limit, used, MONDAY, MONDAY + hours * HOUR, lambda _: each)
    if found is None:
        assert used + each * hours < limit * (1 + 1e-6)
    else:
        assert used + each * (found - MONDAY) / HOUR >= limit * (1 - 1e-6)
        assert MONDAY <= found <= MONDAY + hours * HOUR


def test_demand_goes_on_as_weeks_do():
    """Working days alone; and twice of it since yesterday."""
    hours = {MONDAY + day * DAY + 9 * HOUR: 100.0 for day in range(-28, 0) if day % 7 < 5}
    demand = demand_of(hours, MONDAY + DAY)
    assert demand(MONDAY + DAY + 9 * HOUR) == 0  # none came today
    demand = demand_of({**hours, MONDAY + 9 * HOUR: 200.0}, MONDAY + DAY)
    assert demand(MONDAY + DAY + 9 * HOUR) == pytest.approx(200, rel=0.05)
    assert demand(MONDAY + 5 * DAY + 9 * HOUR) == demand(MONDAY + DAY) == 0


def test_without_much_past_hours_are_alike():
    assert demand_of({MONDAY: 240.0}, MONDAY + HOUR)(MONDAY + 99 * HOUR) == 10
    assert demand_of({}, MONDAY)(MONDAY) == 0


@pytest.mark.parametrize(("part", "enough"), [(0.1, True), (0.85, True), (0.86, False), (1.0, False)])
def test_scores(part, enough):
    assert (score_of(part, QuotaBurn()) >= 1) is enough
    assert score_of(0.425, QuotaBurn()) == pytest.approx(2)
