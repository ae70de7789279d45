"""The scenarios that compare proxies under the same traffic, and the list of all scenarios."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import crowds, evidence, regulated, startup
from benchmarks.cases import Case, Result, Scenario, Step, compare, compared, result_of
from benchmarks.figures import check, ratio
from benchmarks.harness import Harness
from benchmarks.proxies import ORIGIN, Setup
from benchmarks.rounds import Traffic

OPEN_LOOP_RATE = 3000.0
"""Requests a second for each worker: the slowest peer keeps up with it on one core."""
MEMORY_BAR_MIB = 45.0


def policies(harness: Harness, step: Step) -> Result:
    """gatewayd with ten policy instances on the route beside gatewayd without."""
    target = harness.target()
    setup = Setup(target.port, harness.options.workers)
    subject = harness.proxy("gatewayd", replace(setup, policies=True))
    plain = harness.proxy("gatewayd", setup, "gatewayd-bare")
    traffic = Traffic(headers=(f"Origin: {ORIGIN}",))
    comparison = compared(harness, target, step, [subject, plain], traffic)
    found = result_of("policies", harness, target, comparison, traffic)
    measured = found["peers"]["gatewayd-bare"]["cpu_ratio"]
    found["checks"].append(check("cpu_ratio of ten policies to none", measured, 1.25))
    return found


def workers(harness: Harness, step: Step) -> Result:
    """gatewayd with several workers beside gatewayd with one: does a request cost the same?"""
    number = max(2, harness.options.workers)
    harness.arrange(number)
    target = harness.target()
    traffic = Traffic()
    subject = harness.proxy("gatewayd", Setup(target.port, number))
    one = harness.proxy("gatewayd", Setup(target.port, 1), "gatewayd-1-worker")
    comparison = compared(harness, target, step, [subject, one], traffic)
    found = result_of("workers", harness, target, comparison, traffic)
    found["workers"] = number
    peer = found["peers"]["gatewayd-1-worker"]
    efficiency = ratio(1.0, peer["cpu_ratio"])
    found["efficiency"] = round(efficiency, 3) if efficiency else None
    found["scale"] = peer["throughput_ratio"]
    found["checks"].append(check(f"efficiency of {number} workers by CPU per request", found["efficiency"], 0.9, True))
    if not harness.layout.separate:
        found["remarks"].append("too few cores for all workers, load and upstream: throughput says nothing about scale")
    return found


def _case(title: str, case: Case) -> Scenario:
    return Scenario(case.name, title, lambda harness, step: compare(case, harness, step))


def all_scenarios(rate: float = OPEN_LOOP_RATE) -> dict[str, Scenario]:
    """Every scenario by name, in the order they run. `rate`: of the open loop, for each worker."""
    found = [
        _case(
            "541 bytes of JSON, 64 keep-alive connections a worker, everything at its default",
            Case("bare", Traffic(), bars={"nginx": 1.5, "aiohttp": 0.3, "caddy": 0.35}),
        ),
        Scenario("policies", "the same with ten policy instances on the route", policies, lambda peers: 2),
        _case("POST with a body of 4 KiB", Case("post", Traffic("/v1/quotes", "POST", 4096))),
        _case("replies of 1 MiB", Case("large", Traffic("/large", connections=32))),
        _case("over TLS", Case("tls", Traffic(), tls=True)),
        _case(
            "1,000 routes beside the one asked",
            Case("routes", Traffic("/v1/service-731/items/42"), routes=1000, memory_bar=MEMORY_BAR_MIB),
        ),
        _case("an upstream that takes 50 ms", Case("slow", Traffic(connections=256), delay=0.05)),
        _case(f"{rate:,.0f} requests/s a worker, open loop", Case("openloop", Traffic(rate=rate))),
        Scenario("workers", "several workers beside one", workers, lambda peers: 2),
        *regulated.SCENARIOS,
        *evidence.SCENARIOS,
        Scenario("idle", "8,000 idle keep-alive connections", crowds.idle),
        Scenario("memory", "slow readers, and slow connections beside normal load", crowds.slow, lambda peers: 0),
        Scenario("start", "start to first byte with two workers", startup.start, lambda peers: 0),
    ]
    return {scenario.name: scenario for scenario in found}
