"""What is answered to questions, in the shapes that JSON and the OpenAPI description have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from gatewayd.collect.schema import CALLS_COLUMNS, PERSONAL
from gatewayd.collect.sources import Source
from gatewayd.collect.stats import Change, Measures, Ranked
from gatewayd.errors import Fault

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS = {"VARCHAR": "string", "BOOLEAN": "boolean"}


class Period(msgspec.Struct, rename={"begin": "from", "end": "to"}):
    """What figures are about: at least what was asked for, in whole steps of what it was counted from."""

    begin: str
    end: str
    """Itself not included."""
    seconds: float
    source: str
    """`calls`, or the resolutions of rollups, such as `1h+1m`."""
    oldest: str | None
    """Where what is kept begins; null: nothing is."""


class TopAnswer(msgspec.Struct):
    """The first keys by some measure, and all keys together."""

    period: Period
    by: str | None
    order: str
    total: Measures
    rows: list[Ranked]


class PointAnswer(msgspec.Struct):
    """One step of a series, which begins at `at`."""

    at: str
    measures: Measures


class SeriesAnswer(msgspec.Struct):
    """How figures went over time."""

    period: Period
    step: str
    points: list[PointAnswer]


class Difference(msgspec.Struct):
    """What became of a measure; `relative` is null where there was none before."""

    absolute: float
    relative: float | None


class ChangeAnswer(msgspec.Struct):
    """What became of a key: each measure now, before, and the difference."""

    key: str
    now: Measures
    then: Measures
    change: dict[str, Difference]


class CompareAnswer(msgspec.Struct):
    """What changed between two periods."""

    now: Period
    then: Period
    by: str | None
    order: str
    total: ChangeAnswer
    rows: list[ChangeAnswer]


class ExportAnswer(msgspec.Struct):
    """A file that was written."""

    path: str
    rows: int
    bytes: int


class ErrorAnswer(msgspec.Struct):
    """Why there is no answer."""

    error: str
    faults: list[Fault] = []
    """What is wrong with each parameter."""


ANSWERS = (TopAnswer, SeriesAnswer, CompareAnswer, ExportAnswer, ErrorAnswer)
COMPONENT = "#/components/schemas/{name}"


def components() -> dict[str, Any]:
    """JSON Schemas of all answers, by name."""
    _, schemas = msgspec.json.schema_components(ANSWERS, ref_template=COMPONENT)
    call = {name: _column(name, kind) for name, kind in CALLS_COLUMNS.items()}
    shown = [name for name in CALLS_COLUMNS if name != "captured"]
    schemas["Call"] = {"type": "object", "title": "Call", "properties": call, "required": shown}
    calls = {"type": "array", "items": reference("Call")}
    position = {"type": "string", "description": "Where to follow from."}
    page = {"calls": calls, "cursor": {"type": "string", "description": '"" behind the last.'}, "position": position}
    schemas["Page"] = {"type": "object", "title": "Page", "properties": page, "required": list(page)}
    news = {"calls": calls, "position": position}
    schemas["News"] = {"type": "object", "title": "News", "properties": news, "required": list(news)}
    return schemas


def reference(name: str) -> dict[str, str]:
    """A reference to one of `components`."""
    return {"$ref": COMPONENT.format(name=name)}


def _column(name: str, kind: str) -> dict[str, Any]:
    if name == "captured":
        return {"type": ["object", "null"], "description": "Headers and bodies, where the route captures them."}
    if name == "at":
        return {"type": "string", "format": "date-time"}
    plain = _KINDS.get(kind, "integer")
    if name in PERSONAL:
        return {"type": [plain, "null"], "description": "null once its person was erased."}
    return {"type": plain}


def period_of(source: Source) -> Period:
    """The period that figures of a source are about."""
    oldest = None if source.oldest is None else rfc3339(source.oldest)
    seconds = (source.end - source.begin) / 1_000_000
    return Period(rfc3339(source.begin), rfc3339(source.end), seconds, source.name, oldest)


def change_of(change: Change) -> ChangeAnswer:
    """A change with its differences."""
    now, then = msgspec.structs.asdict(change.now), msgspec.structs.asdict(change.then)
    differences = {
        name: Difference(now[name] - then[name], (now[name] - then[name]) / then[name] if then[name] else None)
        for name in now
    }
    return ChangeAnswer(change.key, change.now, change.then, differences)


def rfc3339(microseconds: int) -> str:
    """A time since the epoch as text, in UTC."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat().replace("+00:00", "Z")
