"""What a segment with a typed, patterned or mixed parameter takes, and how two of them relate.

Two such segments at the same place of two templates are in order if one is *narrower* (all it takes, the
other takes too), and need no order if they are *disjoint* (no segment fits both). Both relations are
answered "for sure": False means not known, and then routes are ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Take = Callable[[bytes], "bytes | None"]
"""The parameter's value in a segment that is not empty, None where the segment does not fit."""

_is_uuid = re.compile(rb"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch
_is_slug = re.compile(rb"[A-Za-z0-9_-]+").fullmatch

_ACCEPT: dict[str, Callable[[bytes], object]] = {
    "int": bytes.isdigit,
    "uuid": _is_uuid,
    "slug": _is_slug,
    "regex": len,
    "any": len,
}
"""Kinds of parameters, narrower ones first, and what tells a value of each (a regex brings its own)."""

_RANKS = {kind: rank for rank, kind in enumerate(_ACCEPT)}
_ALPHABETS = {
    "int": frozenset(b"0123456789"),
    "uuid": frozenset(b"0123456789ABCDEFabcdef-"),
    "slug": frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"),
}
_WITHIN = {"int": ("int",), "slug": ("int", "uuid", "slug")}
"""Kinds that take every run of their alphabet, and the kinds made of no other characters."""
_AS_REGEX = {"int": b"[0-9]+", "uuid": b"[0-9A-Fa-f-]{36}", "slug": b"[A-Za-z0-9_-]+", "any": b".+"}
_RANGE_BYTES = 16
_EVERYTHING = (b"", b"\xff" * _RANGE_BYTES)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A segment that is neither literal nor a plain parameter: `prefix`, a value of `kind`, `suffix`."""

    prefix: bytes
    kind: str
    regex: str
    suffix: bytes
    take: Take = field(compare=False, repr=False)

    def __str__(self) -> str:
        value = {"any": "", "regex": f":/{self.regex}/"}.get(self.kind, f":{self.kind}")
        return f"{self.prefix.decode()}{{…{value}}}{self.suffix.decode()}"

    @property
    def order(self) -> tuple[int, int]:
        """Sorts narrower patterns first."""
        return -len(self.prefix) - len(self.suffix), _RANKS[self.kind]


def is_kind(name: str) -> bool:
    """Whether `name` can stand behind the colon of a parameter."""
    return name in _ALPHABETS


def make_pattern(prefix: bytes, kind: str, regex: str, suffix: bytes) -> Pattern:
    """The segment `prefix{name:kind}suffix`; raises `ValueError` for a regex that RE2 refuses."""
    accept = _compiled(regex.encode()).fullmatch if kind == "regex" else _ACCEPT[kind]
    take = _mixed(prefix, accept, suffix) if prefix or suffix else _whole(accept)
    return Pattern(prefix, kind, regex, suffix, take)


def _whole(accept: Callable[[bytes], object]) -> Take:
    def take(segment: bytes) -> bytes | None:
        return segment if accept(segment) else None

    return take


def _mixed(prefix: bytes, accept: Callable[[bytes], object], suffix: bytes) -> Take:
    start, end = len(prefix), len(suffix)

    def take(segment: bytes) -> bytes | None:
        stop = len(segment) - end
        if stop <= start or not segment.startswith(prefix) or not segment.endswith(suffix):
            return None
        value = segment[start:stop]
        return value if accept(value) else None

    return take


def _compiled(regex: bytes) -> Any:
    # Callers choose what it runs on, so it must be linear; imported here because few configurations need it.
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else reason) from None


def is_narrower(one: Pattern, other: Pattern) -> bool:
    """Whether everything `one` takes, `other` is known to take too."""
    if not one.prefix.startswith(other.prefix) or not one.suffix.endswith(other.suffix):
        return False
    if other.kind == "any":
        return True
    more = one.prefix[len(other.prefix) :] + one.suffix[: len(one.suffix) - len(other.suffix)]
    if other.kind in _WITHIN:
        return one.kind in _WITHIN[other.kind] and _ALPHABETS[other.kind].issuperset(more)
    return not more and (one.kind, one.regex) == (other.kind, other.regex)


def are_disjoint(one: Pattern, other: Pattern) -> bool:
    """Whether no segment is known to fit both."""
    if not _agree(one.prefix, other.prefix) or not _agree(one.suffix[::-1], other.suffix[::-1]):
        return True
    if _is_outside(one, other) or _is_outside(other, one):
        return True
    if "regex" in (one.kind, other.kind):
        (low, high), (other_low, other_high) = _range(one), _range(other)
        return high < other_low or other_high < low
    mixed = one.prefix + one.suffix + other.prefix + other.suffix
    return not mixed and {one.kind, other.kind} == {"int", "uuid"}


def _agree(one: bytes, other: bytes) -> bool:
    return one.startswith(other) or other.startswith(one)


def _is_outside(one: Pattern, other: Pattern) -> bool:
    """Whether the text around `one`'s parameter has a character where `other` takes none of the kind."""
    alphabet = _ALPHABETS.get(other.kind)
    if alphabet is None:
        return False
    before, behind = (
        one.prefix[len(other.prefix) :],
        one.suffix[: max(0, len(one.suffix) - len(other.suffix))],
    )
    if other.prefix or other.suffix:
        # A value has one character at least, so only those next to the text around it are sure to be its own.
        before, behind = before[:1], behind[-1:]
    return not alphabet.issuperset(before + behind)


def _range(pattern: Pattern) -> tuple[bytes, bytes]:
    """The first and the last text that could fit, in byte order, cut short."""
    import re2

    value = pattern.regex.encode() if pattern.kind == "regex" else _AS_REGEX[pattern.kind]
    whole = _compiled(re2.escape(pattern.prefix) + b"(?:" + value + b")" + re2.escape(pattern.suffix))
    try:
        low, high = whole.possiblematchrange(_RANGE_BYTES)
    except re2.error:
        return _EVERYTHING
    return low, high
