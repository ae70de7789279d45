"""What happens to an exchange, in order. The first page to read.

    socket ► wire.downstream ► Pipeline.handle
      1 match      the route, or a 404/405 made at build time
      2 access     each hook: None → next; a Reply → answer it; an awaitable → wait, then go on
      3 handler    answers: proxy, redirect, static reply
      4 reply      the route's reply hooks (`Exchange.start_reply`)
      5 send       wire.downstream, with back-pressure both ways
      6 log        `Pipeline.finished`: always, exactly once; must not raise or wait

Nothing here knows a policy by name or reads the configuration: that is `build`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import AccessHook, Reply, Route
from gatewayd.core.problem import answer, problem
from gatewayd.core.tasks import spawn
from gatewayd.gateway.router import Miss

if TYPE_CHECKING:
    from gatewayd.gateway.snapshot import Snapshot
    from gatewayd.observe.access_log import AccessLog
    from gatewayd.observe.metrics import WorkerMetrics

_log = logging.getLogger(__name__)

TOO_LARGE = problem(413, "body_too_large", "the body is larger than this route takes")
FAILED = problem(500, "policy_failed", "a policy could not decide, so the request was refused")


BATCH = 64
"""Exchanges recorded together, at the latest by the next sweep: recording in a row costs half of recording one by one,
because its code and data are still in the processor's caches."""


class Pipeline:
    """The way of every exchange of a worker. `snapshot` is replaced whole; an exchange ends on the one it met."""

    __slots__ = ("_ended", "access_log", "metrics", "snapshot")

    def __init__(self, snapshot: Snapshot, metrics: WorkerMetrics, access_log: AccessLog | None) -> None:
        self.snapshot = snapshot
        self.metrics = metrics
        self.access_log = access_log
        self._ended: list[tuple[Exchange, float]] = []

    def handle(self, exchange: Exchange) -> None:
        """Answer `exchange`, now or later."""
        route = self.snapshot.routers[exchange.listener].match(exchange)
        if route.__class__ is not Route:
            answer(exchange, _missed(route))
            return
        exchange.route = route
        exchange.body_limit = limit = route.body_limit
        if 0 < limit < exchange.body_length:
            answer(exchange, TOO_LARGE)
            return
        for at, (name, hook) in enumerate(route.access, 1):
            verdict = _decide(exchange, name, hook)
            if verdict is not None:
                if isinstance(verdict, Reply):
                    _refuse(exchange, name, verdict)
                else:
                    spawn(_wait(exchange, name, verdict, route.access[at:]), f"policy {name}")
                return
        route.handler(exchange)

    def finished(self, exchange: Exchange, now: float) -> None:
        """`exchange` is over: its reply is complete, broken off, or nobody waits for it. It is recorded soon."""
        route = exchange.route
        if route is not None and route.log:
            _log_hooks(exchange, route)
        ended = self._ended
        ended.append((exchange, now))
        if len(ended) >= BATCH:
            self.record()

    def record(self) -> None:
        """Count and log what has ended. The sweep calls this too."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        count = self.metrics.record
        write = self.access_log.write if self.access_log is not None else None
        for exchange, now in ended:
            count(exchange, now)
            if write is not None:
                write(exchange, now)
        self.metrics.flush()


def _log_hooks(exchange: Exchange, route: Route) -> None:
    for hook in route.log:
        try:
            hook(exchange)
        except Exception:
            _log.exception("a log hook of route %s failed", route.name)


def _decide(exchange: Exchange, name: str, hook: AccessHook) -> Reply | Awaitable[Reply | None] | None:
    try:
        return hook(exchange)
    except Exception:
        return _failed(exchange, name)


def _failed(exchange: Exchange, name: str) -> Reply:
    """A policy that cannot run refuses."""
    _log.exception("policy %s failed", name)
    _note(exchange, name, "failed")
    return FAILED


def _refuse(exchange: Exchange, name: str, reply: Reply) -> None:
    if name and reply is not FAILED:  # a hook without a name has noted it
        _note(exchange, name, "refused" if reply.code else "answered")
    answer(exchange, reply)


def _note(exchange: Exchange, name: str, verdict: str) -> None:
    if exchange.verdicts is None:
        exchange.verdicts = []
    exchange.verdicts.append((name, verdict))


async def _wait(
    exchange: Exchange,
    name: str,
    waiting: Awaitable[Reply | None],
    rest: Sequence[tuple[str, AccessHook]],
) -> None:
    """Go on with an exchange whose hook `name` has to wait for something."""
    try:
        verdict = await waiting
    except Exception:
        verdict = _failed(exchange, name)
    while rest and verdict is None and not exchange.status:
        (name, hook), *rest = rest
        found = _decide(exchange, name, hook)
        try:
            verdict = found if found is None or isinstance(found, Reply) else await found
        except Exception:
            verdict = _failed(exchange, name)
    if exchange.status:
        return  # the caller has gone meanwhile
    if verdict is not None:
        _refuse(exchange, name, verdict)
    else:
        exchange.route.handler(exchange)  # type: ignore[union-attr]


def _missed(miss: Miss) -> Reply:
    if miss.status == 405:
        return problem(405, "method_not_allowed", "the route has other methods", ((b"allow", miss.allow),))
    return NOT_FOUND


NOT_FOUND = problem(404, "route_not_found", "no route matches this request")
