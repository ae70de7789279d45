"""Medians, spreads, ratios: nothing that was not measured becomes a figure."""

from __future__ import annotations

import pytest

from benchmarks import histogram
from benchmarks.figures import Comparison, Round, check, figures, ratio, ratios, remarks, result
from benchmarks.generator import Outcome
from benchmarks.processes import Memory


def a_round(cpu_us: float, requests: int = 1000, p99: float = 2.0, **more) -> Round:
    """A second with that many CPU microseconds for each request."""
    latency = {"p50_ms": 1.0, "p90_ms": 1.5, "p99_ms": p99, "p999_ms": 3.0, "max_ms": 4.0}
    outcome = Outcome(requests, 1.0, float(requests), latency, **more)
    return Round(outcome, cpu_ns=int(cpu_us * requests * 1000), seconds=1.0)


def test_figures_are_medians_with_their_spread():
    found = figures([a_round(30), a_round(90), a_round(40)], Memory(30 * 2**20, 90 * 2**20, 60 * 2**20))
    assert found["cpu_us_per_request"] == 40
    assert found["cpu_us_spread"] == [30, 90]
    assert (found["rss_mib"], found["tree_rss_mib"], found["tree_pss_mib"]) == (30, 90, 60)
    assert found["requests"] == 3000


def test_ratios_are_of_pairs_not_of_medians():
    """While the machine slowed down both sides alike, the pairs' ratio stands still."""
    pairs = [(a_round(30), a_round(20)), (a_round(90), a_round(60)), (a_round(45), a_round(30))]
    found = ratios(pairs)
    assert found["cpu_ratio"] == 1.5
    assert found["cpu_ratio_spread"] == [1.5, 1.5]
    assert found["cpu_us_pairs"] == [[30, 20], [90, 60], [45, 30]]


def test_rounds_without_replies_give_no_figure():
    empty = a_round(0, requests=0)
    found = figures([empty])
    assert found["cpu_us_per_request"] is None
    assert ratios([(empty, a_round(20))])["cpu_ratio"] is None
    assert ratio(1.0, 0.0) is None


def test_percentiles_of_rounds_with_histograms_are_merged():
    calm = histogram.encode(histogram.from_counts({1000: 999}))
    rough = histogram.encode(histogram.from_counts({80_000: 1}))
    found = figures([a_round(30, histogram=calm), a_round(30, histogram=rough)])
    assert found["p50_ms"] == 1.0
    assert found["max_ms"] > 79
    assert found["latency_curve"][-1][1] > 79


def test_failures_are_counted_and_their_rounds_flagged():
    rounds = [a_round(30), a_round(30, errors={"status": 3, "read": 1}), a_round(30)]
    found = figures(rounds)
    assert (found["failed"], found["rounds_with_errors"]) == (4, 1)
    assert found["errors"] == {"status": 3, "read": 1}
    comparison = Comparison("gatewayd", {"nginx": [(one, a_round(20)) for one in rounds]})
    assert remarks(comparison) == ["gatewayd: 1 of 3 rounds had errors (status 3, read 1)"]


def test_a_process_that_ended_is_a_failure():
    died = Round(a_round(30).outcome, 30_000_000, 1.0, ended=1)
    assert figures([died])["errors"] == {"process_ended": 1}


def test_a_late_generator_is_pointed_out():
    late = a_round(30, late_p99_ms=1.0)
    said = remarks(Comparison("gatewayd", {"nginx": [(late, a_round(20, late_p99_ms=0.01))]}))
    assert said == ["gatewayd: the generator itself was late by 1.0 ms (p99), which is in the latencies shown"]


def test_a_result_has_what_its_readers_expect():
    comparison = Comparison("gatewayd", {"nginx": [(a_round(30), a_round(20))]})
    comparison.memory = {"gatewayd": Memory(2**20, 2**21, 2**21), "nginx": Memory(2**20, 2**21, 2**21)}
    found = result("bare", comparison, 1)
    assert (found["scenario"], found["rounds"]) == ("bare", 1)
    assert {"cpu_us_per_request", "requests_per_second", "p99_ms", "rss_mib"} <= found["gatewayd"].keys()
    assert found["peers"]["nginx"]["cpu_ratio"] == 1.5


def test_comparisons_add_up():
    one = Comparison("gatewayd", {"nginx": [(a_round(30), a_round(20))]})
    one.add(Comparison("gatewayd", {"nginx": [(a_round(30), a_round(20))], "caddy": [(a_round(30), a_round(90))]}))
    assert {name: len(pairs) for name, pairs in one.pairs.items()} == {"nginx": 2, "caddy": 1}
    assert len(one.rounds_of_subject()) == 3


@pytest.mark.parametrize(
    ("measured", "at_least", "met"),
    [(1.5, False, True), (1.6, False, False), (1.5, True, True), (1.4, True, False), (None, False, False)],
)
def test_a_bar_is_never_met_by_what_was_not_measured(measured, at_least, met):
    assert check("x", measured, 1.5, at_least)["met"] is met
