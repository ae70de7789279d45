"""Which route takes a call that is on record: its path is known but for the values of its parameters.

Of these there are hashes alone. Whether a value is a certain literal they tell; whether it is a number they do not. So
a route of a configuration takes the call for sure, for sure not, or perhaps, and where the answer hangs on a perhaps
there is none. The order in which routes are asked is the router's (`gateway.router`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from gatewayd.config import model
from gatewayd.gateway.conditions import Conditions
from gatewayd.gateway.router import NEVER_IMPLIED, patterns_of
from gatewayd.gateway.segment import Pattern, are_disjoint, is_narrower
from gatewayd.gateway.template import Segment, Template, host_name, parse_host, parse_template

Hash = Callable[[bytes], bytes]
"""How values are hashed in records."""
Rank = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Param:
    """What is known of a parameter of the candidate's route."""

    name: str
    value: bytes | None = None
    """None: it is not on record."""
    recorded: int = -1
    """Which of the recorded values it is, -1: none of them as it stands."""


class Match(NamedTuple):
    """A template that may fit a recorded path."""

    sure: bool
    """If `tests` hold."""
    tests: tuple[tuple[int, bytes], ...]
    """Recorded values that must be these literals."""
    params: tuple[Param, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """A route that may take a call, for sure or perhaps."""

    route: str
    match: Match
    conditions: Conditions | None
    takes: bool
    """The call's method."""
    rank: Rank
    """Sorts more specific routes first."""


class Asked(NamedTuple):
    """A route of a configuration, as the router compiles it."""

    name: str
    hosts: tuple[bytes, ...]
    template: Template
    methods: frozenset[bytes]
    """None named: b"" alone."""
    conditions: Conditions | None
    config: model.Route

    def takes(self, method: bytes) -> bool:
        """See `gateway.router.RouteSpec`."""
        if b"" in self.methods:
            return method not in NEVER_IMPLIED
        return method in self.methods or (method == b"HEAD" and b"GET" in self.methods)

    def rank(self, host: int) -> Rank:
        """Its place among routes that match the same request, under the host pattern number `host`."""
        template = self.template
        place: list[tuple[object, ...]] = [_place(segment) for segment in template.segments]
        place.append((3,) if template.tail else (0,))
        asked = self.conditions.rank if self.conditions is not None else (0, 0)
        heads = b"" in self.methods or b"HEAD" in self.methods
        return host, tuple(place), asked, b"" in self.methods, not heads

    def same(self, other: Asked) -> bool:
        """Whether both take the same requests."""
        return (
            self.template.segments == other.template.segments
            and self.template.tail == other.template.tail
            and self.methods == other.methods
            and sorted(self.hosts) == sorted(other.hosts)
            and self.conditions == other.conditions
        )


class Map:
    """The routes of a configuration, by listener."""

    def __init__(self, document: model.Document) -> None:
        self._asked: dict[str, list[Asked]] = {}
        routes = {name: _asked(name, route) for name, route in document.routes.items()}
        for listener in document.listeners or ("",):
            self._asked[listener] = [
                routes[name]
                for name, route in document.routes.items()
                if not route.listeners or listener in route.listeners
            ]

    def has(self, listener: str) -> bool:
        """Whether there is such a listener."""
        return listener in self._asked

    def route(self, listener: str, name: str) -> Asked | None:
        """The route of that name."""
        return next((each for each in self._asked.get(listener, ()) if each.name == name), None)

    def on_host(self, listener: str, host: bytes) -> Iterator[tuple[int, Asked]]:
        """The routes that may answer for `host`, each with how specific its pattern is, 0 the most."""
        for number, pattern in enumerate(patterns_of(host_name(host))):
            for each in self._asked.get(listener, ()):
                if pattern in each.hosts:
                    yield number, each


class Call(NamedTuple):
    """What of a call on record decides which route may take it."""

    listener: str
    host: bytes
    method: bytes
    route: str
    template: str


class Ways:
    """The routes of `candidate` that may take calls; those of `serving` took them."""

    def __init__(self, candidate: Map, serving: Map | None, hashed: Hash | None) -> None:
        """Without `hashed` no literal can be told by its hash."""
        self._candidate, self._serving = candidate, serving
        self._hash = hashed
        self.of = lru_cache(16_384)(self._of)
        """The ways of a call, the most specific first; remembered."""

    def _of(self, call: Call) -> tuple[Way, ...]:
        recorded = parse_template(call.template, "")
        found = [
            way
            for host, asked in self._candidate.on_host(call.listener, call.host)
            if (way := self._way(call, recorded, host, asked)) is not None
        ]
        return tuple(sorted(found, key=lambda way: way.rank))

    def _way(self, call: Call, recorded: Template, host: int, asked: Asked) -> Way | None:
        match = relation(recorded, asked.template, self._hash)
        if match is None:
            return None
        conditions = asked.conditions
        settled = self._settled(call, asked)
        if settled is False:
            return None
        if settled:
            match, conditions = Match(True, (), match.params), None
        return Way(asked.name, match, conditions, asked.takes(call.method), asked.rank(host))

    def _settled(self, call: Call, asked: Asked) -> bool | None:
        """Whether a route that stands in the serving configuration as well took the call, as far as that tells."""
        if self._serving is None:
            return None
        taker = self._serving.route(call.listener, call.route)
        if taker is None:
            return None
        if taker.same(asked):
            return True
        hosts = {each.name: host for host, each in reversed([*self._serving.on_host(call.listener, call.host)])}
        for _, each in self._serving.on_host(call.listener, call.host):
            if each.same(asked) and each.takes(call.method) and taker.name in hosts:
                return False if each.rank(hosts[each.name]) < taker.rank(hosts[taker.name]) else None
        return None


def relation(recorded: Template, asked: Template, hashed: Hash | None) -> Match | None:
    """How `asked` matches paths of the template `recorded`; None: not at all."""
    return _Relation(recorded, asked, hashed).found()


class _Relation:
    def __init__(self, recorded: Template, asked: Template, hashed: Hash | None) -> None:
        self.recorded, self.asked, self.hash = recorded, asked, hashed
        self.sure = True
        self.tests: list[tuple[int, bytes]] = []
        self.params: list[Param] = []
        self.names = iter(asked.names)
        self.number = 0  # of the recorded value that comes next

    def found(self) -> Match | None:
        recorded, asked = self.recorded, self.asked
        both = min(len(recorded.segments), len(asked.segments))
        for one, other in zip(recorded.segments[:both], asked.segments[:both], strict=True):
            if not self._segment(one, other):
                return None
        if not (self._behind_tail(both) if recorded.tail else self._behind(both)):
            return None
        return Match(self.sure, tuple(self.tests), tuple(self.params))

    def _segment(self, one: Segment, other: Segment) -> bool:
        """Whether a recorded segment may be one that is asked for."""
        value = -1
        if not isinstance(one, bytes):
            value, self.number = self.number, self.number + 1
        if isinstance(one, bytes):
            return self._known(one, other)
        if isinstance(other, bytes):
            return self._literal(one, other, value)
        if isinstance(other, Pattern):
            if isinstance(one, Pattern) and are_disjoint(one, other):
                return False
            self.sure = self.sure and isinstance(one, Pattern) and (one == other or is_narrower(one, other))
        whole = one is None or not (one.prefix or one.suffix)
        alike = one == other or (whole and (other is None or not (other.prefix or other.suffix)))
        self.params.append(Param(next(self.names), None, value if alike else -1))
        return True

    def _known(self, literal: bytes, other: Segment) -> bool:
        if isinstance(other, bytes):
            return literal == other
        taken = (literal or None) if other is None else other.take(literal)
        if taken is None or not literal:
            return False
        self.params.append(Param(next(self.names), taken))
        return True

    def _literal(self, one: Pattern | None, literal: bytes, value: int) -> bool:
        wanted = (literal or None) if one is None else (one.take(literal) if literal else None)
        if wanted is None:
            return False
        self._test(value, wanted)
        return True

    def _test(self, value: int, wanted: bytes) -> None:
        if self.hash is None:
            self.sure = False
        else:
            self.tests.append((value, self.hash(wanted)))

    def _behind(self, both: int) -> bool:
        """What follows where the recorded path has no tail: all of it is known or a parameter."""
        rest = self.recorded.segments[both:]
        if len(self.asked.segments) > both or (rest and not self.asked.tail):
            return False
        self._tail(b"/".join(rest) if all(isinstance(each, bytes) for each in rest) else None, -1)  # type: ignore[arg-type]
        return True

    def _behind_tail(self, both: int) -> bool:
        """What follows where the recorded path has a tail, of any number of segments."""
        named = len(self.recorded.names) > self.number
        rest, wanted = self.recorded.segments[both:], self.asked.segments[both:]
        number = self.number + sum(not isinstance(each, bytes) for each in rest) if named else -1
        if not wanted:
            if not self.asked.tail and rest:
                return False
            if not self.asked.tail:
                self._empty(number)
            self._tail(None, -1 if rest else number)
            return True
        literal = all(isinstance(each, bytes) for each in wanted)
        for each in wanted:
            if not isinstance(each, bytes):
                self.params.append(Param(next(self.names)))
        if literal and not self.asked.tail and number >= 0:
            joined = b"/".join(wanted)  # type: ignore[arg-type]
            self._test(number, joined)
            self.sure = self.sure and (joined != b"" or not both)  # "/a" and "/a/" both have an empty tail
        else:
            self.sure = False
        self._tail(None, -1)
        return True

    def _empty(self, number: int) -> None:
        self.sure = False  # an empty tail may have a slash before it
        if number >= 0:
            self._test(number, b"")

    def _tail(self, value: bytes | None, number: int) -> None:
        """The asked template's tail, if it has one with a name."""
        name = next(self.names, None) if self.asked.tail else None
        if name is not None:
            self.params.append(Param(name, value, number))


def _asked(name: str, route: model.Route) -> Asked:
    conditions = None
    if route.headers or route.query:
        conditions = Conditions({key.lower(): value for key, value in route.headers.items()}, route.query)
    return Asked(
        name,
        tuple(parse_host(host, "") for host in route.hosts) or (b"",),
        parse_template(route.path, ""),
        frozenset(method.encode() for method in route.methods) or frozenset((b"",)),
        conditions,
        route,
    )


def _place(segment: Segment) -> tuple[object, ...]:
    if isinstance(segment, bytes):
        return (0,)
    return (1, *segment.order) if isinstance(segment, Pattern) else (2,)


def unmet(
    conditions: Conditions, headers: Sequence[tuple[bytes, bytes]], query: Sequence[tuple[bytes, bytes]] | None
) -> bool | None:
    """Whether what is on record does not meet `conditions`; None: that is not known.

    `headers` are those on record, with values that are; `query` are all parameters, None where they are not.
    """
    known = True
    wanted = [(headers, pair) for pair in (*conditions.fields, *conditions.withheld)]
    wanted += [(query or [], pair) for pair in conditions.query]
    for pairs, (name, value) in wanted:
        found = [each for key, each in pairs if key == name]
        if value is not None and any(each != value for each in found):
            return True
        known = known and bool(found)
    if query is not None:
        names = {name for name, _ in query}
        if any(name not in names for name, _ in conditions.query):
            return True
    return False if known else None
