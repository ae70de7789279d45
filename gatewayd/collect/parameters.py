"""Parameters of questions: each said once, for those who read them and for the OpenAPI description."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from gatewayd.config.units import Duration, Moment, UnitError
from gatewayd.errors import Fault, GatewaydError

MICROSECONDS = 1_000_000
LONGEST = 1_000
"""Characters of most values."""
_MOST_VALUES = 100
_LATEST = 4_102_444_800
"""Seconds since the epoch: the year 2100."""
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_CLASS = re.compile(r"([1-5])xx", re.ASCII | re.IGNORECASE)
_STATUS = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", re.ASCII)

Schema = dict[str, Any]
"""A JSON Schema (OpenAPI 3.1 takes draft 2020-12 as it is)."""


class BadParameters(GatewaydError):
    """A question that cannot be answered as it was put: all that is wrong with it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Wrong(ValueError):
    """A value that a parameter cannot have; `allowed` says what it could be."""

    def __init__(self, message: str, allowed: str = "") -> None:
        super().__init__(message)
        self.allowed = allowed


class Ago(NamedTuple):
    """A time that is said from now."""

    seconds: float


@dataclass(frozen=True)
class Parameter:
    """One parameter: `read` makes of a text what is asked with; it raises `Wrong`.

    `many`: it may be given more than once, and is a tuple then; otherwise it is None where it is not given.
    """

    name: str
    text: str
    read: Callable[[str], Any]
    schema: Schema
    many: bool = False
    longest: int = LONGEST
    """Characters."""

    def described(self) -> Schema:
        """As an OpenAPI parameter object."""
        schema = {"type": "array", "items": self.schema, "maxItems": _MOST_VALUES} if self.many else self.schema
        return {"name": self.name, "in": "query", "required": False, "description": self.text, "schema": schema}


def read_all(parameters: Iterable[Parameter], given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What each parameter is, by name, of the pairs `given`. Raises `BadParameters` with all that is wrong."""
    known = {parameter.name: parameter for parameter in parameters}
    found: dict[str, list[Any]] = {name: [] for name in known}
    faults = []
    for name, text in given:
        try:
            parameter = known[name]
            if found[name] and not parameter.many:
                raise Wrong("is given more than once")
            if len(found[name]) == _MOST_VALUES:
                raise Wrong("is given too often", f"{_MOST_VALUES} times")
            found[name].append(parameter.read(_plain(text, parameter.longest)))
        except KeyError:
            faults.append(_unknown(name, known))
        except Wrong as error:
            faults.append(Fault(name, str(error), found=repr(text[:LONGEST]), allowed=error.allowed))
    if faults:
        raise BadParameters(faults)
    return {name: tuple(values) if known[name].many else next(iter(values), None) for name, values in found.items()}


def _unknown(name: str, known: Iterable[str]) -> Fault:
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]}?" if close else ""
    return Fault(name[:LONGEST], "is no parameter of this", allowed=", ".join(known), hint=hint)


def _plain(text: str, longest: int) -> str:
    """`text`, unless it is longer than any value, or holds what no record holds."""
    if len(text) > longest:
        raise Wrong("is too long", f"{longest} characters")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise Wrong("holds a character that stands for nothing")
    return text


def text(
    name: str,
    meaning: str,
    *,
    read: Callable[[str], Any] = str,
    many: bool = False,
    longest: int = LONGEST,
) -> Parameter:
    """Any text, or one that `read` makes sense of."""
    return Parameter(name, meaning, read, {"type": "string", "maxLength": longest}, many, longest)


def whole(name: str, meaning: str, low: int, high: int, default: int) -> Parameter:
    """A whole number."""
    allowed = f"{low} to {high}"

    def read(value: str) -> int:
        if not _WHOLE.fullmatch(value) or not low <= int(value) <= high:
            raise Wrong("is no such number", allowed)
        return int(value)

    schema = {"type": "integer", "minimum": low, "maximum": high, "default": default}
    return Parameter(name, meaning, read, schema)


def one_of(name: str, meaning: str, choices: Iterable[str], default: str | None = None) -> Parameter:
    """One of a few words."""
    words = list(choices)

    def read(value: str) -> str:
        if value not in words:
            close = difflib.get_close_matches(value, words, 1)
            raise Wrong(f"is no choice; did you mean {close[0]}?" if close else "is no choice", ", ".join(words))
        return value

    schema: Schema = {"type": "string", "enum": words}
    return Parameter(name, meaning, read, schema if default is None else {**schema, "default": default})


def flag(name: str, meaning: str) -> Parameter:
    """`true` or `false`."""

    def read(value: str) -> bool:
        if value not in ("true", "false"):
            raise Wrong("is neither true nor false", "true, false")
        return value == "true"

    return Parameter(name, meaning, read, {"type": "boolean", "default": False})


def moment(name: str, meaning: str) -> Parameter:
    """A time with its zone, a date, or how long ago: microseconds since the epoch, or `Ago`."""
    schema = {"type": "string", "examples": ["2027-01-31T12:00:00Z", "2027-01-31", "15m"]}
    return Parameter(name, meaning, _moment, schema)


def _moment(value: str) -> int | Ago:
    allowed = 'a time with its zone such as "2027-01-31T12:00:00Z", a date, or how long ago such as "15m"'
    try:
        if re.match(r"[0-9]{4}-", value):
            return _plausible(Moment.parse(value))
    except UnitError as error:
        raise Wrong(str(error), allowed) from None
    try:
        return Ago(Duration.parse(value))
    except UnitError:
        raise Wrong("is no time", allowed) from None


def _plausible(moment: float) -> int:
    if not 0 <= moment < _LATEST:
        raise Wrong("is no time of a call", "1970 to 2099")
    return round(moment * MICROSECONDS)


def resolved(when: int | Ago | None, now: float) -> int | None:
    """The microseconds since the epoch that `when` is, at `now` (seconds since the epoch)."""
    return max(0, round((now - when.seconds) * MICROSECONDS)) if isinstance(when, Ago) else when


def status(name: str, meaning: str) -> Parameter:
    """Status codes: one, a class such as `5xx`, or from – to; as the lowest and the highest."""
    return Parameter(name, meaning, _status, {"type": "string", "examples": ["404", "5xx", "400-499"]}, many=True)


def _status(value: str) -> tuple[int, int]:
    by_class = _CLASS.fullmatch(value)
    if by_class:
        low = int(by_class[1]) * 100
        return low, low + 99
    found = _STATUS.fullmatch(value)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise Wrong("is no status", "a status such as 404, a class such as 5xx, or a range such as 400-499")
    return int(found[1]), int(found[2] or found[1])


def pairs(body: Mapping[str, object]) -> list[tuple[str, str]]:
    """A JSON object's members as `read_all` takes them: lists are values given more than once.

    Raises `BadParameters` for what is no value.
    """
    each = [(name, value) for name, values in body.items() for value in (values if type(values) is list else [values])]
    wrong = [name for name, value in each if not isinstance(value, str | int | float)]
    if wrong:
        raise BadParameters(Fault(name, "is neither a text nor a number") for name in dict.fromkeys(wrong))
    return [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in each]
