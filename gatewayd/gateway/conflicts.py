"""Routes that leave open which of them answers: found when the tables are built, and refused.

A route is *shadowed* if another one, equally specific and written before it, takes every request it
would take. Two routes are *ambiguous* if they are equally specific and some request fits both. What is
equal: the host pattern, the template with its parameters' names left out, how many conditions there are
and how many of them are exact, and whether methods are named. Templates that differ first in two
patterns at the same place, neither of which is known to be narrower, are not in order either.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatewayd.errors import Fault
from gatewayd.gateway.segment import Pattern, are_disjoint, is_narrower
from gatewayd.gateway.tree import Entry, Place, Table, chain

MAX_STEPS = 10_000
"""Places of a table that one request may make the router look at, at worst (a few milliseconds)."""


def conflict(entry: Entry, earlier: Entry, host: bytes) -> Fault | None:
    """What is wrong with `entry` beside `earlier` at the same place of the table for `host`, if anything is."""
    shared = entry.named & earlier.named
    if entry.rank[:3] != earlier.rank[:3] or not shared or _exclude(entry, earlier):
        return None
    where = f"routes.{entry.name}.path"
    if entry.conditions == earlier.conditions and entry.named <= earlier.named:
        return Fault(where, f"can never match: route {earlier.name} takes the same requests{_under(host)}")
    methods = "" if entry.rank[2] else f" and takes {b', '.join(sorted(shared)).decode()} too"
    hint = "tell them apart by path, host, methods or conditions"
    return Fault(where, f"is ambiguous: route {earlier.name} is as specific{methods}{_under(host)}", hint=hint)


def _under(host: bytes) -> str:
    return f" at host {host.decode()}" if host else ""


def _exclude(one: Entry, other: Entry) -> bool:
    return one.conditions is not None and other.conditions is not None and one.conditions.excludes(other.conditions)


def unordered(table: Table) -> Iterator[Fault]:
    """Routes of `table` (before it is closed) that no order of their patterns tells apart."""
    if table.root is not None:
        yield from _unordered(table.root)


def _unordered(place: Place) -> Iterator[Fault]:
    for at, (pattern, below) in enumerate(place.patterns):
        for other, beside in place.patterns[at + 1 :]:
            if not (is_narrower(pattern, other) or is_narrower(other, pattern) or are_disjoint(pattern, other)):
                for one, another in _meetings(below, beside):
                    if one.named & another.named and not _exclude(one, another):
                        yield _pattern_fault(one, another, pattern, other)
    for child in place.children():
        yield from _unordered(child)


def _pattern_fault(one: Entry, another: Entry, pattern: Pattern, other: Pattern) -> Fault:
    return Fault(
        f"routes.{another.name}.path",
        f"is ambiguous: nothing says whether {other} or {pattern} of route {one.name} comes first",
        hint="put text before or behind a parameter, or both into one route",
    )


def _meetings(one: Place, other: Place) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of entries below the two nodes that the same rest of a path could reach."""
    for mine in (one.leaf, one.tail):
        for its in (other.leaf, other.tail):
            yield from ((a, b) for a in chain(mine) for b in chain(its))
    if one.tail is not None:
        yield from ((a, b) for a in chain(one.tail) for b in _below(other))
    if other.tail is not None:
        yield from ((a, b) for a in _below(one) for b in chain(other.tail))
    for mine_below, its_below in _common_children(one, other):
        yield from _meetings(mine_below, its_below)


def _below(place: Place) -> Iterator[Entry]:
    for child in place.children():
        yield from chain(child.leaf)
        yield from chain(child.tail)
        yield from _below(child)


def _common_children(one: Place, other: Place) -> Iterator[tuple[Place, Place]]:
    """Pairs of children that the same segment could lead to."""
    mine, its = one.literals or {}, other.literals or {}
    yield from ((child, its[segment]) for segment, child in mine.items() if segment in its)
    for segment, child in mine.items():
        yield from ((child, below) for below in _open_children(other, segment))
    for segment, child in its.items():
        yield from ((below, child) for below in _open_children(one, segment))
    for pattern, child in one.patterns:
        yield from ((child, below) for other_one, below in other.patterns if not are_disjoint(pattern, other_one))
    if one.parameter is not None:
        yield from ((one.parameter, below) for _, below in other.patterns)
    if other.parameter is not None:
        yield from ((below, other.parameter) for _, below in one.patterns)
    if one.parameter is not None and other.parameter is not None:
        yield one.parameter, other.parameter


def _open_children(place: Place, segment: bytes) -> Iterator[Place]:
    """Children of `place` for a segment that is not literal there, and that `segment` fits."""
    if not segment:
        return
    yield from (child for pattern, child in place.patterns if pattern.take(segment) is not None)
    if place.parameter is not None:
        yield place.parameter


def steps(table: Table) -> int:
    """Places that one request may make the router look at in `table` (before it is closed), at worst."""
    static = max((_length(entry) for entry in table.static.values()), default=0)
    return 1 + static + (_steps(table.root) if table.root is not None else 0)


def _steps(place: Place) -> int:
    """Of the literal branches a path can take one, of the others all."""
    here = 1 + _length(place.leaf) + _length(place.tail)
    literal = max((_steps(child) for child in (place.literals or {}).values()), default=0)
    open_ones = sum(_steps(child) for _, child in place.patterns)
    return here + literal + open_ones + (_steps(place.parameter) if place.parameter is not None else 0)


def _length(entry: Entry | None) -> int:
    return sum(1 for _ in chain(entry))
