"""Detectors that read calls: enumeration by the minute, credential sharing by ten, and off-hours use by the hour.

Each is handed the ground and a stretch of time that is over, and says what it found there, oldest first.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gatewayd.collect.baselines import DAY, HOUR, SLOTS
from gatewayd.collect.finding import ADDRESS, CONSUMER, CREDENTIAL, WARM, Finding, Subject, said
from gatewayd.collect.ground import Ground
from gatewayd.collect.peaks import HOLD_OFF, NEAR
from gatewayd.collect.seasonal import when
from gatewayd.collect.usual import stamp

MINUTE, TOGETHER = 60, 600
"""Seconds of a window of enumeration, and of credential sharing."""
QUIET = 20
"""Off hours: a consumer made at most this part of the calls in any week at, or within an hour of, that hour."""
REGULAR = 0.7
"""Share of a consumer's hours that are the same every other week at least: who has no regular hours has no off hours."""
_DISTINCT = """
SELECT epoch(minute)::BIGINT AS began, grouping(minute, operation, consumer, credential, client) AS grouped, operation,
       coalesce(consumer, '') AS consumer, coalesce(credential, ''), coalesce(client, ''), count(DISTINCT "values") AS ids,
       count(DISTINCT consumer) AS consumers, min(consumer) = '' AS nobody
FROM (SELECT time_bucket(INTERVAL 1 MINUTE, "at") AS minute, operation, consumer, credential, client, "values" FROM calls
      WHERE "at" >= $since AND "at" < $until AND "values" <> '')
GROUP BY GROUPING SETS ((minute, operation, consumer), (minute, operation, consumer, credential),
                        (minute, operation, client))
HAVING ids >= $least AND (client IS NULL OR consumers > 2 OR nobody) ORDER BY began, grouped DESC, ids DESC, operation, consumer
"""
_BY = {0b011: CONSUMER, 0b001: CREDENTIAL, 0b110: ADDRESS}
"""What a row is grouped by, from the bits of `grouping`."""
_PLACES = """
SELECT epoch(began)::BIGINT AS began, consumer, credential, count(DISTINCT network) AS networks, count(DISTINCT agent) AS agents
FROM (SELECT time_bucket(INTERVAL 10 MINUTE, "at") AS began, consumer, credential, agent,
             CASE WHEN contains(client, ':') THEN array_to_string(string_split(client, ':')[1:3], ':')
                  ELSE regexp_replace(client, '\\.[0-9]+$', '') END AS network
      FROM calls WHERE "at" >= $since AND "at" < $until AND credential <> '' AND client <> '')
GROUP BY ALL HAVING networks >= $networks OR agents >= $agents ORDER BY began, consumer, credential
"""
_OFF_HOURS = """
WITH present AS (
    SELECT subject, calls FROM usual_1h JOIN regular USING (subject)
    WHERE kind = 'consumer' AND bucket = $hour AND calls >= $least AND share >= $regular AND subject <> ''
), past AS (
    SELECT subject, max(usual_1h.calls) AS most FROM usual_1h JOIN all_hours USING (bucket) JOIN present USING (subject)
    WHERE kind = 'consumer' AND list_contains($slots, slot) GROUP BY ALL
)
SELECT subject, present.calls, coalesce(most, 0) FROM present LEFT JOIN past USING (subject)
WHERE coalesce(most, 0) * $quiet <= present.calls ORDER BY subject
"""


class _Asked(NamedTuple):
    """So many different values in a minute."""

    at: int
    kind: str
    operation: str
    consumer: str
    credential: str
    client: str
    ids: int

    @property
    def past(self) -> str:
        """Whose past it is compared with: addresses come and go, so theirs is that of all on the operation."""
        name = {CONSUMER: self.consumer, CREDENTIAL: f"{self.consumer}/{self.credential}"}.get(self.kind, "")
        return f"{self.kind}:{name} {self.operation}"


def enumeration(ground: Ground, since: int, until: int) -> list[Finding]:
    """Many different path values in one minute on one operation, by consumer, by credential and by address."""
    config = ground.document.alerts.enumeration
    query = {"since": stamp(since), "until": stamp(until), "least": max(2, config.distinct * NEAR)}
    found = ground.cursor.execute(_DISTINCT, query).fetchall()
    asked = [_Asked(at, _BY[by], *rest[:5]) for at, by, *rest in found]
    asked = [each for each in asked if each.consumer or (each.kind == ADDRESS and each.client)]
    begun = ground.peaks.since("enumeration", since)
    usual = ground.peaks.usual("enumeration", {each.past for each in asked}, since)
    ground.peaks.note("enumeration", ((each.past, each.at, each.ids) for each in asked))
    findings: list[Finding] = []
    for each in asked:
        past = usual.get(each.past, 0.0)
        score = each.ids / max(config.distinct, config.times * past)
        known = each.at - begun >= HOLD_OFF and (not each.consumer or ground.age(each.consumer, each.at) >= HOLD_OFF)
        if score >= WARM and known and not _explained(each, findings):
            findings.append(_enumerated(ground, each, past, score))
    return findings


def _explained(each: _Asked, findings: list[Finding]) -> bool:
    """Whether one found before in the same minute asked for most of it: a consumer's credential, its address."""
    return any(
        found.at == each.at + MINUTE and found.subject.about == each.operation and found.observed * 2 >= each.ids
        for found in findings
        if each.kind == ADDRESS or found.subject == Subject(CONSUMER, each.consumer, each.operation)
    )


def _enumerated(ground: Ground, each: _Asked, past: float, score: float) -> Finding:
    names = {CONSUMER: each.consumer, CREDENTIAL: f"{each.consumer}/{each.credential}"}
    subject = Subject(each.kind, names.get(each.kind) or ground.veil(each.client), each.operation)
    at = ground.calendar.local(each.at)
    text = (
        f"{subject.title} asked for {each.ids} different {each.operation} within the minute of {at:%Y-%m-%d %H:%M %Z}; "
        f"its most in four weeks is {said(past)}, the worst day left out"
    )
    return Finding("enumeration", subject, each.at + MINUTE, MINUTE, score, past, each.ids, text)


def sharing(ground: Ground, since: int, until: int) -> list[Finding]:
    """One credential from many networks or programs, in the stretches of ten minutes that end in the given time."""
    config = ground.document.alerts.sharing
    since, until = since // TOGETHER * TOGETHER, until // TOGETHER * TOGETHER
    least = {"networks": max(2, config.networks * NEAR), "agents": max(2, config.agents * NEAR)}
    if since == until:
        return []
    found = ground.cursor.execute(_PLACES, {"since": stamp(since), "until": stamp(until), **least}).fetchall()
    begun = ground.peaks.since("sharing", since)
    usual = ground.peaks.usual("sharing", {f"{each[1]}/{each[2]} {kind}" for each in found for kind in _KINDS}, since)
    places = [(f"{each[1]}/{each[2]} {kind}", each[0], each[at]) for each in found for kind, at in _KINDS.items()]
    ground.peaks.note("sharing", places)
    findings = []
    for at, consumer, credential, *counts in found:
        if at - begun < HOLD_OFF or ground.age(consumer, at) < HOLD_OFF:
            continue
        past = [usual.get(f"{consumer}/{credential} {kind}", 0.0) for kind in _KINDS]
        enough = [max(floor, config.times * most) for floor, most in zip(_floors(config), past, strict=True)]
        scores = [count / most for count, most in zip(counts, enough, strict=True)]
        best = scores.index(max(scores))
        if scores[best] >= WARM:
            shown = ground.calendar.local(at)
            text = (
                f"credential {credential} of consumer {consumer} was used from {counts[0]} networks with {counts[1]} "
                f"programs within the ten minutes from {shown:%Y-%m-%d %H:%M %Z}; its most in four weeks are "
                f"{said(past[0])} and {said(past[1])}, the worst day left out"
            )
            subject = Subject(CREDENTIAL, f"{consumer}/{credential}")
            observed = float(counts[best])
            findings.append(
                Finding("sharing", subject, at + TOGETHER, TOGETHER, scores[best], past[best], observed, text)
            )
    return findings


_KINDS = {"networks": 3, "agents": 4}
"""What is counted, and where it stands in a row."""


def _floors(config: Any) -> tuple[int, int]:
    return config.networks, config.agents


def off_hours(ground: Ground, hour: int) -> list[Finding]:
    """Consumers with regular hours that were there in the hour from second `hour`, and never were in past weeks."""
    alerts = ground.document.alerts
    slot = ground.calendar.slot(hour)
    query = {
        "hour": stamp(hour),
        "least": alerts.off_hours.min_calls * WARM,
        "regular": REGULAR,
        "slots": [(slot + step) % SLOTS for step in (-1, 0, 1)],
        "quiet": QUIET,
    }
    findings = []
    for name, calls, most in ground.cursor.execute(_OFF_HOURS, query).fetchall():
        if ground.age(name, hour) < alerts.min_weeks * 7 * DAY:
            continue
        subject = Subject(CONSUMER, name)
        score = min(calls / alerts.off_hours.min_calls, 1 + calls / (10 * alerts.off_hours.min_calls))
        text = (
            f"{subject.title} made {said(calls)} calls at an hour of the week at which it made "
            f"{'none' if not most else f'at most {said(most)}'} in past weeks {when(hour, ground.calendar)}"
        )
        findings.append(Finding("off_hours", subject, hour + HOUR, HOUR, score, most, calls, text))
    return findings
