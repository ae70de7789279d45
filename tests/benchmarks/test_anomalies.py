"""Alerts on made-up months: a smaller world than the published ones, and floors below what it measures."""

from __future__ import annotations

import pytest

from benchmarks.anomalies import precision, recall, run, table
from benchmarks.faults import EXPECTED, Fault
from gatewayd.collect.alert_book import Alert

pytestmark = pytest.mark.timeout(900)  # a minute where nothing else runs

SMALL = {"weeks": 5, "consumers_wanted": 50, "routes_wanted": 12, "calls": 2_000}


@pytest.fixture(scope="module")
def outcome():
    """Five weeks, the last days of them watched, of 50 consumers on 12 routes."""
    return run(7, 1, watched=5, learned=7, **SMALL)


def test_strong_faults_are_found_all_of_them(outcome):
    assert recall([outcome], least=2) == 1.0


def test_most_faults_are_found(outcome):
    assert recall([outcome]) >= 0.65
    assert recall([outcome], least=1) >= 0.85


def test_most_alerts_are_right(outcome):
    assert len(outcome.alerts) >= 20
    assert precision([outcome]) >= 0.9


def test_where_nothing_is_wrong_nothing_is_said():
    outcome = run(7, 1, faulty=False, watched=3, learned=7, **SMALL)
    assert [alert.text for alert in outcome.alerts] == []


def test_faults_are_of_many_kinds(outcome):
    assert len({fault.kind for fault in outcome.faults}) >= 7


def test_the_table_names_all_that_was_measured(outcome):
    text = "\n".join(table([outcome]))
    assert all(f"| {kind} |" in text for kind in EXPECTED)
    assert f"| all | {len(outcome.alerts)} | {sum(outcome.right)} |" in text


def test_an_alert_is_right_about_the_same_subject_at_the_same_time():
    fault = Fault("rate spike", 0, 1_000_000, 1_003_600, subjects={"consumer:a", "route:r"}, main={"consumer:a"})
    alert = Alert("1", 1_000_100, "rate", "consumer:a", "warning", "", 0, 0, (), 1_003_000)
    span = (alert.at, alert.resolved_at)
    assert fault.found("rate", "consumer:a", *span)
    assert not fault.found("latency", "consumer:a", *span)
    assert not fault.found("rate", "route:r", *span)
    assert fault.right("route:r", *span)
    assert not fault.right("consumer:b", *span)
    assert not fault.right("consumer:a", 1_100_000, 1_200_000)
    assert not fault.right("consumer:a", 900_000, 999_999)
