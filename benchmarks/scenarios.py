"""The scenarios that compare proxies under the same traffic, and the list of all scenarios."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks import crowds, startup
from benchmarks.figures import Comparison, check, ratio, result
from benchmarks.harness import Harness, Target
from benchmarks.proxies import ORIGIN, Proxy, Setup
from benchmarks.rounds import Rounds, Traffic, generator_name

Step = Callable[[], None]
Result = dict[str, Any]
OPEN_LOOP_RATE = 3000.0
"""Requests a second for each worker: the slowest peer keeps up with it on one core."""
MEMORY_BAR_MIB = 45.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """`turns`: how many rounds it takes with so many peers, in units of `--rounds`."""

    name: str
    title: str
    run: Callable[[Harness, Step], Result]
    turns: Callable[[int], int] = lambda peers: 2 * max(peers, 1)


@dataclass(frozen=True, slots=True)
class Case:
    """Traffic and what it needs of the proxies and the upstream. `bars`: greatest `cpu_ratio` allowed, by peer."""

    name: str
    traffic: Traffic
    routes: int = 0
    tls: bool = False
    delay: float = 0.0
    memory_bar: float | None = None
    bars: dict[str, float] = field(default_factory=dict)


def compare(case: Case, harness: Harness, step: Step) -> Result:
    """gatewayd beside each peer in one case."""
    target = harness.target(case.delay)
    setup = Setup(
        target.port,
        harness.options.workers,
        routes=case.routes,
        certificate=harness.certificate() if case.tls else None,
    )
    subject, *peers = harness.everyone(setup)
    comparison = _compared(harness, target, step, [subject, *peers], case.traffic)
    found = _result(case.name, harness, target, comparison, case.traffic)
    for peer, bar in case.bars.items():
        if peer in found["peers"]:
            found["checks"].append(check(f"cpu_ratio to {peer}", found["peers"][peer]["cpu_ratio"], bar))
    if case.memory_bar is not None:
        what = f"worker MiB with {case.routes:,} routes"
        found["checks"].append(check(what, found["gatewayd"]["rss_mib"], case.memory_bar))
    return found


def _compared(harness: Harness, target: Target, step: Step, proxies: list[Proxy], traffic: Traffic) -> Comparison:
    """Warm all of them up, then compare the first with the others."""
    rounds = Rounds(harness, target, step)
    rounds.warm(proxies, traffic)
    return rounds.compare(proxies[0], proxies[1:], traffic)


def _result(name: str, harness: Harness, target: Target, comparison: Comparison, traffic: Traffic) -> Result:
    return result(
        name,
        comparison,
        harness.options.rounds,
        workers=harness.options.workers,
        seconds_per_round=harness.options.seconds,
        traffic=traffic.describe(),
        generator=generator_name(traffic),
        upstream=target.kind,
        layout=harness.layout.describe(),
        checks=[],
    )


def policies(harness: Harness, step: Step) -> Result:
    """gatewayd with ten policy instances on the route beside gatewayd without."""
    target = harness.target()
    setup = Setup(target.port, harness.options.workers)
    subject = harness.proxy("gatewayd", replace(setup, policies=True))
    plain = harness.proxy("gatewayd", setup, "gatewayd-bare")
    traffic = Traffic(headers=(f"Origin: {ORIGIN}",))
    comparison = _compared(harness, target, step, [subject, plain], traffic)
    found = _result("policies", harness, target, comparison, traffic)
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
    comparison = _compared(harness, target, step, [subject, one], traffic)
    found = _result("workers", harness, target, comparison, traffic)
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
        Scenario("idle", "8,000 idle keep-alive connections", crowds.idle),
        Scenario("memory", "slow readers, and slow connections beside normal load", crowds.slow, lambda peers: 0),
        Scenario("start", "start to first byte with two workers", startup.start, lambda peers: 0),
    ]
    return {scenario.name: scenario for scenario in found}
