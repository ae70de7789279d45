"""What an excess is made of, and which finding says it best."""

from __future__ import annotations

import pytest

from gatewayd.collect.contributors import contributors, explained_by, narrowed
from gatewayd.collect.finding import Finding, Subject

from .alert_store import DAY, HOUR, MONDAY, add_calls, add_hour, ground_of, opened

NOW = MONDAY + 9 * HOUR


@pytest.fixture
def ground(tmp_path):
    store = opened(tmp_path)
    ground = ground_of(store)
    yield ground
    ground.cursor.close()
    store.close()


def finding(detector, kind, name, about="", seconds=HOUR, score=1.5, observed=2.0, baseline=1.0):
    """Something found in the time before ten o'clock."""
    return Finding(detector, Subject(kind, name, about), NOW + HOUR, seconds, score, baseline, observed, "")


def named(found, kind):
    """Name, observed, baseline and share of the contributors of a kind."""
    return [tuple(each[1:]) for each in found if each.kind == kind]


def test_the_routes_of_a_consumer_that_calls_too_much(ground):
    for week in range(5):
        for route, calls in (("claims", 100), ("quotes", 100)):
            more = 800 if week == 0 and route == "claims" else 0
            add_hour(ground.cursor, NOW - 7 * week * DAY, calls + more, route=route)
    found = contributors(ground, finding("rate", "consumer", "acme"))
    assert named(found, "route") == [("claims", 900, 100, 1.0)]


def test_what_is_missing_is_shared_out_as_well(ground):
    for week in range(5):
        for consumer, calls in (("a", 100), ("b", 300)):
            add_hour(ground.cursor, NOW - 7 * week * DAY, calls if week else 0, consumer)
    found = contributors(ground, finding("rate", "route", "claims", observed=0.0))
    assert named(found, "consumer") == [("b", 0, 300, 0.75), ("a", 0, 100, 0.25)]


def test_codes_and_addresses_of_minutes(ground):
    at = NOW + HOUR - 60
    add_hour(ground.cursor, at, 50, tier="1m", s4xx=50)
    add_calls(ground.cursor, at, 40, status=403, code="forbidden", client="192.0.2.9")
    add_calls(ground.cursor, at, 10, status=401, client="192.0.2.8")
    found = contributors(ground, finding("error_burst", "consumer", "acme", "denied", 300))
    assert named(found, "code") == [("403 forbidden", 40, 0, 0.8), ("401", 10, 0, 0.2)]
    assert named(found, "address") == [(ground.veil("192.0.2.9"), 40, 0, 0.8), (ground.veil("192.0.2.8"), 10, 0, 0.2)]
    assert not any("192" in str(each) for each in found)


def test_of_an_operation_alone(ground):
    at = NOW + HOUR - 30
    add_calls(ground.cursor, at, 5, status=404)
    add_calls(ground.cursor, at, 50, operation="/v1/quotes/{id}")
    found = contributors(ground, finding("enumeration", "consumer", "acme", "/v1/claims/{id}", 60))
    assert named(found, "code") == [("404", 5, 0, 1.0)]


def test_of_an_address_behind_its_veil(ground):
    add_calls(ground.cursor, NOW + HOUR - 30, 5, consumer="a", client="192.0.2.9")
    add_calls(ground.cursor, NOW + HOUR - 30, 50, consumer="b")
    veiled = ground.veil("192.0.2.9")
    found = contributors(ground, finding("enumeration", "address", veiled, "/v1/claims/{id}", 60))
    assert named(found, "consumer") == [("a", 5, 0, 1.0)]


def test_the_places_of_a_credential(ground):
    add_calls(ground.cursor, NOW + HOUR - 300, client=["192.0.2.9", "192.0.2.8", "198.51.100.1", "2001:db8:1::1"])
    found = contributors(ground, finding("sharing", "credential", "acme/key", seconds=600))
    assert named(found, "network")[0] == (ground.veil("192.0.2"), 2, 0, 0.5)
    assert len(named(found, "network")) == 3


@pytest.mark.parametrize("detector", ["rate", "errors", "bytes", "latency", "off_hours", "quota_burn"])
def test_every_detector_by_the_hour_has_a_measure(ground, detector):
    add_hour(ground.cursor, NOW, 100, s5xx=50)
    found = contributors(
        ground, finding(detector, "consumer", "acme", seconds=DAY if detector == "quota_burn" else HOUR)
    )
    assert [each.name for each in found if each.kind == "route"] == ["claims"]


ROUTE, CONSUMER = finding("errors", "route", "claims"), finding("errors", "consumer", "acme")
ALL = finding("errors", "gateway", "")


@pytest.mark.parametrize(
    ("findings", "pairs", "explained"),
    [
        ([ROUTE, CONSUMER], {("acme", "claims"): 90, ("b", "claims"): 10}, {"route:claims"}),
        ([ROUTE, CONSUMER], {("acme", "claims"): 50, ("b", "claims"): 50}, {"consumer:acme"}),
        ([ROUTE, CONSUMER], {("acme", "quotes"): 50, ("b", "claims"): 50}, set()),
        ([ROUTE, ALL], {("acme", "claims"): 50, ("b", "claims"): 50, ("c", "quotes"): 20}, {"gateway:"}),
        ([ROUTE, ALL], {("acme", "claims"): 50, ("b", "quotes"): 50}, set()),
        ([CONSUMER, ALL], {("acme", "claims"): 50, ("acme", "quotes"): 50}, {"gateway:"}),
        ([ROUTE, CONSUMER, ALL], {("acme", "claims"): 90}, {"route:claims", "gateway:"}),
        ([ROUTE], {("", "claims"): 90}, set()),
    ],
)
def test_the_narrowest_that_explains_the_others(findings, pairs, explained):
    assert {str(each) for each in explained_by(findings, pairs)} == explained


def test_what_is_explained_opens_no_alert_but_keeps_one_open(ground):
    for consumer in ("a", "b", "c"):
        add_hour(ground.cursor, NOW, 100, consumer, s5xx=80)
    found = [finding("errors", "route", "claims"), finding("errors", "consumer", "a"), finding("errors", "gateway", "")]
    assert [each.score for each in narrowed(ground, found)] == [1.5, 0.99, 0.99]


def test_another_time_explains_nothing(ground):
    add_hour(ground.cursor, NOW, 100, "a", s5xx=80)
    found = [finding("errors", "route", "claims"), finding("errors", "consumer", "a")._replace(at=NOW)]
    assert narrowed(ground, found) == found
