"""Quotas that, as things go, are used up well before their period ends, and quotas that are.

What is used is reckoned from the rollups and the configuration, for consumers on whom a quota holds through a route or
their plan. The counters themselves would have to be asked for through every worker, consumer by consumer; what differs
is said in docs/anomalies.md. Only quotas of a day and more that count by consumer are looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from gatewayd.collect.baselines import DAY, HOUR, SLOTS
from gatewayd.collect.finding import CONSUMER, WARM, Finding, Subject, said
from gatewayd.collect.ground import Ground
from gatewayd.collect.usual import stamp
from gatewayd.config.alerts import QuotaBurn
from gatewayd.config.attachment import levels, policy_of
from gatewayd.config.model import Document
from gatewayd.limits.calendar import ANCHOR, Calendar, Per, Period

HISTORY = 28
"""Days whose hours say how demand goes on."""
_LONG = ("day", "week", "month", "quarter", "year")
_SOON = 0.07
"""Share of a period: quotas that last so much longer than they should are close to an alert."""
_MOST_GROWTH = 20.0
_USED = """
SELECT consumer, route, sum(calls)::DOUBLE - sum(refused) - CASE WHEN $success THEN sum(s5xx) ELSE 0 END
FROM rollup_1h WHERE bucket >= $since AND bucket < $until AND consumer <> '' GROUP BY ALL
"""
_PLANS = """
SELECT consumer, arg_max(plan, "at") FROM calls WHERE "at" >= $since AND "at" < $until AND consumer <> '' GROUP BY 1
"""
_DEMAND = """
SELECT epoch(bucket)::BIGINT AS hour, sum((calls::DOUBLE - refused) * cost)
FROM rollup_1h JOIN (SELECT unnest($routes) AS route, unnest($costs) AS cost) USING (route)
WHERE consumer = $consumer AND bucket >= $since AND bucket < $until GROUP BY ALL
"""
_REFUSED = """
SELECT consumer, verdicts, count(*) FROM calls
WHERE "at" >= $since AND "at" < $until AND code = 'quota_exceeded' AND consumer <> '' GROUP BY ALL
"""


class _Table(msgspec.Struct):
    """What counts here of an instance of `quota`."""

    limit: int = 0
    per: Per = "month"
    time_zone: str = "UTC"
    starts: str = ""
    key: str | list[str] = "consumer"
    weights: dict[str, int] = {}
    charge: str = "request"


class Quota(NamedTuple):
    """An instance of the policy `quota` that counts by consumer."""

    instance: str
    table: _Table
    calendar: Calendar
    costs: Mapping[str, Mapping[str, int]]
    """What a call uses, by plan and route; "": for consumers of any plan."""

    def of_plan(self, plan: str) -> Mapping[str, int]:
        """What calls by a consumer on `plan` use, by route."""
        return self.costs.get(plan, self.costs[""])


def quotas(document: Document) -> list[Quota]:
    """Those of the configuration that can be watched."""
    found = []
    for instance, options in document.policies.items():
        if policy_of(instance, options) != "quota":
            continue
        table = msgspec.convert(options, _Table)
        if table.per in _LONG and table.key in ("consumer", ["consumer"]):
            starts = datetime.fromisoformat(table.starts) if table.starts else ANCHOR
            calendar = Calendar(table.per, ZoneInfo(table.time_zone), starts)
            costs = {plan: _costs(document, instance, table, plan) for plan in ("", *document.plans)}
            found.append(Quota(instance, table, calendar, costs))
    return found


def _costs(document: Document, instance: str, table: _Table, plan: str) -> dict[str, int]:
    return {
        name: table.weights.get(name, 1)
        for name, route in document.routes.items()
        if any(instance in level for level in levels(document, route, plan))
    }


def exhausted_at(limit: float, used: float, now: int, end: int, demand: Callable[[int], float]) -> int | None:
    """When `used` reaches `limit` if from second `now` on each hour takes `demand(hour)`; None: not before `end`."""
    at = now
    while at < end:
        used += demand(at)
        at += HOUR
        if used >= limit:
            return min(at, end)
    return end if used >= limit else None


def demand_of(hours: Mapping[int, float], now: int) -> Callable[[int], float]:
    """What an hour will take: the mean of its hour of the week in the past, times how the last day was beside its own.

    `hours` are what past hours took, by their beginning. With less than two weeks of these every hour takes the same.
    """
    last = sum(taken for hour, taken in hours.items() if hour >= now - DAY)
    first = min(hours, default=now)
    if now - first < 14 * DAY:
        return lambda _: last * HOUR / DAY
    sums: dict[int, float] = defaultdict(float)
    for hour, taken in hours.items():
        if hour < now - DAY:
            sums[hour // HOUR % SLOTS] += taken
    weeks = max(1.0, (now - DAY - first) / (7 * DAY))
    usual = sum(sums[hour // HOUR % SLOTS] / weeks for hour in range(now - DAY, now, HOUR))
    if usual < 1:
        return lambda _: last * HOUR / DAY
    growth = min(_MOST_GROWTH, last / usual)
    return lambda hour: sums[hour // HOUR % SLOTS] / weeks * growth


def quota_burn(ground: Ground, hour: int, watched: Sequence[Quota]) -> list[Finding]:
    """Quotas that will not last, as of the end of the hour that begins at second `hour`."""
    if not watched:
        return []
    now = hour + HOUR
    plans = dict(ground.cursor.execute(_PLANS, {"since": stamp(hour), "until": stamp(now)}).fetchall())
    findings = list(_refused(ground, hour, watched))
    said_of = {finding.subject for finding in findings}
    sums: dict[tuple[int, bool], list[tuple[str, str, float]]] = {}
    for quota in watched:
        period = quota.calendar.period(hour)
        key = period.start, quota.table.charge == "success"
        if key not in sums:
            query = {"since": stamp(period.start), "until": stamp(now), "success": key[1]}
            sums[key] = ground.cursor.execute(_USED, query).fetchall()
        for consumer, used in _used(quota, sums[key], plans).items():
            if used >= ground.document.alerts.quota_burn.used * quota.table.limit:
                finding = _forecast(ground, quota, consumer, plans[consumer], used, period, now)
                if finding is not None and finding.subject not in said_of:
                    findings.append(finding)
    return findings


def _used(quota: Quota, sums: Iterable[tuple[str, str, float]], plans: Mapping[str, str]) -> dict[str, float]:
    """What consumers that were there in the last hour have used of the period, of calls by consumer and route."""
    used: dict[str, float] = defaultdict(float)
    for consumer, route, calls in sums:
        if consumer in plans:
            used[consumer] += calls * quota.of_plan(plans[consumer]).get(route, 0)
    return dict(sorted(used.items()))


def _forecast(
    ground: Ground, quota: Quota, consumer: str, plan: str, used: float, period: Period, now: int
) -> Finding | None:
    costs = quota.of_plan(plan)
    known = {"routes": list(costs), "costs": list(costs.values())}
    query = {"consumer": consumer, "since": stamp(now - HISTORY * DAY), "until": stamp(now), **known}
    hours = dict(ground.cursor.execute(_DEMAND, query).fetchall())
    end = exhausted_at(quota.table.limit, used, now, period.end, demand_of(hours, now))
    if end is None:
        return None
    part = (end - period.start) / (period.end - period.start)
    score = score_of(part, ground.document.alerts.quota_burn)
    if score < WARM:
        return None
    day, last = ground.calendar.local(end), ground.calendar.local(period.end)
    text = (
        f"consumer {consumer} has used {said(used)} of the {said(quota.table.limit)} calls of {quota.instance}, and "
        f"as things go the rest by {day:%Y-%m-%d %H:%M %Z}; the {quota.table.per} ends {last:%Y-%m-%d %H:%M %Z}"
    )
    share = (now - period.start) / (period.end - period.start)
    observed = used / quota.table.limit
    return Finding("quota_burn", Subject(CONSUMER, consumer, quota.instance), now, DAY, score, share, observed, text)


def score_of(part: float, config: QuotaBurn) -> float:
    """For a quota that is used up after `part` of its period: 1 at `before`, 2 at half of that."""
    if part > config.before:
        return 0.7 if part <= config.before + _SOON else 0.0
    return 1 + 2 * (config.before - part) / config.before


def _refused(ground: Ground, hour: int, watched: Sequence[Quota]) -> Iterator[Finding]:
    """Quotas that refused calls in the hour though much of their period is left."""
    by_name = {quota.instance: quota for quota in watched}
    query = {"since": stamp(hour), "until": stamp(hour + HOUR)}
    told = set()
    for consumer, verdicts, calls in ground.cursor.execute(_REFUSED, query).fetchall():
        names = [verdict.partition(":")[0] for verdict in verdicts.split() if verdict.endswith(":refused")]
        quota = next((by_name[name] for name in names if name in by_name), None)
        if quota is None or (consumer, quota.instance) in told:
            continue
        period = quota.calendar.period(hour)
        part = (hour - period.start) / (period.end - period.start)
        if part > ground.document.alerts.quota_burn.before:
            continue
        told.add((consumer, quota.instance))
        last = ground.calendar.local(period.end)
        text = (
            f"consumer {consumer} has used up {quota.instance}: {said(calls)} calls were refused within an hour; "
            f"the {quota.table.per} ends {last:%Y-%m-%d %H:%M %Z}"
        )
        subject = Subject(CONSUMER, consumer, quota.instance)
        yield Finding("quota_burn", subject, hour + HOUR, DAY, 2.0, part, 1.0, text)
