"""A configuration as it would judge calls on record: nothing is asked of others, nothing kept, no socket opened.

The hooks are those that serve, on a clock that goes with the calls. Those that only change what is sent on are not
run; those that find out who calls are answered from the record (`gateway.recognition`). What a hook looks at and is not
on record leaves the call undecided.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Awaitable, Coroutine, Iterator
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from gatewayd.audit.record import Call
from gatewayd.config.attachment import policy_of
from gatewayd.config.model import Document
from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Identity
from gatewayd.core.policy import AccessHook, LogHook, NoConsumers, Reply, Route
from gatewayd.gateway.build import Ground, build
from gatewayd.gateway.chains import chain
from gatewayd.gateway.recalled import Hash, Param, Way
from gatewayd.gateway.recognition import Recognition
from gatewayd.gateway.retracing import HIDDEN, Retracing, shown_headers
from gatewayd.gateway.unrecorded import NotOnRecord, Partly, Unrecorded

SILENT = frozenset(
    ("capture", "request_id", "tracing", "bandwidth_limit", "consumer_headers", "upstream_token", "cache", "headers")
)
"""Policies that refuse nobody: what they change is for those behind the gateway."""
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SUB_DELIMITERS = "!$&'()*+,;=:@"


class Outcome(NamedTuple):
    """What became of a call, or would become."""

    kind: str
    """`let through`, `refused`, `answered` (by a policy, such as a preflight) or `missed` (no route)."""
    route: str = ""
    by: str = ""
    """The policy's instance; "": the gateway itself."""
    code: str = ""

    def __str__(self) -> str:
        if self.kind == "let through":
            return "let through"
        return " ".join(filter(None, (self.kind, f"by {self.by}" if self.by else "", self.code)))


LET_THROUGH, REFUSED, ANSWERED, MISSED = "let through", "refused", "answered", "missed"


class Candidate:
    """`document`, ready to judge. Calls are to come in the order of their beginnings."""

    def __init__(
        self, document: Document, start: int, hashed: Hash | None = None, serving: Document | None = None
    ) -> None:
        """`start`: nanoseconds since the epoch; limits are unused then. `hashed`: how values are hashed in records.

        `serving`: the configuration that served the calls, if it is at hand. Raises `ConfigError`.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="gatewayd-replay-")
        self._clock = FakeClock(1_000.0, start / 1e9)
        self._start = self._now = start
        try:
            apart = _apart(document, self._folder.name)
            self._snapshot = build(apart, Ground(clock=self._clock, arena=Arena()))
        except BaseException:
            self._folder.cleanup()
            raise
        self._document = document
        self._hash = hashed
        preflights = any(link.policy == "cors" for link in self._snapshot.links.values())
        self._trace = Retracing(document, serving, hashed, preflights)
        self._literals = frozenset(_rule_values(document))
        self._recognition = Recognition(document, self._snapshot.consumers or NoConsumers(), serving)
        self._ends: list[tuple[int, int, Exchange, tuple[LogHook, ...]]] = []
        self._count = 0
        self._limits_of = lru_cache(4_096)(self._limits)

    def close(self) -> None:
        """Leave nothing behind."""
        self._snapshot.close()
        self._folder.cleanup()

    def judge(self, call: Call) -> Outcome:
        """What would become of `call`. Raises `NotOnRecord`."""
        self._go_to(call.at)
        before = recorded_outcome(call)
        way = self._trace.way(call)
        if isinstance(way, str):
            return Outcome(MISSED, code=way)
        route = self._snapshot.routes[way.route]
        exchange = self._exchange(call, way)
        exchange.route = route
        exchange.body_limit = limit = route.body_limit
        if 0 < limit < exchange.body_length:
            return Outcome(REFUSED, route.name, "", "body_too_large")
        asked, reply = self._asked(exchange, call, route)
        self._ends_later(exchange, call, before, reply)
        if reply is None:
            return Outcome(LET_THROUGH, route.name)
        return Outcome(REFUSED if reply.code else ANSWERED, route.name, asked, reply.code)

    # -- what policies say --------------------------------------------------------------------------------------------

    def _asked(self, exchange: Exchange, call: Call, route: Route) -> tuple[str, Reply | None]:
        """The first instance that does not let the exchange go on, and its reply."""
        for name, hook in route.access:
            reply = self._limited(hook, exchange) if not name else self._said(name, hook, exchange, call)
            if reply is not None:
                noted = exchange.verdicts[-1][0] if exchange.verdicts and not name else ""
                return name or noted, reply
        if route.by_plan is None:
            return "", None
        plan = exchange.identity.consumer.plan if exchange.identity is not None else ""
        exchange.route = variant = route.by_plan.get(plan) or route.by_plan[""]
        return self._asked(exchange, call, variant)

    def _limited(self, hook: AccessHook, exchange: Exchange) -> Reply | None:
        reply = hook(exchange)
        assert reply is None or isinstance(reply, Reply)
        _no_failure(exchange)
        return reply

    def _said(self, name: str, hook: AccessHook, exchange: Exchange, call: Call) -> Reply | None:
        link = self._snapshot.links[name]
        if link.hooks.authenticate is not None:
            return self._recognised(name, link.mode == "observe", exchange, call)
        if link.policy in SILENT:
            if (name, "answered") in (call.verdicts or ()):
                raise NotOnRecord(f"whether {name} answers by itself")
            return None
        if link.policy == "request_size" and self._document.policies[name].get("require_length") and call.bytes_in:
            raise NotOnRecord(f"whether the body's length was announced, as {name} asks")
        try:
            reply = hook(exchange)
        except Exception as error:
            raise NotOnRecord(f"what {name} needs: here it fails ({error!r})") from error
        if isinstance(reply, Awaitable):
            if isinstance(reply, Coroutine):
                reply.close()
            raise NotOnRecord(f"what {name} waits for")
        _no_failure(exchange)
        return reply

    def _recognised(self, name: str, observes: bool, exchange: Exchange, call: Call) -> Reply | None:
        found = self._recognition.ask(name, call, self._clock.wall())
        if isinstance(found, Identity):
            known = exchange.identity
            if known is not None and known.consumer.id != found.consumer.id:
                return None if observes else Reply(403, code="identity_conflict")
            exchange.identity = found
            self._fill(exchange, call, found)
            return None
        return None if observes else Reply(401, code=found)

    # -- the exchange -------------------------------------------------------------------------------------------------

    def _exchange(self, call: Call, way: Way) -> Exchange:
        exchange: Any = Exchange(None, call.listener, call.scheme, "", None, call.request_id)  # type: ignore[arg-type]
        exchange.method, exchange.host, exchange.http_version = call.method, call.host, call.http_version
        exchange.started = self._clock.monotonic()
        exchange.body_length = call.bytes_in
        personal = call.personal
        address = personal.client if personal is not None else ""
        unknown = Unrecorded("the caller's address")
        exchange.client = exchange.peer = address if address and "/" not in address else unknown
        exchange.headers = exchange.withheld = Partly(shown_headers(call), "the request's headers")
        captured = call.personal.captured if call.personal is not None else None
        whole = captured is not None and captured.query is not None and HIDDEN not in captured.query
        exchange.query = captured.query if whole and captured is not None else Unrecorded("the query")
        exchange.path = Unrecorded("the path")
        exchange.tls = Unrecorded("the caller's TLS connection") if call.tls is not None else None
        exchange.downstream = Unrecorded("the request's body")
        exchange.context = {_WAY: way}
        self._fill(exchange, call, None)
        made: Exchange = exchange
        return made

    def _fill(self, exchange: Exchange, call: Call, identity: Identity | None) -> None:
        """Give the path's parameters values that rules about them can compare."""
        way: Way = exchange.context[_WAY]  # type: ignore[index]
        if not way.match.params:
            return
        literals = self._literals | ({identity.consumer.id} if identity is not None else frozenset())
        exchange.params = {
            param.name: self._value(param, call, literals)  # type: ignore[misc]
            for param in way.match.params
        }

    def _value(self, param: Param, call: Call, literals: frozenset[str]) -> bytes | Unrecorded:
        """The value if it is known or is one of `literals`; what equals none of them if that is sure."""
        if param.value is not None:
            return param.value
        values = call.personal.values if call.personal is not None else []
        unknown = Unrecorded(f"the value of {param.name} in the path")
        if self._hash is None or not 0 <= param.recorded < len(values):
            return unknown
        value, sure = values[param.recorded], True
        for literal in literals:
            for spelled in _spellings(literal):
                if self._hash(spelled) == value:
                    return spelled
            sure = sure and _UNRESERVED.issuperset(literal.encode())
        return b"\0" + value if sure else unknown

    # -- time ---------------------------------------------------------------------------------------------------------

    def _go_to(self, at: int) -> None:
        """Let the clock go on to nanosecond `at`; what has ended by then is over."""
        while self._ends and self._ends[0][0] <= at:
            ended, _, exchange, hooks = heapq.heappop(self._ends)
            self._set(ended)
            for hook in hooks:
                hook(exchange)
        self._set(at)

    def _set(self, at: int) -> None:
        self._now = max(self._now, at)
        self._clock.now = 1_000.0 + (self._now - self._start) / 1e9
        self._clock.wall_now = self._now / 1e9

    def _ends_later(self, exchange: Exchange, call: Call, before: Outcome, reply: Reply | None) -> None:
        """Have limits hear of the call's end: at once if it is refused, else when it ended, or would have."""
        assert exchange.route is not None
        plan = exchange.identity.consumer.plan if exchange.identity is not None else ""
        hooks = self._limits_of(exchange.route.name, plan)
        if not hooks:
            return
        lasted = before.kind == LET_THROUGH and reply is None
        exchange.status = reply.status if reply is not None else (call.status if lasted else 200)
        exchange.reason = call.reason if lasted else ""
        self._count += 1
        end = self._now + call.total * 1000 if reply is None else self._now
        heapq.heappush(self._ends, (end, self._count, exchange, hooks))

    def _limits(self, route: str, plan: str) -> tuple[LogHook, ...]:
        """What hears of ends on a route, for callers with `plan`."""
        document = self._snapshot.document
        links = chain(self._snapshot.links, document, document.routes[route], plan if plan in document.plans else "")
        return tuple(link.hooks.log for link in links if link.hooks.limit is not None and link.hooks.log is not None)


_WAY = ":way"


def recorded_outcome(call: Call) -> Outcome:
    """What became of `call`. Raises `NotOnRecord` where that is not known, or nothing to compare with."""
    if not call.operation.route:
        raise NotOnRecord("the path, as no route took it")
    route = call.operation.route
    for name, verdict in reversed(call.verdicts or ()):
        if verdict in ("refused", "answered"):
            return Outcome(REFUSED if verdict == "refused" else ANSWERED, route, name, call.code)
        if verdict == "failed" and call.code and not call.attempts and not call.reason:
            raise NotOnRecord(f"what {name} would have said: it failed")
    if call.code == "body_too_large" and not call.attempts:
        return Outcome(REFUSED, route, "", call.code)
    if call.status == 499 and not call.target:
        raise NotOnRecord("what would have become of it: the caller left before")
    return Outcome(LET_THROUGH, route)


def _apart(document: Document, folder: str) -> Document:
    """`document` with all that it keeps in `folder`, and its limits to itself: no other machine is asked."""
    gateway = msgspec.structs.replace(document.gateway, state_dir=folder)
    policies = {
        name: {
            key: value for key, value in table.items() if key not in ("store", "lease", "on_store_failure", "shared")
        }
        if policy_of(name, table) in ("rate_limit", "quota", "cache")
        else table
        for name, table in document.policies.items()
    }
    return msgspec.structs.replace(document, gateway=gateway, policies=policies)


def _spellings(literal: str) -> set[bytes]:
    """How a value may stand in a path."""
    return {literal.encode(), quote(literal, safe="").encode(), quote(literal, safe=_SUB_DELIMITERS).encode()}


def _rule_values(document: Document) -> Iterator[str]:
    for name, table in document.policies.items():
        if policy_of(name, table) == "acl":
            for rule in (*table.get("deny", ()), *table.get("allow", ())):
                for wanted in rule.get("params", {}).values():
                    yield from wanted


def _no_failure(exchange: Exchange) -> None:
    for name, verdict in exchange.verdicts or ():
        if verdict == "failed":
            raise NotOnRecord(f"what {name} needs: here it fails")
