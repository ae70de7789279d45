"""Latencies in HDR histograms."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import histogram


def test_percentiles_of_known_counts():
    found = histogram.percentiles(histogram.from_counts({1000: 990, 50_000: 10}))
    assert found["p50_ms"] == 1.0
    assert found["p99_ms"] == 1.0
    assert 49.9 < found["p999_ms"] < 50.1


def test_nothing_recorded_is_no_figure():
    assert set(histogram.percentiles(histogram.from_counts({})).values()) == {None}
    assert histogram.curve(histogram.from_counts({})) == []


def test_percentiles_of_several_processes_are_of_the_sum_not_an_average():
    fast = histogram.encode(histogram.from_counts({100: 9_900}))
    slow = histogram.encode(histogram.from_counts({1_000_000: 100}))
    merged = histogram.merge([fast, slow])
    assert merged.get_total_count() == 10_000
    assert histogram.percentiles(merged)["p50_ms"] == 0.1
    assert histogram.percentiles(merged)["p999_ms"] > 990


def test_values_out_of_range_are_kept_at_its_ends():
    merged = histogram.from_counts({0: 1, histogram.HIGHEST_US * 5: 1})
    assert merged.get_total_count() == 2
    assert histogram.percentiles(merged)["max_ms"] >= histogram.HIGHEST_US / 1000


@settings(max_examples=30)
@given(st.dictionaries(st.integers(1, 10_000_000), st.integers(1, 500), min_size=1, max_size=50))
def test_the_median_is_true_to_a_thousandth(counts):
    values = sorted(value for value, number in counts.items() for _ in range(number))
    true = values[(len(values) + 1) // 2 - 1]
    found = histogram.percentiles(histogram.merge([histogram.encode(histogram.from_counts(counts))]))["p50_ms"]
    assert abs(found * 1000 - true) <= max(1, true / 500)


def test_the_curve_never_falls():
    points = histogram.curve(histogram.from_counts(dict.fromkeys(range(1, 2000), 1)))
    assert [value for _, value in points] == sorted(value for _, value in points)
