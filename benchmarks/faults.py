"""Faults of each kind in three strengths, put into a world's calls; and what of an alert would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from benchmarks.months import AGENTS, DAY, HOUR, START, Consumer, Rows, World

STRENGTHS = ("weak", "medium", "strong")
GRACE = 2 * HOUR
"""Alerts that begin so long after a fault still belong to it."""
EXPECTED = {
    "rate spike": {"rate"},
    "rate drop": {"rate"},
    "error burst": {"error_burst", "errors"},
    "refused credentials": {"error_burst", "errors"},
    "latency creep": {"latency"},
    "bytes exfiltration": {"bytes"},
    "enumeration": {"enumeration"},
    "credential sharing": {"sharing"},
    "off-hours use": {"off_hours"},
    "quota burn": {"quota_burn"},
    "harvest": {"enumeration"},
}
"""Which detectors are to find a kind of fault."""
SIZES: dict[str, tuple[float, float, float]] = {
    "rate spike": (2.5, 5, 15),
    "rate drop": (0.25, 0.08, 0),
    "error burst": (0.15, 0.4, 0.9),
    "refused credentials": (0.4, 0.7, 1.0),
    "latency creep": (1.5, 2.2, 4),
    "bytes exfiltration": (2.5, 6, 30),
    "enumeration": (30, 90, 300),
    "credential sharing": (5, 10, 30),
    "off-hours use": (20, 60, 200),
    "quota burn": (0.7, 0.5, 0.3),
    "harvest": (30, 90, 300),
}
"""How strong: factors, shares, values a minute, networks, calls an hour, and the part of the period a quota lasts."""


@dataclass
class Fault:
    """Something that goes wrong from second `since` to second `until`."""

    kind: str
    strength: int
    since: int
    until: int
    consumer: int = -1
    route: int = -1
    factor: float = 0.0
    subjects: set[str] = field(default_factory=set)
    """Whose alerts are right: the subject itself, and what is seen of it elsewhere."""
    main: set[str] = field(default_factory=set)
    """Of these, those one of which is to be found."""

    def right(self, subject: str, since: int, until: int) -> bool:
        """Whether an alert about `subject` over this time is about this fault."""
        return subject in self.subjects and since < self.until + GRACE and until > self.since

    def found(self, detector: str, subject: str, since: int, until: int) -> bool:
        """Whether the alert finds it, as the detector that is there for it."""
        return detector in EXPECTED[self.kind] and subject in self.main and self.right(subject, since, until)


def plan(world: World, first: int, last: int, each: int) -> list[Fault]:
    """`each` faults of every kind and strength between two days, no consumer or route with two of them."""
    rng = np.random.default_rng(world.seed + 1_000_003)
    chooser = _Chooser(world, rng, first, last)
    faults = []
    for kind, sizes in SIZES.items():
        for strength, size in enumerate(sizes):
            for _ in range(each):
                fault = _PLANS[kind](chooser, size)
                if fault is not None:
                    fault.kind, fault.strength, fault.factor = kind, strength, fault.factor or size
                    faults.append(fault)
    return faults


class _Chooser:
    """Whom faults hit, and when."""

    def __init__(self, world: World, rng: np.random.Generator, first: int, last: int) -> None:
        self.world, self.rng = world, rng
        self.first, self.last = first, last
        self.taken: set[int] = set()
        self.taken_routes: set[int] = set()

    def hour(self, hours: int, wanted: Callable[[int], bool]) -> int | None:
        """The number of an hour at which `hours` begin that are as wanted."""
        candidates = [each for each in range(self.first * 24, self.last * 24 - hours) if wanted(each)]
        return int(self.rng.choice(candidates)) if candidates else None

    def consumers(self, wanted: Callable[[Consumer], bool]) -> Iterator[Consumer]:
        """Those who had no fault yet and are known for weeks, in random order."""
        for number in self.rng.permutation(len(self.world.consumers)):
            consumer = self.world.consumers[number]
            if consumer.number not in self.taken and consumer.since == 0 and wanted(consumer):
                yield consumer

    def fault(self, consumer: Consumer, hour: int, seconds: int) -> Fault:
        """One of a consumer, beginning somewhere in the first half of an hour."""
        self.taken.add(consumer.number)
        since = START + hour * HOUR + int(self.rng.integers(0, HOUR // 2))
        main = {f"consumer:{consumer.name}"}
        subjects = main | {f"route:r{route:02d}" for route in consumer.routes}
        subjects |= {"gateway:", f"credential:{consumer.name}/k1"}
        return Fault("", 0, since, since + seconds, consumer.number, subjects=subjects, main=main)

    def busy(self, least: float, hours: int, kinds: tuple[str, ...]) -> Fault | None:
        """A fault at hours at which a consumer of these kinds makes `least` calls an hour."""
        for consumer in self.consumers(lambda each: each.kind in kinds):
            level = self.world.levels[consumer.number]
            hour = self.hour(hours, lambda each, level=level: bool(level[each : each + hours].min() >= least))  # type: ignore[misc]
            if hour is not None:
                return self.fault(consumer, hour, (hours - 1) * HOUR)
        return None

    def route(self, least: float, hours: int) -> Fault | None:
        """A fault of a route with `least` calls an hour."""
        level = np.zeros((len(self.world.routes), self.world.hours))
        for consumer in self.world.consumers:
            for route, weight in zip(consumer.routes, consumer.weights, strict=True):
                level[route] += self.world.levels[consumer.number] * weight
        for number in self.rng.permutation(len(self.world.routes)):
            if int(number) in self.taken_routes:
                continue
            hour = self.hour(hours, lambda each, at=number: bool(level[at, each : each + min(hours, 3)].min() >= least))  # type: ignore[misc]
            if hour is not None:
                self.taken_routes.add(int(number))
                since = START + hour * HOUR + int(self.rng.integers(0, HOUR // 2))
                return self._of_route(int(number), since, hours)
        return None

    def _of_route(self, number: int, since: int, hours: int) -> Fault:
        """It is seen at its consumers, too; at one who is nearly all of its traffic it may be seen there alone."""
        users = [each for each in self.world.consumers if number in each.routes]
        calls = {each.name: each.size * each.weights[each.routes.index(number)] for each in users}
        main = {f"route:r{number:02d}"}
        main |= {f"consumer:{name}" for name, part in calls.items() if part >= 0.6 * sum(calls.values())}
        subjects = main | {f"consumer:{name}" for name in calls} | {"gateway:"}
        return Fault("", 0, since, since + hours * HOUR, route=number, subjects=subjects, main=main)


_PEOPLE = ("portal", "office", "steady")


def _spike(chooser: _Chooser, size: float) -> Fault | None:
    return chooser.busy(40, 4, _PEOPLE)


def _drop(chooser: _Chooser, size: float) -> Fault | None:
    return chooser.busy(90, 5, _PEOPLE)


def _burst(chooser: _Chooser, size: float) -> Fault | None:
    fault = chooser.route(300, 3)
    if fault is not None:
        fault.until = fault.since + int(chooser.rng.integers(20, 60)) * 60
    return fault


def _denied(chooser: _Chooser, size: float) -> Fault | None:
    fault = chooser.busy(300, 3, _PEOPLE) or chooser.busy(150, 3, _PEOPLE)
    if fault is not None:
        fault.until = fault.since + int(chooser.rng.integers(20, 60)) * 60
    return fault


def _creep(chooser: _Chooser, size: float) -> Fault | None:
    return chooser.route(150, 48)


def _exfiltration(chooser: _Chooser, size: float) -> Fault | None:
    return chooser.busy(60, 4, _PEOPLE)


def _off_hours(chooser: _Chooser, size: float) -> Fault | None:
    consumer = next(chooser.consumers(lambda each: each.kind == "office" and each.size > 3), None)
    if consumer is None:
        return None
    hour = chooser.hour(3, lambda each: each % 24 in (0, 1, 2, 3, 21, 22))
    return None if hour is None else chooser.fault(consumer, hour, 2 * HOUR)


def _enumeration(chooser: _Chooser, size: float) -> Fault | None:
    fault = chooser.busy(15, 3, _PEOPLE)
    if fault is not None:
        consumer = chooser.world.consumers[fault.consumer]
        fault.until = fault.since + int(chooser.rng.integers(20, 60)) * 60
        fault.route = consumer.routes[int(np.argmax(consumer.weights))]
        operation = f"/v1/r{fault.route:02d}/{{id}}"
        fault.main = {f"consumer:{consumer.name} {operation}", f"credential:{consumer.name}/k1 {operation}"}
        fault.subjects |= fault.main
    return fault


def _sharing(chooser: _Chooser, size: float) -> Fault | None:
    fault = chooser.busy(60, 3, _PEOPLE)
    if fault is not None:
        fault.main = {f"credential:{chooser.world.consumers[fault.consumer].name}/k1"}
        fault.subjects |= fault.main
    return fault


def _quota(chooser: _Chooser, size: float) -> Fault | None:
    """Calls go up at the first day by as much as makes the month's quota last for `size` of the month."""
    consumer = next(chooser.consumers(lambda each: bool(each.plan) and each.kind in _PEOPLE), None)
    if consumer is None:
        return None
    fault = chooser.fault(consumer, chooser.first * 24, (chooser.last - chooser.first) * DAY)
    limit = int(consumer.plan.removeprefix("q"))
    fault.factor = limit / (month_of(chooser.world, consumer) * size)
    fault.main = {f"consumer:{consumer.name} {consumer.plan}", f"consumer:{consumer.name}"}
    fault.subjects |= fault.main
    return fault


def month_of(world: World, consumer: Consumer) -> float:
    """Calls that a consumer makes in March."""
    level = world.levels[consumer.number]
    return float(level[-14 * 24 :].mean() * 31 * 24)


_PLANS: dict[str, Callable[[_Chooser, float], Fault | None]] = {
    "rate spike": _spike,
    "rate drop": _drop,
    "error burst": _burst,
    "refused credentials": _denied,
    "latency creep": _creep,
    "bytes exfiltration": _exfiltration,
    "enumeration": _enumeration,
    "credential sharing": _sharing,
    "off-hours use": _off_hours,
    "quota burn": _quota,
    "harvest": _enumeration,
}


def inject(world: World, rows: Rows, faults: list[Fault], rng: np.random.Generator) -> Rows:
    """The calls of a day with all faults that fall on it."""
    for fault in faults:
        at = rows["at"]
        inside = (at >= fault.since) & (at < fault.until)
        if fault.consumer >= 0:
            inside &= rows["consumer"] == fault.consumer
        elif fault.route >= 0:
            inside &= rows["route"] == fault.route
        rows = _INJECT[fault.kind](world, rows, fault, inside, rng)
    return rows


def _more(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    """The same calls, so many times; a part of one for the rest."""
    chosen = np.nonzero(inside)[0]
    extra = np.repeat(chosen, rng.poisson(max(0.0, fault.factor - 1), len(chosen)))
    added = {name: column[extra] for name, column in rows.items()}
    added["at"] = added["at"] + rng.random(len(extra)) * 0.01
    return _joined(rows, added)


def _less(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    gone = inside & (rng.random(len(inside)) >= fault.factor)
    return {name: column[~gone] for name, column in rows.items()}


def _failing(status: int) -> Callable[..., Rows]:
    def apply(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
        broken = inside & (rng.random(len(inside)) < fault.factor)
        return {**rows, "status": np.where(broken, status, rows["status"])}

    return apply


def _slower(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    """Linearly, from nothing at the beginning to all of it at the end."""
    part = np.clip((rows["at"] - fault.since) / (fault.until - fault.since), 0, 1)
    factor = np.where(inside, 1 + (fault.factor - 1) * part, 1)
    return {**rows, "us": (rows["us"] * factor).astype(np.int64)}


def _larger(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    return {**rows, "bytes": np.where(inside, rows["bytes"] * fault.factor, rows["bytes"]).astype(np.int64)}


def _added(world: World, rows: Rows, fault: Fault, rng: np.random.Generator, per_second: float) -> Rows:
    """More calls by the consumer, over the part of the fault that falls on this day."""
    day = int(rows["at"].min()) // DAY * DAY
    since, until = max(fault.since, day), min(fault.until, day + DAY)
    total = int(rng.poisson(per_second * (until - since))) if until > since else 0
    at = since + rng.random(total) * max(0, until - since)
    consumer = world.consumers[fault.consumer]
    route = fault.route if fault.route >= 0 else consumer.routes[0]
    return world.rows(at, np.full(total, consumer.number), np.full(total, route))


def _enumerating(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    added = _added(world, rows, fault, rng, fault.factor / 60)
    added["value"] = 5_000_000 + np.arange(len(added["at"]))
    added["status"] = np.where(rng.random(len(added["at"])) < 0.6, 404, 200)
    return _joined(rows, added)


def _harvesting(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    """Different ids, all of which are there: by somebody who has a list of them."""
    added = _added(world, rows, fault, rng, fault.factor / 60)
    added["value"] = 5_000_000 + np.arange(len(added["at"]))
    added["status"] = np.full(len(added["at"]), 200)
    return _joined(rows, added)


def _shared(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    """Others use the credential as well, each a few calls in ten minutes, from its own network and program."""
    added = _added(world, rows, fault, rng, fault.factor * 3 / 600)
    who = rng.integers(0, int(fault.factor), len(added["at"]))
    added["network"] = 400_000 + fault.consumer * 100 + who
    added["agent"] = AGENTS + who
    return _joined(rows, added)


def _at_night(world: World, rows: Rows, fault: Fault, inside: np.ndarray, rng: np.random.Generator) -> Rows:
    return _joined(rows, _added(world, rows, fault, rng, fault.factor / HOUR))


def _joined(rows: Rows, added: Rows) -> Rows:
    return {name: np.concatenate([column, added[name]]) for name, column in rows.items()}


_INJECT: dict[str, Callable[..., Rows]] = {
    "rate spike": _more,
    "rate drop": _less,
    "error burst": _failing(503),
    "refused credentials": _failing(401),
    "latency creep": _slower,
    "bytes exfiltration": _larger,
    "enumeration": _enumerating,
    "credential sharing": _shared,
    "off-hours use": _at_night,
    "quota burn": _more,
    "harvest": _harvesting,
}
