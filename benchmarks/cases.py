"""One scenario: traffic, what it needs of the proxies, and gatewayd beside the others under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import Comparison, check, result
from benchmarks.harness import Harness, Target
from benchmarks.proxies import Proxy, Setup
from benchmarks.rounds import Rounds, Traffic, generator_name

Step = Callable[[], None]
Result = dict[str, Any]


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
    comparison = compared(harness, target, step, [subject, *peers], case.traffic)
    found = result_of(case.name, harness, target, comparison, case.traffic)
    for peer, bar in case.bars.items():
        if peer in found["peers"]:
            found["checks"].append(check(f"cpu_ratio to {peer}", found["peers"][peer]["cpu_ratio"], bar))
    if case.memory_bar is not None:
        what = f"worker MiB with {case.routes:,} routes"
        found["checks"].append(check(what, found["gatewayd"]["rss_mib"], case.memory_bar))
    return found


def compared(
    harness: Harness,
    target: Target,
    step: Step,
    proxies: list[Proxy],
    traffic: Traffic,
    others: Mapping[str, Traffic] | None = None,
) -> Comparison:
    """Warm all of them up, then compare the first with the others; `others`: the traffic of those that get another."""
    rounds = Rounds(harness, target, step)
    rounds.warm(proxies, traffic, others)
    return rounds.compare(proxies[0], proxies[1:], traffic, others=others)


def result_of(name: str, harness: Harness, target: Target, comparison: Comparison, traffic: Traffic) -> Result:
    """The comparison as the JSON object of scenario `name`; no checks yet."""
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
