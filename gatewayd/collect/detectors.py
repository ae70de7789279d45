"""Detectors that read calls: enumeration by the minute, credential sharing by ten, and off-hours use by the hour.

Each is handed the ground and a stretch of time that is over, and says what it found there, oldest first.
"""

from __future__ import annotations

# ruff: noqa: S608 - all SQL is made of constants of this project, values are parameters
from typing import NamedTuple

from gatewayd.collect.baselines import DAY, HOUR, SLOTS
from gatewayd.collect.finding import ADDRESS, CONSUMER, CREDENTIAL, NETWORK, WARM, Finding, Subject, said
from gatewayd.collect.ground import Ground
from gatewayd.collect.peaks import DAYS, HOLD_OFF, NEAR, NONE, Past
from gatewayd.collect.seasonal import when
from gatewayd.collect.usual import stamp
from gatewayd.config.alerts import Sharing

WEEKS = DAYS // 7
MINUTE, TOGETHER = 60, 600
"""Seconds of a window of enumeration, and of credential sharing."""
QUIET = 20
"""Off hours: a consumer made at most this part of the calls in any week at, or within an hour of, that hour."""
REGULAR = 0.6
"""Share of a consumer's calls that come at the same hours every week: who has no regular hours has no off hours."""
GUESSED = 0.3
"""Enumeration: share of the values that are not there, or not theirs (404, 403), from which on it is guesswork."""
_FOUND = 2.0
"""Who finds what it asks for may be a large job: so many times more is wanted then, and of its worst day, too."""
_MOST = 1_000
"""Of a stretch, what had most: further ones are not looked at."""


def _distinct(seconds: int, keys: str, value: str, condition: str) -> str:
    """A query for how many different values there were of each combination of keys, in stretches of so many seconds.

    Rows of `began`, the keys, the number, how many of them were answered 403 or 404, and whether they are of several
    consumers, or of nobody known. What has many is found by hashes alone, and named afterwards: millions of calls are
    looked at in a few MiB.
    """
    began = f'time_bucket(INTERVAL {seconds} SECOND, "at")'
    calls = f'FROM calls WHERE "at" >= $since AND "at" < $until AND {condition}'
    return f"""
        WITH many AS (
            SELECT g, count(*) AS number, count(*) FILTER (denied) AS denied FROM (
                SELECT hash({began}, {keys}) AS g, hash({value}) AS v, bool_or(status IN (403, 404)) AS denied {calls}
                GROUP BY g, v)
            GROUP BY g HAVING number >= $least ORDER BY number DESC, g LIMIT {_MOST}
        ), named AS (
            SELECT DISTINCT hash({began}, {keys}) AS g, {began} AS began, {keys}, consumer AS who {calls}
        )
        SELECT epoch(any_value(began))::BIGINT AS began, {", ".join(f"any_value({key})" for key in keys.split(", "))},
               any_value(number)::BIGINT AS number, any_value(denied)::BIGINT, count(*) > 2 OR min(who) = ''
        FROM named JOIN many USING (g) GROUP BY g ORDER BY began, number DESC, g
    """


_ASKED = {
    kind: _distinct(MINUTE, f"operation, {keys}", '"values"', f"\"values\" <> '' AND {condition}")
    for kind, keys, condition in (
        (CONSUMER, "consumer", "consumer <> ''"),
        (CREDENTIAL, "consumer, credential", "consumer <> '' AND credential <> ''"),
        (ADDRESS, "client", "client <> ''"),
    )
}
_PLACES = {
    name: _distinct(TOGETHER, "consumer, credential", value, "credential <> '' AND client <> ''")
    for name, value in (("networks", NETWORK), ("agents", "agent"))
}
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
    name: str
    """A consumer; a consumer and its credential, with a slash; an address."""
    ids: int
    denied: int
    """Of these, how many were answered 403 or 404."""

    @property
    def guessed(self) -> bool:
        """Whether it looks as if the values were guessed."""
        return self.denied >= GUESSED * self.ids

    @property
    def consumer(self) -> str:
        """Whose it is, if that is known."""
        return "" if self.kind == ADDRESS else self.name.partition("/")[0]

    @property
    def past(self) -> str:
        """Whose past it is compared with: addresses come and go, so theirs is that of all on the operation."""
        return f"{self.kind}:{'' if self.kind == ADDRESS else self.name} {self.operation}"


def enumeration(ground: Ground, since: int, until: int) -> list[Finding]:
    """Many different path values in one minute on one operation, by consumer, by credential and by address."""
    config = ground.document.alerts.enumeration
    asked = _asked(ground, since, until, max(2, config.distinct * NEAR))
    begun = ground.peaks.since("enumeration", since)
    pasts = ground.peaks.past("enumeration", {each.past for each in asked}, since)
    ground.peaks.note("enumeration", ((each.past, each.at, each.ids) for each in asked))
    findings: list[Finding] = []
    for each in asked:
        past = pasts.get(each.past, NONE)
        score = each.ids / max(config.distinct, _allowed(each, past, config.times))
        known = each.at - begun >= HOLD_OFF and (not each.consumer or ground.age(each.consumer, each.at) >= HOLD_OFF)
        if score >= WARM and known and not _explained(each, findings):
            findings.append(_enumerated(ground, each, past, score))
    return findings


def _allowed(each: _Asked, past: Past, times: float) -> float:
    """How many values are still explained by the past."""
    return times * past.usual if each.guessed else _FOUND * max(times * past.usual, past.worst)


def _asked(ground: Ground, since: int, until: int, least: float) -> list[_Asked]:
    """By minutes; consumers come before their credentials, and both before addresses.

    An address of one or two consumers is theirs, and known as such; one of many, or of nobody, is looked at.
    """
    query = {"since": stamp(since), "until": stamp(until), "least": least}
    found = []
    for kind, text in _ASKED.items():
        for at, operation, *names, ids, denied, apart in ground.cursor.execute(text, query).fetchall():
            if kind != ADDRESS or apart:
                found.append(_Asked(at, kind, operation, "/".join(names), ids, denied))
    return sorted(found, key=lambda each: each.at)


def _explained(each: _Asked, findings: list[Finding]) -> bool:
    """Whether one found before in the same minute asked for most of it: a consumer's credential, its address."""
    return any(
        found.at == each.at + MINUTE and found.subject.about == each.operation and found.observed * 2 >= each.ids
        for found in findings
        if (each.kind == ADDRESS and found.subject.kind != ADDRESS)
        or found.subject == Subject(CONSUMER, each.consumer, each.operation)
    )


def _enumerated(ground: Ground, each: _Asked, past: Past, score: float) -> Finding:
    name = ground.veil(each.name) if each.kind == ADDRESS else each.name
    subject = Subject(each.kind, name, each.operation)
    at = ground.calendar.local(each.at)
    text = (
        f"{subject.title} asked for {each.ids} different {each.operation} within the minute of {at:%Y-%m-%d %H:%M %Z}, "
        f"{each.denied} of them answered 403 or 404; its most in {WEEKS} weeks is {said(past.usual)}, "
        f"or {said(past.worst)} on its worst day"
    )
    return Finding("enumeration", subject, each.at + MINUTE, MINUTE, score, past.usual, each.ids, text)


def sharing(ground: Ground, since: int, until: int) -> list[Finding]:
    """One credential from many networks or programs, in the stretches of ten minutes that end in the given time."""
    config = ground.document.alerts.sharing
    since, until = since // TOGETHER * TOGETHER, until // TOGETHER * TOGETHER
    if since == until:
        return []
    found = _places(ground, since, until, config)
    begun = ground.peaks.since("sharing", since)
    keys = {place: [f"{place.consumer}/{place.credential} {kind}" for kind in _PLACES] for place in found}
    pasts = ground.peaks.past("sharing", {key for several in keys.values() for key in several}, since)
    counted = [(key, place.at, count) for place in found for key, count in zip(keys[place], found[place], strict=True)]
    ground.peaks.note("sharing", [each for each in counted if each[2]])
    findings = []
    for place, counts in sorted(found.items()):
        if place.at - begun >= HOLD_OFF and ground.age(place.consumer, place.at) >= HOLD_OFF:
            past = [pasts.get(key, NONE).usual for key in keys[place]]
            findings.append(_shared(ground, place, counts, past, config))
    return [each for each in findings if each.score >= WARM]


class _Place(NamedTuple):
    """Ten minutes of a credential."""

    at: int
    consumer: str
    credential: str


def _places(ground: Ground, since: int, until: int, config: Sharing) -> dict[_Place, list[int]]:
    """Numbers of networks and of programs; 0 where they are far from too many."""
    found: dict[_Place, list[int]] = {}
    for index, (text, enough) in enumerate(zip(_PLACES.values(), (config.networks, config.agents), strict=True)):
        query = {"since": stamp(since), "until": stamp(until), "least": max(2, enough * NEAR)}
        for at, consumer, credential, count, *_ in ground.cursor.execute(text, query).fetchall():
            found.setdefault(_Place(at, consumer, credential), [0, 0])[index] = count
    return found


def _shared(ground: Ground, place: _Place, counts: list[int], past: list[float], config: Sharing) -> Finding:
    floors = (config.networks, config.agents)
    enough = [max(floor, config.times * most) for floor, most in zip(floors, past, strict=True)]
    scores = [count / most for count, most in zip(counts, enough, strict=True)]
    best = scores.index(max(scores))
    what = " and ".join(f"{count} {name}" for name, count in zip(_NAMES, counts, strict=True) if count)
    text = (
        f"credential {place.credential} of consumer {place.consumer} was used from {what} within the ten minutes from "
        f"{ground.calendar.local(place.at):%Y-%m-%d %H:%M %Z}; its most in {WEEKS} weeks are {said(past[0])} and "
        f"{said(past[1])}, the worst day left out"
    )
    subject = Subject(CREDENTIAL, f"{place.consumer}/{place.credential}")
    at = place.at + TOGETHER
    return Finding("sharing", subject, at, TOGETHER, scores[best], past[best], float(counts[best]), text)


_NAMES = ("networks", "programs")


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
