"""The scenarios that ask what proof of every call costs: small."""

from __future__ import annotations

import pytest

from benchmarks import evidence, regulated
from benchmarks.credentials import make_consumers
from benchmarks.figures import Round
from benchmarks.generator import Outcome
from benchmarks.harness import Harness, Options
from benchmarks.machine import prepare
from benchmarks.proxies import KINDS

prepare()
NGINX = pytest.mark.skipif(bool(KINDS["nginx"].missing()), reason="nginx is not installed")


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.setattr(regulated, "ROUTES", 20)
    monkeypatch.setattr(evidence, "ROUTES", 20)
    monkeypatch.setattr(regulated, "make_consumers", lambda folder: make_consumers(folder, 50))
    with Harness(Options(peers=("nginx",), rounds=1, seconds=1, quick=True)) as found:
        yield found


@pytest.mark.process
@NGINX
def test_audited(harness):
    found = evidence.audited(harness, lambda: None)
    assert set(found["peers"]) == {"gatewayd-unrecorded", "gatewayd-strict", "nginx", "nginx-bare"}
    assert all(each["failed"] == 0 for each in [found["gatewayd"], *found["peers"].values()])
    assert found["collector_us"] is not None
    assert [each["what"] for each in found["checks"]] == [
        "µs of a record",
        "cpu_ratio to nginx",
        "requests a core serves, to those of a bare nginx, by CPU",
    ]


def test_what_runs_beside_is_told_for_each_request():
    outcome = Outcome(1000, 1.0, 1000.0, {})
    rounds = [Round(outcome, 1, 1.0, aside_ns=2_000_000), Round(outcome, 1, 1.0, aside_ns=4_000_000)]
    assert evidence._aside(rounds) == 3.0
    assert evidence._aside([]) is None
