"""What `gatewayd top` is told."""

from __future__ import annotations

import msgspec

from gatewayd.server.overview import Overview, RouteCounts, TargetCounts, VerdictCount, overview
from tests.server.observed import EDGE, STATUS, totals


def test_the_daemon():
    found = overview(STATUS, totals())
    assert (found.version, found.generation, found.ready, found.state) == ("1.2.3", 4, True, "serving")
    assert (found.workers, found.serving, found.restarts) == (2, 1, 2)
    assert (found.audit_lag, found.audit_dropped, found.audit_full, found.log_lag) == (0.25, 10, 1, 1.5)


def test_routes_and_what_was_decided():
    found = overview(STATUS, totals())
    row = found.routes["quotes"]
    assert isinstance(row, RouteCounts)
    assert dict(zip(found.classes, row.classes, strict=True))["2xx"] == 2
    assert row.durations[found.bounds.index(0.5)] == 2
    assert (row.total_seconds, row.upstream_seconds, row.bytes_in, row.bytes_out) == (1.0, 0.5, 20, 40)
    assert found.refusals == {"limited": 2}
    assert found.verdicts == [VerdictCount("partner-cors", "cors", "enforce", "refused", 2)]


def test_targets_over_all_workers_and_places():
    worker = STATUS["workers"][0]
    found = overview({**STATUS, "workers": [worker, {**worker, "index": 1}]}, totals())
    assert found.targets == [
        TargetCounts("policies", "localhost:9000", 2, 4, 8, 32, 4, 0.0125, 10, 2, "half_open"),
    ]


def test_a_worker_that_says_nothing_counts_as_one_that_does_not_serve():
    found = overview({**STATUS, "workers": [{**STATUS["workers"][0], "edge": None}]}, totals())
    assert found.targets == []


def test_it_goes_through_json():
    found = overview(STATUS, totals())
    assert msgspec.json.decode(msgspec.json.encode(found), type=Overview) == found
    assert EDGE["upstreams"]
