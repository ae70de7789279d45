"""JSONPath (RFC 9535) as far as it names places by themselves: members, elements, all of them, at any depth.

Filters and slices are refused: what they lead to depends on values, or is written shorter without.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Selector = str | int | None
"""A member's name, an element's index (below 0: from the end), None: all there are (RFC 9535 §2.3)."""
Change = Callable[[Any], None]
"""Changes a document of dicts and lists in place."""
DESCENTS = 2
"""`..` in a path at most: each multiplies the work by the size of the document."""

_NAME = "[A-Za-z_\u0080-\U0010ffff][0-9A-Za-z_\u0080-\U0010ffff]*"
_DOTTED = re.compile(rf"(\.\.?)(?:(\*)|({_NAME}))")
_OPENED = re.compile(r"(\.\.)?\[[ \t\r\n]*")
_SELECTED = re.compile(
    r"""(\*)|(0|-?[1-9][0-9]{0,15})|("(?:[^"\\\x00-\x1f]|\\[^'])*")|'((?:[^'\\\x00-\x1f]|\\[^"])*)'"""
)
_BETWEEN = re.compile(r"[ \t\r\n]*(,[ \t\r\n]*|\])")
_QUOTED = re.compile(r"""\\.|\"""", re.DOTALL)


class Segment(NamedTuple):
    """A step of a path."""

    selectors: tuple[Selector, ...]
    descends: bool
    """Into whatever lies below, too (`..`)."""


def parse(path: str) -> tuple[Segment, ...]:
    """The steps of a path such as `$.claims[*].iban` or `$..password`. Raises `ValueError`."""
    if not path.startswith("$"):
        raise ValueError("a path begins with $")
    at, segments = 1, []
    while at < len(path):
        segment, at = _segment(path, at)
        segments.append(segment)
    if not segments:
        raise ValueError("$ alone is the whole document")
    if sum(segment.descends for segment in segments) > DESCENTS:
        raise ValueError(f"a path descends (..) at most {DESCENTS} times")
    return tuple(segments)


def replacing(path: str, value: object) -> Change:
    """What puts `value` wherever `path` leads. Raises `ValueError`."""
    *before, last = parse(path)
    change = _at_end(last, value)
    for segment in reversed(before):
        change = _on_the_way(segment, change)
    return change


def containers(document: Any) -> list[Any]:
    """Every dict and list of a document, itself included."""
    found = [document] if isinstance(document, dict | list) else []
    for each in found:  # grows meanwhile
        found += [below for below in (each.values() if isinstance(each, dict) else each) if isinstance(below, _BOTH)]
    return found


_BOTH = (dict, list)


def _at_end(segment: Segment, value: object) -> Change:
    def change(document: Any) -> None:
        for container in _reached(segment, document):
            for key in _keys(segment, container):
                container[key] = value

    return change


def _on_the_way(segment: Segment, then: Change) -> Change:
    def change(document: Any) -> None:
        for container in _reached(segment, document):
            for key in _keys(segment, container):
                then(container[key])

    return change


def _reached(segment: Segment, document: Any) -> list[Any]:
    if segment.descends:
        return containers(document)
    return [document] if isinstance(document, _BOTH) else []


def _keys(segment: Segment, container: Any) -> Iterator[Any]:
    for selector in segment.selectors:
        if selector is None:
            yield from list(container) if isinstance(container, dict) else range(len(container))
        elif isinstance(container, dict):
            if isinstance(selector, str) and selector in container:
                yield selector
        elif isinstance(selector, int) and -len(container) <= selector < len(container):
            yield selector


def _segment(path: str, at: int) -> tuple[Segment, int]:
    """The step that begins at `at`, and where the next one does."""
    dotted = _DOTTED.match(path, at)
    if dotted is not None:
        return Segment((None if dotted[2] else dotted[3],), dotted[1] == ".."), dotted.end()
    opened = _OPENED.match(path, at)
    if opened is None:
        raise ValueError(f"{path[at : at + 20]!r} is no step of a path")
    selectors: list[Selector] = []
    at = opened.end()
    while True:
        found = _SELECTED.match(path, at)
        behind = _BETWEEN.match(path, found.end()) if found is not None else None
        if found is None or behind is None:
            raise ValueError(f"{path[at : at + 20]!r}: a name in quotes, a number or * is wanted here")
        selectors.append(_selector(found))
        at = behind.end()
        if behind[1] == "]":
            return Segment(tuple(selectors), opened[1] is not None), at


def _selector(found: re.Match[str]) -> Selector:
    if found[1]:
        return None
    if found[2]:
        return int(found[2])
    quoted = found[3] or f'"{_QUOTED.sub(_requoted, found[4])}"'
    name: str = json.loads(quoted)  # the same escapes (RFC 9535 §2.3.1.1); raises `ValueError` for others
    return name


def _requoted(mark: re.Match[str]) -> str:
    """What stands in single quotes as it stands in double ones."""
    return {"\\'": "'", '"': '\\"'}.get(mark[0], mark[0])
