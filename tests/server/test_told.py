"""What the supervisor and its workers tell, as families."""

from __future__ import annotations

import os

import pytest

from gatewayd.server.families import MOST
from gatewayd.server.told import families, shown
from tests.server.observed import EDGE, STATUS, TARGET, named, samples


def found(status=STATUS):
    return samples(families(status))


def serving(*edges):
    """The status of a daemon with these workers."""
    workers = [
        {"index": index, "pid": 0, "state": "serving", "restarts": 0, "edge": edge} for index, edge in enumerate(edges)
    ]
    return {**STATUS, "workers": workers}


def test_the_daemon_and_its_workers():
    told = found()
    assert told["gatewayd_build_info", ("version", "1.2.3")] == 1
    assert told[("gatewayd_ready",)] == 1
    assert told[("gatewayd_generation",)] == 4
    assert told["gatewayd_reloads_total", ("outcome", "failed")] == 1
    assert told[("gatewayd_control_restarts_total",)] == 1
    assert [told["gatewayd_worker_up", ("worker", number)] for number in "01"] == [1, 0]
    assert told["gatewayd_worker_restarts_total", ("worker", "0")] == 2


def test_what_the_processes_use_as_far_as_it_can_be_seen():
    told = found({**STATUS, "pid": 2**22 + 1})  # above the largest there may be: gone
    for name in ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds"):
        processes = {labels["process"]: value for labels, value in named(told, f"gatewayd_process_{name}")}
        assert processes.keys() == {"control", "worker 0"}
        assert processes["control"] > 0
    memory = told["gatewayd_process_resident_memory_bytes", ("process", "control")]
    with open(f"/proc/{os.getpid()}/statm", encoding="ascii") as statm:
        now = int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    assert memory == pytest.approx(now, rel=0.5)


def test_targets_as_each_worker_sees_them():
    told = found()
    labels = (("place", "127.0.0.1:9000"), ("target", "localhost:9000"), ("upstream", "policies"), ("worker", "0"))
    other = (("place", "[::1]:9000"), *labels[1:])
    assert told["gatewayd_target_available", *labels] == 1
    assert told["gatewayd_target_in_flight", *labels] == 2
    assert told["gatewayd_target_requests_total", *labels] == 7
    assert told["gatewayd_target_failures_total", *labels] == 1
    assert told["gatewayd_target_ejections_total", *labels] == 3
    assert told["gatewayd_target_latency_seconds", *labels] == 0.0125
    assert told["gatewayd_target_requests_total", *other] == 9
    assert [told["gatewayd_target_ejected", *each] for each in (labels, other)] == [0, 1]
    assert told["gatewayd_target_probe_healthy", *labels] == 1
    assert ("gatewayd_target_probe_healthy", *other) not in told


def test_pools_of_all_workers_and_places_together():
    told = found(serving(EDGE, EDGE))
    labels = (("target", "localhost:9000"), ("upstream", "policies"))
    names = ("open", "idle", "busy", "waiting", "dials_total", "reused_total")
    assert [told[f"gatewayd_pool_{name}", *labels] for name in names] == [10, 6, 4, 2, 18, 140]


@pytest.mark.parametrize("state", ["closed", "half_open", "open"])
def test_breakers_as_each_worker_sees_them(state):
    group = {"targets": [], "breaker": {"state": state, "opened": 2}}
    told = found(serving({**EDGE, "upstreams": {"policies": group}}))
    labels = (("upstream", "policies"), ("worker", "0"))
    assert told["gatewayd_breaker_open", *labels] == (state != "closed")
    assert told["gatewayd_breaker_opened_total", *labels] == 2
    states = {each["state"]: value for each, value in named(told, "gatewayd_breaker_state")}
    assert states == {"closed": 0, "half_open": 0, "open": 0, state: 1}


def test_stores_of_all_workers_together():
    told = found(serving(EDGE, EDGE))
    names = ("entries", "bytes", "limit_bytes")
    assert [told[f"gatewayd_cache_{name}", ("policy", "stored")] for name in names] == [6, 2000, 10000]
    assert len(list(named(told, "gatewayd_cache_entries"))) == 1


def test_limits_are_shared_by_all_workers():
    newer = {"policy": "rate_limit", "mode": "observe", "keys": 41, "keys_most": 131072}
    told = found(serving(EDGE, {**EDGE, "figures": {"fair": newer}}))
    labels = (("policy", "fair"), ("type", "rate_limit"))
    assert told["gatewayd_limit_keys", *labels] == 41
    assert told["gatewayd_limit_keys_capacity", *labels] == 131072


def test_what_instances_show():
    assert list(shown(serving(EDGE, EDGE), "keys")) == ["fair"]
    assert shown(STATUS, "nothing") == {}


def test_of_a_certificate_the_earliest_end_counts():
    later = {**EDGE, "certificates": {"https": {"/etc/a.pem": 2e9}}}
    assert list(named(found(serving(later, EDGE)), "gatewayd_certificate_expires_timestamp_seconds")) == [
        ({"certificate": "/etc/a.pem", "listener": "https"}, 1.9e9)
    ]


def test_there_is_an_end_to_targets_files_and_policies():
    many = range(MOST + 3)
    upstreams = {
        "up": {"targets": [{**TARGET, "address": f"t{n}"} for n in many], "breaker": {"state": "closed", "opened": 0}}
    }
    stored = {f"c{n}": {"policy": "cache", "mode": "enforce", "entries": 1, "bytes": 2, "bytes_most": 3} for n in many}
    certificates = {"https": {f"/etc/{n}.pem": 1e9 + n for n in many}}
    told = found(serving({"upstreams": upstreams, "figures": stored, "certificates": certificates}))
    others = {key: value for key, value in told.items() if key[1:] and all(value == "other" for _, value in key[1:])}
    assert (
        others[
            "gatewayd_target_requests_total", *((each, "other") for each in ("place", "target", "upstream", "worker"))
        ]
        == 3 * 7
    )
    assert others["gatewayd_pool_open", ("target", "other"), ("upstream", "other")] == 3 * 5
    assert others["gatewayd_cache_bytes", ("policy", "other")] == 6
    earliest = others["gatewayd_certificate_expires_timestamp_seconds", ("certificate", "other"), ("listener", "other")]
    assert earliest == 1e9 + MOST
    for name in (
        "gatewayd_target_available",
        "gatewayd_cache_entries",
        "gatewayd_certificate_expires_timestamp_seconds",
    ):
        assert len(list(named(told, name))) == MOST + 1
