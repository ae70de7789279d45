"""From rounds to figures: medians, spreads, ratios of paired rounds. Pure arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks import histogram
from benchmarks.generator import Outcome
from benchmarks.processes import Memory

MIB = 2**20
LATENCIES = ("p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms")
LATE_SHARE = 0.1
"""A generator that is late by more than this share of the p99 it reports is pointed out."""


@dataclass(frozen=True, slots=True)
class Round:
    """One proxy under load for a moment. CPU in nanoseconds, times in seconds.

    `cpu_ns`: the whole proxy; `foreign_ns`: CPU that all cores spent on what is no part of the benchmark.
    `ended`: processes of the proxy that were gone at the end. `aside_ns`: of processes that no request waits for, which
    is not in `cpu_ns`.
    """

    outcome: Outcome
    cpu_ns: int
    seconds: float
    foreign_ns: int = 0
    ended: int = 0
    aside_ns: int = 0

    @property
    def cpu_us_per_request(self) -> float | None:
        """CPU microseconds for each reply; None without any."""
        return self.cpu_ns / 1000 / self.outcome.requests if self.outcome.requests else None

    @property
    def busy(self) -> float:
        """Cores the proxy kept busy, on average."""
        return self.cpu_ns / 1e9 / self.seconds if self.seconds else 0.0

    def faults(self) -> dict[str, int]:
        """What went wrong, by reason; a round with any is flagged."""
        return {**self.outcome.errors, **({"process_ended": self.ended} if self.ended else {})}


Pair = tuple[Round, Round]
"""(round of the subject, round of the peer), one right after the other."""


@dataclass(slots=True)
class Comparison:
    """Rounds of the subject, paired with those of each peer, and what their memory was afterwards."""

    subject: str
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    alone: list[Round] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)

    def add(self, other: Comparison) -> None:
        """Take the rounds of another comparison of the same subject in; its memory figures are newer."""
        for peer, pairs in other.pairs.items():
            self.pairs.setdefault(peer, []).extend(pairs)
        self.alone.extend(other.alone)
        self.memory.update(other.memory)

    def rounds_of_subject(self) -> list[Round]:
        """All of them, whatever they were paired with."""
        return [*self.alone, *(subject for pairs in self.pairs.values() for subject, _ in pairs)]


def middle(values: Sequence[float | None], digits: int = 3) -> float | None:
    """The median of those that are there."""
    there = [value for value in values if value is not None]
    return round(median(there), digits) if there else None


def spread(values: Sequence[float | None], digits: int = 3) -> list[float] | None:
    """[least, most] of those that are there."""
    there = [value for value in values if value is not None]
    return [round(min(there), digits), round(max(there), digits)] if there else None


def ratio(above: float | None, below: float | None) -> float | None:
    """above ÷ below, None where that means nothing."""
    return above / below if above is not None and below else None


def figures(rounds: Sequence[Round], memory: Memory | None = None) -> dict[str, Any]:
    """The figures of one proxy over its rounds. Percentiles are of all rounds' requests together where every round
    has its histogram, else the median of the rounds' percentiles."""
    cpu = [one.cpu_us_per_request for one in rounds]
    found: dict[str, Any] = {
        "cpu_us_per_request": middle(cpu, 2),
        "cpu_us_spread": spread(cpu, 2),
        "requests_per_second": middle([one.outcome.requests_per_second for one in rounds], 1),
        **latencies(rounds),
        "p99_ms_spread": spread([one.outcome.latency.get("p99_ms") for one in rounds]),
        "cores_busy": middle([one.busy for one in rounds], 2),
        "requests": sum(one.outcome.requests for one in rounds),
        **failures(rounds),
    }
    if rounds and all(one.outcome.histogram for one in rounds):
        merged = histogram.merge(one.outcome.histogram for one in rounds)
        found["latency_curve"] = histogram.curve(merged)
        found["hdr_histogram"] = histogram.encode(merged)
    late = [one.outcome.late_p99_ms for one in rounds if one.outcome.late_p99_ms is not None]
    if late:
        found["generator_late_p99_ms"] = middle(late)
    if memory is not None:
        found["rss_mib"] = round(memory.worker / MIB, 1)
        found["tree_rss_mib"] = round(memory.tree_rss / MIB, 1)
        found["tree_pss_mib"] = round(memory.tree_pss / MIB, 1)
    return found


def latencies(rounds: Sequence[Round]) -> dict[str, float | None]:
    """Percentiles in milliseconds."""
    if rounds and all(one.outcome.histogram for one in rounds):
        return histogram.percentiles(histogram.merge(one.outcome.histogram for one in rounds))
    return {name: middle([one.outcome.latency.get(name) for one in rounds]) for name in LATENCIES}


def failures(rounds: Sequence[Round]) -> dict[str, Any]:
    """How many requests failed, why, and in how many rounds."""
    errors: Counter[str] = Counter()
    for one in rounds:
        errors.update(one.faults())
    return {
        "failed": sum(errors.values()),
        "errors": dict(errors),
        "rounds_with_errors": sum(bool(one.faults()) for one in rounds),
    }


def ratios(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Subject ÷ peer, each the median over the pairs with its [least, most]."""
    sources = {
        "cpu_ratio": [ratio(ours.cpu_us_per_request, theirs.cpu_us_per_request) for ours, theirs in pairs],
        "throughput_ratio": [
            ratio(ours.outcome.requests_per_second, theirs.outcome.requests_per_second) for ours, theirs in pairs
        ],
        "p99_ratio": [
            ratio(ours.outcome.latency.get("p99_ms"), theirs.outcome.latency.get("p99_ms")) for ours, theirs in pairs
        ],
    }
    found: dict[str, Any] = {"cpu_us_pairs": [[middle([one.cpu_us_per_request], 2) for one in pair] for pair in pairs]}
    for name, values in sources.items():
        found[name] = middle(values)
        found[f"{name}_spread"] = spread(values)
    return found


def result(scenario: str, comparison: Comparison, rounds: int, **more: Any) -> dict[str, Any]:
    """A comparison as the JSON object of its scenario."""
    ours = comparison.rounds_of_subject()
    everyone = [*ours, *(theirs for pairs in comparison.pairs.values() for _, theirs in pairs)]
    peers = {
        name: {**figures([theirs for _, theirs in pairs], comparison.memory.get(name)), **ratios(pairs)}
        for name, pairs in comparison.pairs.items()
    }
    return {
        "scenario": scenario,
        "rounds": rounds,
        "gatewayd": figures(ours, comparison.memory.get(comparison.subject)),
        "peers": peers,
        "foreign_cores_busy": middle([one.foreign_ns / 1e9 / one.seconds for one in everyone if one.seconds], 2),
        "remarks": remarks(comparison),
        **more,
    }


def remarks(comparison: Comparison) -> list[str]:
    """What a reader must know before believing the figures."""
    found = []
    named = {comparison.subject: comparison.rounds_of_subject()}
    named |= {name: [theirs for _, theirs in pairs] for name, pairs in comparison.pairs.items()}
    for name, rounds in named.items():
        failed = failures(rounds)
        if failed["rounds_with_errors"]:
            kinds = ", ".join(f"{reason} {number}" for reason, number in failed["errors"].items())
            found.append(f"{name}: {failed['rounds_with_errors']} of {len(rounds)} rounds had errors ({kinds})")
        late = middle([one.outcome.late_p99_ms for one in rounds])
        p99 = middle([one.outcome.latency.get("p99_ms") for one in rounds])
        if late is not None and p99 and late > LATE_SHARE * p99:
            found.append(f"{name}: the generator itself was late by {late} ms (p99), which is in the latencies shown")
    return found


def check(what: str, measured: float | None, bar: float, at_least: bool = False) -> dict[str, Any]:
    """A bar and whether it was met; never met by a figure that was not measured."""
    met = measured is not None and (measured >= bar if at_least else measured <= bar)
    return {
        "what": what,
        "bar": bar,
        "sense": "at least" if at_least else "at most",
        "measured": measured,
        "met": met,
    }
