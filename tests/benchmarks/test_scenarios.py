"""The scenarios that need more than paired rounds, small."""

from __future__ import annotations

import pytest

from benchmarks import crowds, startup
from benchmarks.harness import Harness, Options
from benchmarks.machine import prepare
from benchmarks.scenarios import all_scenarios

prepare()
QUICK = Options(peers=(), rounds=1, seconds=1, quick=True)


@pytest.fixture
def harness():
    with Harness(QUICK) as found:
        yield found


def nothing() -> None:
    """No progress bar."""


def test_every_scenario_has_a_name_and_a_title():
    found = all_scenarios(1234.0)
    named = {
        "bare",
        "policies",
        "post",
        "large",
        "tls",
        "routes",
        "slow",
        "openloop",
        "workers",
        "keyed",
        "jwt",
        "cached",
        "limited",
        "limit-cost",
        "audited",
        "idle",
        "memory",
        "start",
    }
    assert set(found) == named
    assert "1,234 requests/s" in found["openloop"].title


@pytest.mark.process
def test_idle_connections_are_held_and_weighed(harness, monkeypatch):
    monkeypatch.setattr(crowds, "IDLE_CONNECTIONS", 300)
    found = crowds.idle(harness, nothing)
    assert found["idle"]["gatewayd"]["open"] == found["idle"]["gatewayd"]["open_afterwards"] == 300
    assert found["gatewayd"]["requests"] > 0
    assert found["checks"][0]["measured"] is not None


@pytest.mark.process
def test_slow_callers_are_measured(harness, monkeypatch):
    monkeypatch.setattr(crowds, "READERS", 5)
    monkeypatch.setattr(crowds, "SLOW_SENDERS", 20)
    monkeypatch.setattr(crowds, "SLOW_READERS", 5)
    monkeypatch.setattr(crowds, "SETTLE", 0.2)
    found = crowds.slow(harness, nothing)
    assert found["gatewayd"]["slow_readers"]["readers"] == found["gatewayd"]["slow_readers"]["readers_left"] == 5
    assert found["gatewayd"]["slow_readers"]["read_mib"] > 0
    assert found["gatewayd"]["slow_neighbours"]["p99_ratio"] > 0
    assert found["remarks"] == [] or "late" in found["remarks"][0]


@pytest.mark.process
def test_starts_are_timed_by_the_first_byte(harness):
    found = startup.start(harness, nothing)
    assert 0 < found["gatewayd"]["start_s"] < 20
    assert found["workers"] == 2


def test_nobody_answers_where_nobody_is():
    from benchmarks.processes import free_port

    assert startup.answers(free_port()) is False


def test_an_error_is_no_answer(server):
    assert startup.answers(server.port) is True
