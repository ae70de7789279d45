"""Calls on record judged by another configuration: what would become of them that did not, `gatewayd replay`.

Limits are unused when the time begins that is looked at, so near its beginning they let through more than they would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gatewayd.audit.calls import Recorded
from gatewayd.gateway.candidate import MISSED, Candidate, Outcome, recorded_outcome
from gatewayd.gateway.unrecorded import NotOnRecord

SAMPLES = 3
"""Request ids shown of each kind of change."""
KINDS = 10_000
"""Kinds of changes told apart; more go together under `OTHERS`."""
OTHERS = "others"


class Change(NamedTuple):
    """What calls have in common that would fare in another way. Texts, for people."""

    before: str
    after: str
    route: str
    """That took them."""
    consumer: str
    """Empty: nobody known."""


@dataclass(slots=True)
class Tally:
    """How many calls, and some of them."""

    count: int = 0
    samples: list[str] = field(default_factory=list)

    def add(self, request_id: bytes) -> None:
        """One more."""
        self.count += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(request_id.decode("latin-1"))


@dataclass(slots=True)
class Report:
    """What a replay found."""

    calls: int = 0
    same: int = 0
    changes: dict[Change, Tally] = field(default_factory=dict)
    undecided: dict[str, Tally] = field(default_factory=dict)
    """By what is not on record."""
    broken: list[str] = field(default_factory=list)
    """Places in the records that cannot be read."""
    first: int = 0
    last: int = 0
    """When the first and the last call began: nanoseconds since the epoch."""

    @property
    def changed(self) -> int:
        """Calls that would fare in another way."""
        return sum(tally.count for tally in self.changes.values())

    @property
    def undecidable(self) -> int:
        """Calls of which it cannot be told."""
        return sum(tally.count for tally in self.undecided.values())

    def most(self, limit: int) -> list[tuple[Change, Tally]]:
        """The kinds of changes with the most calls."""
        return sorted(self.changes.items(), key=lambda item: (-item[1].count, item[0]))[:limit]

    def plain(self, limit: int) -> dict[str, Any]:
        """The report as data, with at most `limit` kinds of changes."""
        return {
            "calls": self.calls,
            "same": self.same,
            "changed": self.changed,
            "undecided": self.undecidable,
            "first": self.first,
            "last": self.last,
            "changes": [
                {**change._asdict(), "calls": tally.count, "request_ids": tally.samples}
                for change, tally in self.most(limit)
            ],
            "reasons": [
                {"not_on_record": what, "calls": tally.count, "request_ids": tally.samples}
                for what, tally in sorted(self.undecided.items(), key=lambda item: (-item[1].count, item[0]))
            ],
            "broken": self.broken,
        }


def replay(calls: Iterable[Recorded], candidate: Candidate, report: Report) -> Report:
    """Judge `calls`, in the order of their beginnings."""
    for _, _, call in calls:
        report.calls += 1
        report.first = report.first or call.at
        report.last = max(report.last, call.at)
        try:
            before = recorded_outcome(call)
            after = candidate.judge(call)
        except NotOnRecord as unknown:
            report.undecided.setdefault(unknown.what, Tally()).add(call.request_id)
            continue
        if before == after:
            report.same += 1
            continue
        consumer = call.caller.consumer if call.caller is not None else ""
        change = Change(str(before), _told(before, after), call.operation.route, consumer)
        if change not in report.changes and len(report.changes) >= KINDS:
            change = Change(OTHERS, OTHERS, "", "")
        report.changes.setdefault(change, Tally()).add(call.request_id)
    return report


def _told(before: Outcome, after: Outcome) -> str:
    """What it would be now, with the route if that is another one."""
    elsewhere = after.kind != MISSED and after.route != before.route
    return f"{after} on {after.route}" if elsewhere else str(after)
