"""The routes of one host pattern, laid out so that matching costs what the path is long, not how many
routes there are.

Three parts, asked in this order, which is the order of specificity:

- `static`: paths without parameters, one dict lookup on the whole path; - `heads`: literal segments and one
plain parameter at the end (`/v1/policies/{id}`), one lookup on all but the last; - `root`: all other
templates, a tree with one segment per level. The way down takes at each place the most specific branch that
fits; only if that ends nowhere are the others tried (`Table.candidates`).

Measured against a radix tree compressed over bytes: `benchmarks/router.py`, `docs/routing.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gatewayd.core.exchange import Exchange
from gatewayd.gateway.conditions import Conditions
from gatewayd.gateway.segment import Pattern
from gatewayd.gateway.template import Segment, Template

Rank = tuple[int, int, bool, bool]
"""Sorts the entries of one place: more conditions, more exact ones, named methods, HEAD by name come
first.
"""


class Entry:
    """A route at its place in a table; `next` is the one to try after it at the same place."""

    __slots__ = ("conditions", "methods", "name", "named", "names", "next", "preflight", "rank", "value")

    def __init__(self, name: str, value: Any, named: frozenset[bytes], methods: frozenset[bytes]) -> None:
        self.name = name
        self.value = value
        self.named = named  # methods as the route names them; all known ones if it names none
        self.methods = methods  # and HEAD where GET is
        self.conditions: Conditions | None = None
        self.rank: Rank = (0, 0, False, True)
        self.preflight = False
        self.names: tuple[str, ...] = ()
        self.next: Entry | None = None

    def takes(self, exchange: Exchange, method: bytes) -> bool:
        """Whether method and conditions allow it; host and path are known to match."""
        return method in self.methods and (self.conditions is None or not self.conditions.unmet(exchange))


Candidate = tuple[Entry, tuple[bytes, ...]]
"""An entry whose host and path match, and the values of its parameters."""


def chain(entry: Entry | None) -> Iterator[Entry]:
    """`entry` and those after it."""
    while entry is not None:
        yield entry
        entry = entry.next


class Place:
    """What may follow after some segments of a path."""

    __slots__ = ("leaf", "literals", "parameter", "patterns", "tail")

    def __init__(self) -> None:
        self.literals: dict[bytes, Place] | None = None
        self.patterns: tuple[tuple[Pattern, Place], ...] = ()  # narrower ones first
        self.parameter: Place | None = None
        self.leaf: Entry | None = None  # the path ends here
        self.tail: Entry | None = None  # whatever follows, nothing included

    def children(self) -> Iterator[Place]:
        """All nodes one level below."""
        if self.literals is not None:
            yield from self.literals.values()
        for _, child in self.patterns:
            yield child
        if self.parameter is not None:
            yield self.parameter

    def forks(self) -> bool:
        """Whether a path that ends nowhere below one branch of this place might match in another."""
        if self.leaf is not None and self.tail is not None:
            return True
        ways = (self.literals is not None) + len(self.patterns) + (self.parameter is not None) + (self.tail is not None)
        return ways > 1

    def is_empty(self) -> bool:
        """Whether nothing is here or below."""
        return self.leaf is None and self.tail is None and next(self.children(), None) is None

    def child(self, segment: Segment, interned: dict[bytes, bytes]) -> Place:
        """The place for one more segment of a template, made if it is not there."""
        if segment is None:
            if self.parameter is None:
                self.parameter = Place()
            return self.parameter
        if isinstance(segment, Pattern):
            return self._pattern_child(segment)
        if self.literals is None:
            self.literals = {}
        found = self.literals.get(segment)
        if found is None:
            found = self.literals[interned.setdefault(segment, segment)] = Place()
        return found

    def _pattern_child(self, pattern: Pattern) -> Place:
        for known, child in self.patterns:
            if known == pattern:
                return child
        child = Place()
        self.patterns = tuple(sorted((*self.patterns, (pattern, child)), key=lambda pair: pair[0].order))
        return child


class Table:
    """The routes of one host pattern (b"": any host)."""

    __slots__ = ("depth", "forks", "heads", "host", "root", "static")

    def __init__(self, host: bytes = b"") -> None:
        self.host = host
        self.static: dict[bytes, Entry] = {}
        self.heads: dict[bytes, Entry] = {}  # by everything up to the last slash, the slash included
        self.root: Place | None = None
        self.depth = 0  # most segments of a template in `root`
        self.forks = False  # the first way down `root` may not be the only one

    def insert(self, template: Template, entry: Entry, interned: dict[bytes, bytes]) -> list[Entry]:
        """Put `entry` in its place; returns the others that stand there."""
        if template.literal:
            others = list(chain(self.static.get(template.literal)))
            self.static[template.literal] = _linked([*others, entry])
            return others
        if self.root is None:
            self.root = Place()
        place = self.root
        for segment in template.segments:
            place = place.child(segment, interned)
        self.depth = max(self.depth, len(template.segments))
        others = list(chain(place.tail if template.tail else place.leaf))
        if template.tail:
            place.tail = _linked([*others, entry])
        else:
            place.leaf = _linked([*others, entry])
        return others

    def close(self) -> None:
        """All routes are in: move to `heads` what can be answered from there."""
        if self.root is not None:
            self._lift(self.root, b"/")
            if self.root.is_empty():
                self.root = None
            else:
                self.forks = _forks(self.root)

    def _lift(self, place: Place, path: bytes) -> None:
        """`place` is reached by literals alone, `path` with a slash at its end."""
        literals = place.literals or {}
        parameter = place.parameter
        # A path ending in a literal may be the empty tail behind it, which is more specific than the parameter.
        lifts = not place.patterns and not any(child.tail for child in literals.values())
        if lifts and parameter is not None and parameter.leaf is not None:
            self.heads[path] = parameter.leaf
            parameter.leaf = None
            if parameter.is_empty():
                place.parameter = None
        for segment, child in list(literals.items()):
            self._lift(child, b"%b%b/" % (path, segment))
            if child.is_empty():
                del literals[segment]
        if not literals:
            place.literals = None

    def walk(self, exchange: Exchange, method: bytes) -> Entry | None:
        """The most specific entry of `root` that takes `exchange`; sets its parameters. None if there is
        none.
        """
        place: Place | None = self.root
        if place is None:
            return None
        values: list[bytes] = []
        left = iter(exchange.path[1:].split(b"/", self.depth))
        for segment in left:
            literals = place.literals
            if literals is not None:
                child = literals.get(segment)
                if child is not None:
                    place = child
                    continue
            if segment:
                value, child = segment, place.parameter
                if place.patterns:
                    value, child = _open_branch(place, segment)
                if child is not None:
                    values.append(value)
                    place = child
                    continue
            entry = place.tail
            values.append(b"/".join((segment, *left)))
            break
        else:
            entry = place.leaf
            if entry is None:
                entry = place.tail
                values.append(b"")
        while entry is not None:
            if method in entry.methods and (entry.conditions is None or not entry.conditions.unmet(exchange)):
                names = entry.names
                if len(names) == 1:
                    exchange.params = {names[0]: values[0]}
                elif names:
                    # An unnamed tail has a value too; naming `strict` would cost as much as the rest of the line.
                    exchange.params = dict(zip(names, values))  # noqa: B905
                return entry
            entry = entry.next
        return self.search(exchange, method) if self.forks else None

    def search(self, exchange: Exchange, method: bytes) -> Entry | None:
        """As `walk`, but whichever place the entry stands at and whichever branches end nowhere."""
        for entry, values in self.candidates(exchange.path):
            if entry.takes(exchange, method):
                if entry.names:
                    exchange.params = dict(zip(entry.names, values, strict=False))
                return entry
        return None

    def candidates(self, path: bytes) -> list[Candidate]:
        """All entries whose path matches, the most specific first."""
        if not path.startswith(b"/"):
            return []
        found: list[Candidate] = []
        _add(found, self.static.get(path), ())
        cut = path.rindex(b"/") + 1
        last = path[cut:]
        if last:
            _add(found, self.heads.get(path[:cut]), (last,))
        if self.root is not None:
            _collect(self.root, path[1:].split(b"/", self.depth), 0, (), found)
        return found


def _forks(place: Place) -> bool:
    return place.forks() or any(_forks(child) for child in place.children())


def _linked(entries: list[Entry]) -> Entry:
    """The first of `entries` in their order, the others behind it."""
    entries.sort(key=lambda entry: entry.rank)
    for one, after in zip(entries, (*entries[1:], None), strict=True):
        one.next = after
    return entries[0]


def _open_branch(place: Place, segment: bytes) -> tuple[bytes, Place | None]:
    """The most specific branch of `place` that is not literal and that `segment` fits, and the parameter's value."""
    for pattern, child in place.patterns:
        value = pattern.take(segment)
        if value is not None:
            return value, child
    return segment, place.parameter


def _add(found: list[Candidate], entry: Entry | None, values: tuple[bytes, ...]) -> None:
    while entry is not None:
        found.append((entry, values))
        entry = entry.next


def _collect(place: Place, segments: list[bytes], at: int, values: tuple[bytes, ...], found: list[Candidate]) -> None:
    if at == len(segments):
        _add(found, place.leaf, values)
        _add(found, place.tail, (*values, b""))
        return
    segment = segments[at]
    child = place.literals.get(segment) if place.literals is not None else None
    if child is not None:
        _collect(child, segments, at + 1, values, found)
    if segment:
        for pattern, below in place.patterns:
            value = pattern.take(segment)
            if value is not None:
                _collect(below, segments, at + 1, (*values, value), found)
        if place.parameter is not None:
            _collect(place.parameter, segments, at + 1, (*values, segment), found)
    if place.tail is not None:
        _add(found, place.tail, (*values, b"/".join(segments[at:])))
