"""What is left of a configuration without its faults, so that rules across values, and builders, can be tried on it.

Only so can everything that is wrong be said at once. What is left may seem wrong for what was taken out: `leading_to`
tells where faults are mere consequences.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, get_origin, get_type_hints

import msgspec

from gatewayd.config.keys import Key, split
from gatewayd.config.model import Document, decode
from gatewayd.config.units import from_plain
from gatewayd.errors import Fault

Broken = dict[str, set[str]]
"""Names, by section, of entries that had to be left out whole."""

_LEFT_OUT = object()
_MEETING = {"hosts", "methods", "headers", "query", "listeners"}
"""Options of a route that keep it apart from others."""


def sound_part(raw: dict[str, Any], faults: Iterable[Fault]) -> tuple[Document, Broken]:
    """The document of `raw` without the values at `faults`, and what entries are not in it."""
    keys = [split(fault.path) for fault in faults]
    if not keys:
        return decode(raw), {}
    sound: dict[str, Any] = {}
    broken: Broken = {}
    for section, table in raw.items():
        below = [key[1:] for key in keys if key[:1] == (section,)]
        if not isinstance(table, dict) or () in below or section not in _KINDS:
            continue
        kind = _KINDS[section]
        if get_origin(kind) is dict:
            sound[section] = _entries(table, below, kind)
            broken[section] = table.keys() - sound[section].keys()
        else:
            sound[section] = _fit(table, below, 1, kind) or {}
    return decode(sound), broken


def leading_to(faults: Iterable[Fault]) -> set[Key]:
    """The keys of `faults` and of all they are part of. Faults there may only follow from what was taken out."""
    keys = [split(fault.path) for fault in faults]
    return {key[:depth] for key in keys for depth in range(1, len(key) + 1)}


_KINDS = get_type_hints(Document, include_extras=True)


def _entries(table: dict[str, Any], bad: list[Key], kind: Any) -> dict[str, Any]:
    """The entries of a section. A fault of an entry as a whole (say, that nothing answers a route) is no value's."""
    sound: dict[str, Any] = {}
    bad_of = defaultdict(list)
    for key in bad:
        if len(key) > 1:
            bad_of[key[0]].append(key)
    for number, (name, entry) in enumerate(table.items()):
        its = bad_of[name]
        sound |= _fit({name: entry}, its, 2, kind) or {}
        if name in sound and kind is _KINDS["routes"] and any(key[1] in _MEETING for key in its):
            # It is put where there is no other route, so as not to seem ambiguous.
            sound[name] = {**sound[name], "hosts": [f"route{number}.invalid"], "listeners": []}
    return sound


def _fit(table: dict[str, Any], bad: list[Key], depth: int, kind: Any) -> dict[str, Any] | None:
    """`table` as a `kind` without what is `bad` in it: only that, else all that it is part of at `depth`."""
    for keys in (bad, [key[:depth] for key in bad]):
        left = _without(table, keys)
        with contextlib.suppress(msgspec.ValidationError):
            msgspec.convert(left, kind, dec_hook=from_plain)
            return left  # type: ignore[no-any-return]
    return None


def _without(value: Any, bad: list[Key]) -> Any:
    """`value` without what is at the keys `bad`. A list that lacks an item is left out: places name its items."""
    if () in bad:
        return _LEFT_OUT
    if bad and isinstance(value, dict):
        left = {name: _without(item, [key[1:] for key in bad if key[0] == name]) for name, item in value.items()}
        return {name: item for name, item in left.items() if item is not _LEFT_OUT}
    if bad and isinstance(value, list):
        items = [_without(item, [key[1:] for key in bad if key[0] == at]) for at, item in enumerate(value)]
        return _LEFT_OUT if _LEFT_OUT in items else items
    return value
