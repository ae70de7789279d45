"""How well alerts find what is wrong, and nothing else: `python -m benchmarks.anomalies`. docs/anomalies.md

For each seed a world of ten weeks is made up (`months`), faults are put into its last two weeks (`faults`), and the
detectors look at it hour by hour, as they would have then. An alert is right if it is about a fault's subject, or where
else that fault is seen, while it lasts or within two hours; a fault is found if the detector that is there for it has
an alert about its subject.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import click
import numpy as np
import orjson

from benchmarks.faults import EXPECTED, STRENGTHS, Fault, inject, month_of, plan
from benchmarks.months import DAY, HOLIDAYS, HOUR, START, World, write
from gatewayd.collect.alert_book import Alert, alerts
from gatewayd.collect.store import Store
from gatewayd.collect.watching import Watching
from gatewayd.collect.webhooks import shown
from gatewayd.config.alerts import Alerts
from gatewayd.config.model import Document, Plan, Route

WATCHED, LEARNED = 14, 14
"""Days with faults, and days of single calls before them."""
QUOTAS = [round(1_000 * 1.6**power) for power in range(20)]


@dataclass
class Outcome:
    """What came out for one seed."""

    seed: int
    days: int
    faults: list[Fault]
    alerts: list[Alert]
    seconds: float
    right: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.right = [any(_at(fault, each) for fault in self.faults) for each in self.alerts]

    def finders(self, fault: Fault) -> list[Alert]:
        """Alerts that find a fault."""
        return [each for each in self.alerts if fault.found(each.detector, _named(each), *_span(each))]


def _span(alert: Alert) -> tuple[int, int]:
    return alert.at, alert.resolved_at or 1 << 40


def _bare(alert: Alert) -> str:
    """The subject without what of it."""
    return alert.subject.partition(" ")[0]


def _at(fault: Fault, alert: Alert) -> bool:
    """Whether the alert is about the fault. What a fault used of a quota is used for the rest of the month."""
    if alert.detector == "quota_burn":
        return _bare(alert) in {each.partition(" ")[0] for each in fault.main} and fault.since < alert.at + DAY
    return fault.right(alert.subject, *_span(alert)) or fault.right(_bare(alert), *_span(alert))


def document_of(world: World) -> Document:
    """The configuration: routes, a quota for some consumers through their plans, holidays."""
    for consumer in world.consumers[::3]:
        wanted = 1.4 * month_of(world, consumer)
        if consumer.kind in ("portal", "office", "steady") and wanted > 1_500:
            consumer.plan = f"q{next(each for each in QUOTAS if each >= wanted)}"
    plans = {each.plan for each in world.consumers if each.plan}
    return Document(
        routes={each.name: Route(path=f"/v1/{each.name}/{{id}}") for each in world.routes},
        plans={each: Plan(policies=[each]) for each in plans},
        policies={each: {"policy": "quota", "limit": int(each[1:])} for each in plans},
        alerts=Alerts(holidays=list(HOLIDAYS), max_open=10_000),
    )


def run(
    seed: int, each: int = 2, faulty: bool = True, watched: int = WATCHED, learned: int = LEARNED, **sizes: float
) -> Outcome:
    """Make a world up, let the detectors look at it, and compare.

    `each`: faults of every kind and strength, in the last `watched` days; `learned`: days of single calls before them.
    `sizes`: of the world.
    """
    began = time.monotonic()
    world = World(seed, **sizes)  # type: ignore[arg-type]
    document = document_of(world)
    last = world.hours // 24
    first, single = last - watched, last - watched - learned
    faults = plan(world, first, last, each) if faulty else []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "calls.duckdb"), 1 << 30)
        cursor = store.cursor()
        world.past(cursor, single * 24)
        watching = Watching(store.cursor(), document)
        plans = {each.name: each.plan for each in world.consumers}
        for day in range(single, last):
            rows = inject(world, world.calls_of(day), faults, np.random.default_rng([seed, day]))
            write(cursor, rows, plans)
            if day >= first - 7:
                for hour in range(24):
                    watching.look(START + day * DAY + (hour + 1) * HOUR)
        found = alerts(cursor, 'true ORDER BY "at", id')
        cursor.close()
        watching.close()
        store.close()
    told = [alert for alert in found if alert.at >= START + first * DAY]
    return Outcome(seed, watched, faults, told, time.monotonic() - began)


def _named(alert: Alert) -> str:
    """The subject; that of an error burst without its class."""
    return _bare(alert) if alert.detector == "error_burst" else alert.subject


def table(outcomes: Iterable[Outcome]) -> list[str]:
    """The two tables of docs/anomalies.md: recall by kind of fault, precision by detector."""
    outcomes = list(outcomes)
    lines = ["| fault | weak | medium | strong | recall |", "|---|---|---|---|---|"]
    all_hits: list[bool] = []
    for kind in EXPECTED:
        hits = {strength: _hits(outcomes, kind, number) for number, strength in enumerate(STRENGTHS)}
        together = [hit for each in hits.values() for hit in each]
        all_hits += together
        cells = " | ".join(f"{sum(each)}/{len(each)}" for each in hits.values())
        lines.append(f"| {kind} | {cells} | {_share(together)} |")
    cells = " | ".join(_share([hit for kind in EXPECTED for hit in _hits(outcomes, kind, n)]) for n in range(3))
    lines += [f"| all | {cells} | {_share(all_hits)} |", ""]
    lines += ["| detector | alerts | right | precision | false a week |", "|---|---|---|---|---|"]
    weeks = sum(one.days for one in outcomes) / 7
    for detector in [*dict.fromkeys(name for names in EXPECTED.values() for name in sorted(names)), "all"]:
        right = [
            right
            for one in outcomes
            for alert, right in zip(one.alerts, one.right, strict=True)
            if detector in (alert.detector, "all")
        ]
        false = len(right) - sum(right)
        lines.append(f"| {detector} | {len(right)} | {sum(right)} | {_share(right)} | {false / weeks:.1f} |")
    return lines


def _hits(outcomes: Iterable[Outcome], kind: str, strength: int) -> list[bool]:
    return [
        bool(one.finders(fault))
        for one in outcomes
        for fault in one.faults
        if (fault.kind, fault.strength) == (kind, strength)
    ]


def _share(hits: list[bool]) -> str:
    return f"{sum(hits) / len(hits):.2f}" if hits else "–"


def precision(outcomes: Iterable[Outcome]) -> float:
    """Of all alerts, the share that is right."""
    right = [right for one in outcomes for right in one.right]
    return sum(right) / len(right) if right else 1.0


def recall(outcomes: Iterable[Outcome], least: int = 0) -> float:
    """Of all faults of this strength and more, the share that is found."""
    hits = [bool(one.finders(fault)) for one in outcomes for fault in one.faults if fault.strength >= least]
    return sum(hits) / len(hits) if hits else 1.0


@click.command(context_settings={"show_default": True})
@click.option("--seed", "seeds", type=int, multiple=True, default=[101, 102, 103, 104, 105], help="Worlds.")
@click.option("--each", default=2, help="Faults of every kind and strength, in each world.")
@click.option("--quiet", is_flag=True, help="Without faults: whatever is found is false.")
@click.option("--jobs", default=1, help="Worlds at a time.")
@click.option("--false", "show_false", is_flag=True, help="Name the false alerts and the faults not found.")
@click.option("--json", "json_to", metavar="PATH", help="Write the alerts and faults, too.")
def main(seeds: tuple[int, ...], each: int, quiet: bool, jobs: int, show_false: bool, json_to: str | None) -> None:
    """Measure precision and recall of alerts on made-up months."""
    outcomes = []
    with ProcessPoolExecutor(jobs) as pool:
        for one in pool.map(run, seeds, repeat(each), repeat(not quiet)):
            outcomes.append(one)
            click.echo(f"seed {one.seed}: {len(one.alerts)} alerts, {one.seconds:.0f} s", err=True)
    click.echo("\n".join(table(outcomes)))
    if show_false:
        _show(outcomes)
    if json_to:
        Path(json_to).write_bytes(orjson.dumps(list(map(_plain, outcomes)), option=orjson.OPT_INDENT_2))
    sys.exit(0)


def _plain(one: Outcome) -> dict[str, object]:
    alerts = [{**shown(alert), "right": right} for alert, right in zip(one.alerts, one.right, strict=True)]
    faults = [
        {"kind": each.kind, "strength": STRENGTHS[each.strength], "since": each.since, "until": each.until,
         "subjects": sorted(each.main), "found_by": [alert.id for alert in one.finders(each)]}
        for each in one.faults
    ]  # fmt: skip
    return {"seed": one.seed, "alerts": alerts, "faults": faults}


def _show(outcomes: Iterable[Outcome]) -> None:
    for one in outcomes:
        for alert, right in zip(one.alerts, one.right, strict=True):
            if not right:
                click.echo(f"false: {one.seed} {alert.detector} {alert.subject} {alert.severity}: {alert.text}")
        for fault in one.faults:
            if not one.finders(fault):
                click.echo(
                    f"not found: {one.seed} {fault.kind} {STRENGTHS[fault.strength]} {sorted(fault.main)} "
                    f"{time.strftime('%F %T', time.gmtime(fault.since))} for {(fault.until - fault.since) // 60} min"
                )


if __name__ == "__main__":
    main()
