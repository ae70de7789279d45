"""What went on between two looks at the daemon: rates and percentiles out of its counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from gatewayd.server.overview import Overview, RouteCounts, TargetCounts

SORTS = ("rps", "p99", "p50", "errors", "bytes", "name")
"""What rows may be ordered by; all but `name` from the largest down."""


class Row(Struct, frozen=True):
    """Exchanges of a route or a consumer: a second, and latencies in seconds (0: there was none)."""

    name: str
    rps: float
    p50: float
    p99: float
    upstream: float
    """Its mean until the upstream's reply."""
    client_errors: float
    errors: float
    bytes_in: float
    bytes_out: float


class Count(Struct, frozen=True):
    """Something that was counted: so many a second, and in all."""

    name: str
    rate: float
    total: int


class Target(Struct, frozen=True):
    """A target: how it is, and what it did in a second."""

    counts: TargetCounts
    rps: float
    failures: float


class Frame(Struct, frozen=True, kw_only=True):
    """Everything to be shown. `seconds`: over how long."""

    overview: Overview
    seconds: float
    total: Row
    routes: list[Row]
    policies: list[Count]
    refusals: list[Count]
    targets: list[Target]


def frame(now: Overview, before: Overview | None, sort: str = "rps") -> Frame:
    """What happened from `before` until `now`; since the start, if there is none, or another daemon said it."""
    if before is not None and (before.started != now.started or before.now >= now.now):
        before = None
    seconds = max(now.now - (before.now if before is not None else now.started), 1e-3)
    known = before.routes if before is not None else {}
    gone = {name: _less(row, known.get(name)) for name, row in now.routes.items()}
    policies = {_decision(each.verdict, each.policy, each.mode): each.count for each in now.verdicts}
    policies_before = {
        _decision(each.verdict, each.policy, each.mode): each.count for each in (before.verdicts if before else ())
    }
    return Frame(
        overview=now,
        seconds=seconds,
        total=_row("", _sum(gone.values(), now), now, seconds),
        routes=ordered((_row(name, row, now, seconds) for name, row in gone.items()), sort),
        policies=_counts(policies, policies_before, seconds),
        refusals=_counts(
            _refusals(now),
            _refusals(before) if before is not None else {},
            seconds,
        ),
        targets=_targets(now.targets, before.targets if before is not None else (), seconds),
    )


def ordered(rows: Iterable[Row], sort: str) -> list[Row]:
    """By `sort`, and by name where that is the same."""
    if sort == "name":
        return sorted(rows, key=lambda row: row.name)
    measure = {"errors": "errors", "rps": "rps", "p50": "p50", "p99": "p99"}.get(sort)
    return sorted(
        rows,
        key=lambda row: (-(getattr(row, measure) if measure else row.bytes_in + row.bytes_out), row.name),
    )


def percentile(share: float, counts: Sequence[int], bounds: Sequence[float]) -> float:
    """Below what `share` of the counted durations lie, in seconds: linear within a bucket; the last has no end."""
    total = sum(counts)
    rank, seen = share * total, 0
    for place, count in enumerate(counts):
        if count and seen + count >= rank:
            if place == len(bounds):
                break
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (rank - seen) / count
        seen += count
    return bounds[-1] if total else 0.0


def _less(now: RouteCounts, before: RouteCounts | None) -> RouteCounts:
    if before is None:
        return now
    return RouteCounts(
        [late - early for late, early in zip(now.classes, before.classes, strict=True)],
        [late - early for late, early in zip(now.durations, before.durations, strict=True)],
        now.upstream_seconds - before.upstream_seconds,
        now.total_seconds - before.total_seconds,
        now.bytes_in - before.bytes_in,
        now.bytes_out - before.bytes_out,
    )


def _sum(rows: Iterable[RouteCounts], now: Overview) -> RouteCounts:
    found = list(rows)
    nothing = RouteCounts([0] * len(now.classes), [0] * (len(now.bounds) + 1), 0.0, 0.0, 0, 0)
    return RouteCounts(
        [sum(column) for column in zip(nothing.classes, *(row.classes for row in found), strict=True)],
        [sum(column) for column in zip(nothing.durations, *(row.durations for row in found), strict=True)],
        sum(row.upstream_seconds for row in found),
        sum(row.total_seconds for row in found),
        sum(row.bytes_in for row in found),
        sum(row.bytes_out for row in found),
    )


def _row(name: str, counts: RouteCounts, now: Overview, seconds: float) -> Row:
    classes = dict(zip(now.classes, counts.classes, strict=True))
    calls = sum(counts.classes)
    return Row(
        name,
        calls / seconds,
        percentile(0.5, counts.durations, now.bounds),
        percentile(0.99, counts.durations, now.bounds),
        counts.upstream_seconds / calls if calls else 0.0,
        (classes["4xx"] + classes["499"]) / seconds,
        classes["5xx"] / seconds,
        counts.bytes_in / seconds,
        counts.bytes_out / seconds,
    )


def _decision(verdict: str, policy: str, mode: str) -> str:
    return f"{policy} {verdict}" + (" (observe)" if mode == "observe" and verdict != "observed" else "")


def _refusals(found: Overview) -> dict[str, int]:
    """Codes of refusals, and reasons of failures that no refusal stands for."""
    reasons = {name: count for name, count in found.failures.items() if name not in found.refusals}
    return found.refusals | reasons


def _counts(now: Mapping[str, int], before: Mapping[str, int], seconds: float) -> list[Count]:
    found = [Count(name, (count - before.get(name, 0)) / seconds, count) for name, count in now.items()]
    return sorted(found, key=lambda each: (-each.rate, -each.total, each.name))


def _targets(now: Iterable[TargetCounts], before: Iterable[TargetCounts], seconds: float) -> list[Target]:
    """Those in trouble first, then by what they do. A worker that is new or gone takes no rate below 0."""
    known = {(each.upstream, each.target): each for each in before}
    found = []
    for each in now:
        old = known.get((each.upstream, each.target))
        requests = each.requests - (old.requests if old is not None else 0)
        failures = each.failures - (old.failures if old is not None else 0)
        found.append(Target(each, max(requests, 0) / seconds, max(failures, 0) / seconds))
    return sorted(found, key=lambda each: (-troubled(each), -each.rps, each.counts.upstream, each.counts.target))


def troubled(target: Target) -> bool:
    """Whether some worker does not use it, or its upstream's breaker is not closed."""
    return target.counts.available < target.counts.workers or target.counts.breaker != "closed"
