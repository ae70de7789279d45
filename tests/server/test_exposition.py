"""The metrics page, read back by prometheus-client's own parsers."""

from __future__ import annotations

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from gatewayd.server.exposition import OPENMETRICS, TEXT, page, wanted
from tests.server.observed import STATUS, named, samples, totals


def test_both_formats_say_the_same():
    extra = GaugeMetricFamily("gatewayd_extra", "Of a part.", labels=["of"])
    extra.add_metric(["it"], 3)
    text = samples(text_families(page(STATUS, totals(), [extra]).decode()))
    other = samples(openmetrics_families(page(STATUS, totals(), [extra], OPENMETRICS).decode()))
    of_processes = {key for key in text if key[0].startswith("gatewayd_process_")}
    assert text.keys() == other.keys()
    assert {key: text[key] for key in text.keys() - of_processes} == {
        key: other[key] for key in text.keys() - of_processes
    }
    assert text["gatewayd_extra", ("of", "it")] == 3
    assert ("gatewayd_ready",) in text
    assert ("gatewayd_connections_accepted_total",) in text


def test_openmetrics_has_exemplars():
    found = [
        (sample.name, sample.labels["le"], sample.exemplar.labels, sample.exemplar.value)
        for family in openmetrics_families(page(STATUS, totals(), form=OPENMETRICS).decode())
        for sample in family.samples
        if sample.exemplar
    ]
    assert found == [
        ("gatewayd_request_duration_seconds_bucket", "0.5", {"request_id": "answered-1"}, 0.5),
        ("gatewayd_upstream_duration_seconds_bucket", "0.3", {"request_id": "answered-1"}, 0.25),
        ("gatewayd_own_duration_seconds_bucket", "0.3", {"request_id": "answered-1"}, 0.25),
    ]
    assert b"answered-1" not in page(STATUS, totals())


def test_families_of_parts_are_bounded():
    many = GaugeMetricFamily("gatewayd_many", "Too many.", labels=["of"])
    for number in range(12_000):
        many.add_metric([str(number)], 1)
    shown = samples(text_families(page(STATUS, totals(), [many]).decode()))
    found = {labels["of"]: value for labels, value in named(shown, "gatewayd_many")}
    assert len(found) == 10_001
    assert found["other"] == 2_000


PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        ("text/plain", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8", OPENMETRICS),
        ("application/openmetrics-text; version=0.0.1", TEXT),
        ("application/openmetrics-text; version=2.0.0", TEXT),
        ("application/openmetrics-text; q=0", TEXT),
        ("application/openmetrics-text; q=high", TEXT),
        ("application/openmetrics-text; q=0.5, text/plain", TEXT),
        ("text/plain; q=0.5, application/openmetrics-text; q=0.9", OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
    ],
)
def test_the_scraper_says_which_format_it_likes(accept, form):
    assert wanted(accept) is form


def test_what_is_sent_is_called_what_it_is():
    assert TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert OPENMETRICS.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
