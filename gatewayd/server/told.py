"""Families of what the supervisor and its workers tell of themselves: processes, targets, pools, caches, limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

from gatewayd.server.families import COUNTER, GAUGE, Table, bounded, counter

Status = Mapping[str, Any]
_BREAKER = ("closed", "half_open", "open")
_PROCESS = {
    "gatewayd_process_cpu_seconds",
    "gatewayd_process_resident_memory_bytes",
    "gatewayd_process_open_fds",
    "gatewayd_process_max_fds",
}


def families(status: Status) -> Iterator[Metric]:
    """All of them. `status` is the supervisor's."""
    yield from _daemon(status)
    yield from _workers(status["workers"])
    yield from _processes(status)
    for family in (*_targets(status), *_pools(status), *_breakers(status), *_caches(status), *_limits(status)):
        yield bounded(family)
    yield bounded(_certificates(status), combine=min)


def edges(status: Status) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The number of each worker that told something, and what."""
    for worker in status["workers"]:
        if worker["edge"]:
            yield str(worker["index"]), worker["edge"]


def _daemon(status: Status) -> Iterator[Metric]:
    yield InfoMetricFamily("gatewayd_build", "The version that runs.", {"version": status["version"]})
    yield GaugeMetricFamily("gatewayd_ready", "Every worker serves the current generation.", status["ready"])
    yield GaugeMetricFamily("gatewayd_generation", "Generation of the configuration.", status["generation"])
    yield GaugeMetricFamily("gatewayd_start_time_seconds", "When it started, Unix time.", status["started"])
    yield counter("gatewayd_reloads", "Reloads, by outcome.", "outcome", status["reloads"])
    restarts = status.get("control", {}).get("restarts", 0)
    yield CounterMetricFamily("gatewayd_control_restarts", "Times the control process was started again.", restarts)


def _workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    table = Table(
        ["worker"],
        worker_up=(GAUGE, "The worker serves."),
        worker_restarts=(COUNTER, "Times it was started again."),
    )
    for worker in workers:
        table.add([str(worker["index"])], (worker["state"] == "serving", worker["restarts"]))
    yield from table.families


def _processes(status: Status) -> Iterator[Metric]:
    """CPU, memory and files of each process of the daemon, as /proc tells them; of those that may be looked at."""
    pids = {"supervisor": status.get("pid", 0), "control": os.getpid()}
    pids |= {f"worker {worker['index']}": worker.get("pid", 0) for worker in status["workers"]}
    made: dict[str, Metric] = {}
    for process, pid in pids.items():
        for found in _process(pid):
            family = made.setdefault(found.name, Metric(found.name, found.documentation, found.type))
            for sample in found.samples:
                family.add_sample(sample.name, {"process": process}, sample.value)
    yield from made.values()


def _process(pid: int) -> Iterator[Metric]:
    for found in ProcessCollector("gatewayd", lambda: pid, registry=None).collect() if pid else ():
        if found.name in _PROCESS:
            yield found


def _targets(status: Status) -> Iterator[Metric]:
    table = Table(
        ["worker", "upstream", "target", "place"],
        target_available=(GAUGE, "The worker sends it requests."),
        target_ejected=(GAUGE, "It rests, because too many requests failed there."),
        target_probe_healthy=(GAUGE, "Its probes succeed; only where there are probes."),
        target_in_flight=(GAUGE, "Exchanges under way with it."),
        target_latency_seconds=(GAUGE, "Until a reply's head comes: what balancing goes by."),
        target_requests=(COUNTER, "Requests sent to it."),
        target_failures=(COUNTER, "Requests it failed."),
        target_ejections=(COUNTER, "Times it had to rest."),
    )
    for worker, upstream, target in _each_target(status):
        values = (
            target["available"],
            target["ejected_for"] > 0,
            None if target["probe"] == "off" else target["probe"] == "healthy",
            target["in_flight"],
            target["latency_ms"] / 1000,
            target["requests"],
            target["failures"],
            target["ejections"],
        )
        table.add((worker, upstream, target["address"], target["place"]), values)
    yield from table.families


def _each_target(status: Status) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for worker, edge in edges(status):
        for upstream, group in edge["upstreams"].items():
            for target in group["targets"]:
                yield worker, upstream, target


def _pools(status: Status) -> Iterator[Metric]:
    """All workers' connections to a target together, and to all places that its name leads to."""
    table = Table(
        ["upstream", "target"],
        pool_open=(GAUGE, "Connections to it, those being opened included."),
        pool_idle=(GAUGE, "Of those: kept for the next exchange."),
        pool_busy=(GAUGE, "Of those: in use or being opened."),
        pool_waiting=(GAUGE, "Exchanges that wait for a connection."),
        pool_dials=(COUNTER, "Connections begun."),
        pool_reused=(COUNTER, "Exchanges that got a connection which was there."),
    )
    names = ("open", "idle", "busy", "waiting", "dials", "reused")
    sums: dict[tuple[str, str], list[int]] = {}
    for _, upstream, target in _each_target(status):
        if target["pool"] is not None:
            row = sums.setdefault((upstream, target["address"]), [0] * len(names))
            row[:] = [have + target["pool"][name] for have, name in zip(row, names, strict=True)]
    for key, row in sums.items():
        table.add(key, row)
    yield from table.families


def _breakers(status: Status) -> Iterator[Metric]:
    table = Table(
        ["worker", "upstream"],
        breaker_open=(GAUGE, "The breaker refuses: open or half-open."),
        breaker_opened=(COUNTER, "Times it went from closed to open."),
    )
    states = Table(["worker", "upstream", "state"], breaker_state=(GAUGE, "1 at the state that the breaker is in."))
    for worker, edge in edges(status):
        for upstream, group in edge["upstreams"].items():
            found = group["breaker"]["state"]
            table.add((worker, upstream), (found != "closed", group["breaker"]["opened"]))
            for state in _BREAKER:
                states.add((worker, upstream, state), [found == state])
    yield from (*table.families, *states.families)


def _caches(status: Status) -> Iterator[Metric]:
    """Each worker has a store of its own: their sum."""
    table = Table(
        ["policy"],
        cache_entries=(GAUGE, "Stored replies."),
        cache_bytes=(GAUGE, "What they take."),
        cache_limit_bytes=(GAUGE, "What they may take."),
    )
    for instance, each in shown(status, "entries").items():
        table.add([instance], [sum(said[name] for said in each) for name in ("entries", "bytes", "bytes_most")])
    yield from table.families


def _limits(status: Status) -> Iterator[Metric]:
    """All workers share a limit's counters, so each says the same; the latest of them knows most."""
    table = Table(
        ["policy", "type"],
        limit_keys=(GAUGE, "Keys counted by themselves: callers, consumers, routes."),
        limit_keys_capacity=(GAUGE, "As many can be; further ones share."),
    )
    for instance, each in shown(status, "keys").items():
        values = [max(said[name] for said in each) for name in ("keys", "keys_most")]
        table.add((instance, each[0]["policy"]), values)
    yield from table.families


def shown(status: Status, name: str) -> dict[str, list[Mapping[str, Any]]]:
    """By instance what workers show of those that show `name`."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for _, edge in edges(status):
        for instance, said in edge.get("figures", {}).items():
            if name in said:
                found.setdefault(instance, []).append(said)
    return found


def _certificates(status: Status) -> Metric:
    """All workers of a generation have the same; while one follows another the earlier end counts."""
    family = GaugeMetricFamily(
        "gatewayd_certificate_expires_timestamp_seconds",
        "When a listener's certificate ceases to be valid, Unix time.",
        labels=["listener", "certificate"],
    )
    ends: dict[tuple[str, str], float] = {}
    for _, edge in edges(status):
        for listener, files in edge["certificates"].items():
            for file, end in files.items():
                ends[listener, file] = min(end, ends.get((listener, file), end))
    for labels, end in ends.items():
        family.add_metric(labels, end)
    return family
