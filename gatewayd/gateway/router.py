"""Which route answers a request: the most specific one whose host, path, method and conditions all match.

Specificity, never numbers: the host decides first (exact, then the longest wildcard, then any), then the
path from the left (literal, then typed or patterned, then plain parameter, then tail), then the
conditions (more of them, then more exact ones), then whether methods are named. Routes that this leaves
open are refused (`conflicts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from gatewayd.core.exchange import Exchange
from gatewayd.errors import ConfigError, Fault
from gatewayd.gateway import conflicts
from gatewayd.gateway.conditions import Conditions
from gatewayd.gateway.template import Template, host_name, parse_host, parse_template
from gatewayd.gateway.tree import Candidate, Entry, Table
from gatewayd.rfc.headers import is_field_value, is_token
from gatewayd.rfc.methods import METHODS

T = TypeVar("T")

COMMON_METHODS = frozenset((b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT"))
"""What `Allow` names where a route takes any method."""
NEVER_IMPLIED = frozenset((b"TRACE", b"CONNECT"))
"""Methods that a route without `methods` does not take."""

_OTHER = b"*"
"""Stands for every method that no route names."""
_KNOWN_HOSTS = 1_024
_HOST_LENGTH = 300
"""Hosts remembered with their tables, and bytes of one: callers choose them, so both are bounded."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route to be compiled: which requests, and the `value` that `Router.match` returns for them."""

    name: str
    path: str
    hosts: Sequence[str] = ()
    """Exact names or `*.name`; none: any host."""
    methods: Sequence[str] = ()
    """None: any but TRACE and CONNECT. GET brings HEAD with it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name to exact value, "*" for any."""
    query: Mapping[str, str] = field(default_factory=dict)
    value: Any = None
    preflight: bool = False
    """Also takes CORS preflights (Fetch §4.8) that announce a request it would take."""


@dataclass(frozen=True, slots=True)
class Miss:
    """No route: 404, or 405 with what `Allow` says. Shared; never changed."""

    status: int
    allow: bytes = b""


NOT_FOUND = Miss(404)


class Considered(NamedTuple):
    """A route whose path matches, for `explain`: `objection` says why it does not answer, "" if it would."""

    name: str
    host: bytes
    """The pattern it stands under, b"" for any."""
    params: dict[str, bytes]
    objection: str


class Router:
    """The compiled routes of one listener. Immutable but for the hosts it remembers."""

    __slots__ = ("_any", "_known", "_misses", "_named", "_patterns", "_preflights", "routes", "steps")

    def __init__(self, tables: Mapping[bytes, Table], named: frozenset[bytes], preflights: bool) -> None:
        self._patterns = dict(tables)
        self._named = named
        self._preflights = preflights
        self._misses: dict[frozenset[bytes], Miss] = {}
        self._known: dict[bytes, tuple[Table, ...]] = {}
        alone = not tables or tables.keys() == {b""}
        self._any = tuple(tables.values()) if alone else None
        self.routes = 0
        self.steps = 0

    def match(self, exchange: Exchange) -> Any:
        """The value of the route that answers `exchange`, or a `Miss`; sets `exchange.params` if it has
        some.
        """
        method = exchange.method
        if method == b"OPTIONS":
            answer = self._options(exchange)
            if answer is not None:
                return answer
        path = exchange.path
        tables = self._any
        if tables is None:
            tables = self._known.get(exchange.host)
            if tables is None:
                tables = self._tables(exchange.host)
        for table in tables:
            entry = table.static.get(path)
            while entry is not None:
                if method in entry.methods and (entry.conditions is None or not entry.conditions.unmet(exchange)):
                    return entry.value
                entry = entry.next
            cut = path.rfind(b"/") + 1
            entry = table.heads.get(path[:cut])
            if entry is not None:
                last = path[cut:]
                while entry is not None and last:
                    if method in entry.methods and (entry.conditions is None or not entry.conditions.unmet(exchange)):
                        exchange.params = {entry.names[0]: last}
                        return entry.value
                    entry = entry.next
            if table.root is not None:
                entry = table.walk(exchange, method)
                if entry is not None:
                    return entry.value
        return self._missed(exchange, tables)

    def considered(self, exchange: Exchange) -> list[Considered]:
        """Every route whose path matches, the most specific first, those of other hosts behind."""
        tables = self._tables(exchange.host)
        found = [
            self._considered(table.host, pair, exchange) for table in tables for pair in table.candidates(exchange.path)
        ]
        for table in self._patterns.values():
            if table not in tables:
                objection = f"host {table.host.decode()}"
                for entry, _ in table.candidates(exchange.path):
                    found.append(Considered(entry.name, table.host, {}, objection))
        return found

    def _considered(self, host: bytes, candidate: Candidate, exchange: Exchange) -> Considered:
        entry, values = candidate
        objection = ""
        if self._method(exchange.method) not in entry.methods:
            objection = f"method {exchange.method.decode(errors='replace')}"
        elif entry.conditions is not None:
            objection = entry.conditions.unmet(exchange)
        return Considered(entry.name, host, dict(zip(entry.names, values, strict=False)), objection)

    def _options(self, exchange: Exchange) -> Any:
        """`*` is nobody's path; a preflight goes where its request would go, if that route takes preflights."""
        if exchange.path == b"*":
            return NOT_FOUND
        if self._preflights:
            for name, value in exchange.headers:
                if name == b"access-control-request-method":
                    entry = self._first(exchange, self._method(value))
                    if entry is not None and entry.preflight:
                        return entry.value
                    exchange.params = None
                    break
        return None

    def _first(self, exchange: Exchange, method: bytes) -> Entry | None:
        for table in self._tables(exchange.host):
            entry = table.search(exchange, method)
            if entry is not None:
                return entry
        return None

    def _method(self, method: bytes) -> bytes:
        return method if method in self._named or method in NEVER_IMPLIED else _OTHER

    def _missed(self, exchange: Exchange, tables: tuple[Table, ...]) -> Any:
        method = self._method(exchange.method)
        if method == _OTHER:
            entry = self._first(exchange, method)
            if entry is not None:
                return entry.value
        if exchange.method == b"CONNECT":
            return self._refusal(self._named)  # it has no path; some path would take these
        path = exchange.path
        allowed = frozenset[bytes]().union(*[each.methods for table in tables for each, _ in table.candidates(path)])
        if not allowed or method in allowed:
            return NOT_FOUND
        return self._refusal(allowed)

    def _refusal(self, allowed: frozenset[bytes]) -> Miss:
        miss = self._misses.get(allowed)
        if miss is None:
            # One for each set of methods that places of the tables have, so their number is the configuration's.
            miss = self._misses[allowed] = Miss(405, allow(allowed))
        return miss

    def _tables(self, host: bytes) -> tuple[Table, ...]:
        """The tables for `host`, the most specific first; remembered."""
        if self._any is not None:
            return self._any
        tables = self._known.get(host)
        if tables is None:
            found = (self._patterns.get(pattern) for pattern in patterns_of(host_name(host)))
            tables = tuple(table for table in found if table is not None)
            if len(self._known) >= _KNOWN_HOSTS:
                self._known.clear()
            if len(host) <= _HOST_LENGTH:
                self._known[host] = tables
        return tables


def patterns_of(name: bytes) -> Iterator[bytes]:
    """Host patterns that match `name`, the most specific first."""
    yield name
    at = name.find(b".")
    while at >= 0:
        yield b"*" + name[at:]
        at = name.find(b".", at + 1)
    yield b""


def allow(methods: frozenset[bytes]) -> bytes:
    """The value of `Allow` (RFC 9110 §10.2.1)."""
    return b", ".join(sorted(methods - {_OTHER}))


def compile_routes(specs: Sequence[RouteSpec]) -> Router:
    """Build the router of `specs`; raises `ConfigError` with everything that is wrong with any of them."""
    compiler = _Compiler(specs)
    for spec in specs:
        compiler.add(spec)
    return compiler.finish()


class _Compiler:
    """The tables while they are filled. Equal values are shared: with many routes they are most of the
    memory.
    """

    def __init__(self, specs: Sequence[RouteSpec]) -> None:
        self.faults: dict[tuple[str, str], Fault] = {}
        self.tables: dict[bytes, Table] = {}
        named = {method.encode() for spec in specs for method in spec.methods}
        self.implied = (COMMON_METHODS | named | {_OTHER}) - NEVER_IMPLIED
        self.named = (COMMON_METHODS | named) - {b"CONNECT"}
        self.preflights = any(spec.preflight for spec in specs)
        self.shared: dict[Any, Any] = {}
        self.interned: dict[bytes, bytes] = {}
        self.routes = 0

    def add(self, spec: RouteSpec) -> None:
        """Put `spec` into the table of each of its hosts."""
        where = f"routes.{spec.name}"
        faults = list(_faults(spec, where))
        hosts = [self._tried(parse_host, text, f"{where}.hosts", faults) for text in spec.hosts] or [b""]
        template = self._tried(parse_template, spec.path, f"{where}.path", faults)
        for fault in faults:
            self._fault(fault)
        if faults or template is None:
            return
        self.routes += 1
        names = self._once(template.names)
        for host in dict.fromkeys(hosts):
            if host is not None:
                entry = self._entry(spec)
                entry.names = names
                self._insert(host, template, entry)

    def _entry(self, spec: RouteSpec) -> Entry:
        named = self._once(frozenset(method.encode() for method in spec.methods) or self.implied)
        entry = Entry(spec.name, spec.value, named, self._once(named | {b"HEAD"}) if b"GET" in named else named)
        entry.preflight = spec.preflight
        asked = (0, 0)
        if spec.headers or spec.query:
            entry.conditions = self._once(Conditions(spec.headers, spec.query))
            asked = entry.conditions.rank
        entry.rank = self._once((*asked, not spec.methods, b"HEAD" not in named))
        return entry

    def _insert(self, host: bytes, template: Template, entry: Entry) -> None:
        table = self.tables.get(host)
        if table is None:
            table = self.tables[host] = Table(host)
        for other in table.insert(template, entry, self.interned):
            fault = conflicts.conflict(entry, other, host)
            if fault is not None:
                self._fault(fault)

    def _once(self, value: T) -> T:
        found: T = self.shared.setdefault(value, value)
        return found

    def _tried(self, parse: Callable[[str, str], T], text: str, where: str, faults: list[Fault]) -> T | None:
        try:
            return parse(text, where)
        except ConfigError as error:
            faults += error.faults
            return None

    def _fault(self, fault: Fault) -> None:
        self.faults.setdefault((fault.path, fault.message), fault)

    def finish(self) -> Router:
        """The router, if nothing is wrong."""
        for table in self.tables.values():
            for fault in conflicts.unordered(table):
                self._fault(fault)
        router = Router(self.tables, self.named, self.preflights)
        router.routes = self.routes
        router.steps = self._steps()
        if router.steps > conflicts.MAX_STEPS:
            message = f"one request could take {router.steps} steps to match"
            hint = "fewer patterns at one place, fewer conditions on one path"
            self._fault(Fault("routes", message, allowed=f"at most {conflicts.MAX_STEPS}", hint=hint))
        if self.faults:
            raise ConfigError(list(self.faults.values()))
        for table in self.tables.values():
            table.close()
        return router

    def _steps(self) -> int:
        """At worst, over all hosts: a request is looked for in the table of each pattern that its host
        matches.
        """
        steps = {host: conflicts.steps(table) for host, table in self.tables.items()}
        return max(
            (sum(steps.get(pattern, 0) for pattern in {*patterns_of(host)}) for host in (*steps, b"")),
            default=0,
        )


def _faults(spec: RouteSpec, where: str) -> Iterator[Fault]:
    """What is wrong with methods and conditions."""
    for method in spec.methods:
        if method == "CONNECT":
            yield Fault(f"{where}.methods", "CONNECT has no path that could be matched", method)
        elif not is_token(method.encode()) or method != method.upper():
            hint = "methods are case-sensitive (RFC 9110 §9.1)"
            yield Fault(f"{where}.methods", "not a method", repr(method), "GET, POST, …", hint)
        elif method.encode() not in METHODS:
            known = ", ".join(sorted(name.decode() for name in METHODS - NEVER_IMPLIED))
            yield Fault(f"{where}.methods", "no method known here: it is answered 501", repr(method), known)
    for name, value in spec.headers.items():
        if not is_token(name.encode()) or name != name.lower():
            yield Fault(f"{where}.headers", "a header's name is a token in lower case", repr(name))
        elif name == "host":
            yield Fault(f"{where}.headers", "the host is matched by `hosts`", name)
        elif not is_field_value(value.encode()):
            yield Fault(f"{where}.headers.{name}", "no header has such a value", repr(value))
