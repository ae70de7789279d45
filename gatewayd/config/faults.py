"""Gathering what is wrong with a configuration: each fault placed, suggestions made, secrets left out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace

from gatewayd.config.keys import Key, join, split
from gatewayd.config.sources import Sources
from gatewayd.errors import Fault

Locate = Callable[[str], tuple[str, int]]
"""From a dotted key to `(file, line)`."""

_NOTHING = object()
_SHOWN = 60
"""Characters of a value that an error shows; enough to recognise it by."""


def nowhere(path: str) -> tuple[str, int]:
    """The `Locate` of configurations without a text behind them."""
    return "", 0


def did_you_mean(found: str, choices: Iterable[str]) -> str:
    """`did you mean "x"?` if one of `choices` is close to `found`, else ""."""
    import difflib

    lowered = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(found.lower(), lowered, n=1, cutoff=0.6)
    return f'did you mean "{lowered[close[0]]}"?' if close else ""


class Faults:
    """Faults as they are found. Only the first of a key counts: what follows is mostly its consequence."""

    def __init__(self, locate: Locate = nowhere) -> None:
        self.locate = locate
        self.found: list[Fault] = []
        self._known: set[tuple[str, str]] = set()

    def __contains__(self, key: Key) -> bool:
        return any(fault.path == join(key) for fault in self.found)

    def add(self, key: Key, message: str, value: object = _NOTHING, *, allowed: str = "", hint: str = "") -> None:
        """Note that `message` is wrong with `key`. A `value` is shown unless it may be a secret."""
        file, line = self.locate(join(key))
        shown = "" if value is _NOTHING else self.show(key, value)
        self.put(Fault(join(key), message, shown, allowed, hint, file, line))

    def put(self, fault: Fault) -> None:
        """Note a fault that is placed already."""
        if (fault.path, fault.file) not in self._known:
            self._known.add((fault.path, fault.file))
            self.found.append(fault)

    def choose(self, key: Key, message: str, value: str, choices: Iterable[str]) -> None:
        """Note that `value` at `key` is none of `choices`, and which of them may have been meant."""
        choices = sorted(choices)
        hint = "" if self._written(key) else did_you_mean(value, choices)
        self.add(key, message, value, allowed=_listed(choices), hint=hint)

    def unknown(self, key: Key, choices: Iterable[str]) -> None:
        """Note that there is no option of the name `key` ends in."""
        choices = sorted(choices)
        hint = did_you_mean(str(key[-1]), choices)
        self.add(key, "unknown option", allowed=", ".join(choices), hint=hint)

    def show(self, key: Key, value: object) -> str:
        """`value` as an error names it: what came from a secret as it was written. Without sources any text
        may have come from one, so none is shown.
        """
        if isinstance(value, dict):
            return "a table"
        if isinstance(value, list):
            return "a list" if value else "an empty list"
        if written := self._written(key):
            return _quoted(written)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return "a text" if self.hides(key) else _quoted(value)
        return str(value)

    def hides(self, key: Key) -> bool:
        """Whether a text at `key` is not shown as it is."""
        return not isinstance(self.locate, Sources) or self._written(key) is not None

    def _written(self, key: Key) -> str | None:
        return self.locate.written(key) if isinstance(self.locate, Sources) else None


def placed(faults: Iterable[Fault], above: Key, locate: Locate) -> list[Fault]:
    """Faults made without sources, such as those of a policy's `build`, their paths relative to the table at
    `above`: with their whole paths, their places, and without what may be a secret.
    """
    known = Faults(locate)
    for fault in faults:
        key = above + split(fault.path)
        found = known.show(key, fault.found) if fault.found and known.hides(key) else fault.found
        file, line = (fault.file, fault.line) if fault.file else locate(join(key))
        known.put(replace(fault, path=join(key), found=found, file=file, line=line))
    return known.found


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= _SHOWN else text[:_SHOWN] + "…", ensure_ascii=False)


def _listed(choices: list[str], most: int = 12) -> str:
    """Names in quotes; of long lists the beginning."""
    named = ", ".join(f'"{choice}"' for choice in choices[:most])
    return f"{named}, … ({len(choices)} in all)" if len(choices) > most else named or "none is defined"
