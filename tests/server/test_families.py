"""No family grows without bound, whatever its labels are made of."""

from __future__ import annotations

import pytest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from gatewayd.server.families import COUNTER, GAUGE, MOST, Table, bounded, counter
from tests.server.observed import samples


def gauges(count):
    family = GaugeMetricFamily("gatewayd_many", "Many.", labels=["target", "place"])
    for number in range(count):
        family.add_metric([f"t{number}", f"p{number}"], number)
    return family


def test_a_family_within_the_bound_stays_as_it_is():
    family = gauges(4)
    assert bounded(family, 4) is family
    assert bounded(gauges(MOST)).samples == gauges(MOST).samples


def test_what_is_beyond_it_is_added_up_as_other():
    found = samples([bounded(gauges(6), 4)])
    assert len(found) == 5
    assert found["gatewayd_many", ("place", "p3"), ("target", "t3")] == 3
    assert found["gatewayd_many", ("place", "other"), ("target", "other")] == 4 + 5


def test_or_made_one_in_another_way():
    assert samples([bounded(gauges(6), 4, combine=min)])["gatewayd_many", ("place", "other"), ("target", "other")] == 4


def test_a_histogram_is_kept_or_added_up_whole():
    family = HistogramMetricFamily("gatewayd_seconds", "Times.", labels=["route"])
    for number in range(5):
        family.add_metric([f"r{number}"], [("1.0", 1), ("+Inf", 2)], 3.0)
    made = bounded(family, 3)
    found = samples([made])
    assert (made.type, len(found)) == ("histogram", 4 * 4)
    assert found["gatewayd_seconds_bucket", ("le", "1.0"), ("route", "other")] == 2
    assert found["gatewayd_seconds_count", ("route", "other")] == 4
    assert found["gatewayd_seconds_sum", ("route", "other")] == 6
    assert found["gatewayd_seconds_bucket", ("le", "+Inf"), ("route", "r2")] == 2


def test_counters_stay_counters():
    family = CounterMetricFamily("gatewayd_things", "Things.", labels=["of"])
    for number in range(3):
        family.add_metric([str(number)], 1)
    made = bounded(family, 1)
    assert (made.name, made.type, made.documentation) == ("gatewayd_things", "counter", "Things.")
    assert samples([made]) == {
        ("gatewayd_things_total", ("of", "0")): 1,
        ("gatewayd_things_total", ("of", "other")): 2,
    }


def test_one_label():
    assert samples([counter("gatewayd_c", "C.", "code", {"a": 1, "b": 2})]) == {
        ("gatewayd_c_total", ("code", "a")): 1,
        ("gatewayd_c_total", ("code", "b")): 2,
    }


def test_rows_become_samples_of_each_family_where_there_is_a_value():
    table = Table(["of"], seen=(COUNTER, "Seen."), open=(GAUGE, "Open."))
    table.add(["a"], (1, None))
    table.add(["b"], (2, 5))
    assert samples(table.families) == {
        ("gatewayd_seen_total", ("of", "a")): 1,
        ("gatewayd_seen_total", ("of", "b")): 2,
        ("gatewayd_open", ("of", "b")): 5,
    }
    with pytest.raises(ValueError):
        table.add(["c"], (1,))
