"""What happens to an exchange, in order. The first page to read.

    socket ► wire.downstream ► Pipeline.handle
      1 match      the route, or a 404/405 made at build time
      2 access     each hook: None → next; a Reply → answer it; an awaitable → wait, then go on
      3 handler    answers: proxy, redirect, static reply, usage
      4 reply      the route's reply hooks (`Exchange.start_reply`)
      5 send       wire.downstream, with back-pressure both ways
      6 log        `Pipeline.finished`: always, exactly once; must not raise or wait

Nothing here knows a policy by name or reads the configuration: that is `build`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import AccessHook, Reply, Route, Undecided
from gatewayd.core.problem import POLICY_FAILED, answer, problem
from gatewayd.core.tasks import spawn
from gatewayd.gateway.router import Miss

if TYPE_CHECKING:
    from gatewayd.audit.recorder import Recorder
    from gatewayd.gateway.snapshot import Snapshot
    from gatewayd.observe.access_log import AccessLog
    from gatewayd.observe.metrics import WorkerMetrics

_log = logging.getLogger(__name__)

TOO_LARGE = problem(413, "body_too_large", "the body is larger than this route takes")


BATCH = 64
"""Exchanges recorded together, at the latest by the next sweep: recording in a row costs half of recording one by one,
because its code and data are still in the processor's caches."""


class Pipeline:
    """The way of every exchange of a worker. `snapshot` is replaced whole; an exchange ends on the one it met."""

    __slots__ = ("_ended", "access_log", "metrics", "recorder", "snapshot")

    def __init__(
        self,
        snapshot: Snapshot,
        metrics: WorkerMetrics,
        access_log: AccessLog | None,
        recorder: Recorder | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.metrics = metrics
        self.access_log = access_log
        self.recorder = recorder
        self._ended: list[tuple[Exchange, float]] = []

    def handle(self, exchange: Exchange) -> None:
        """Answer `exchange`, now or later."""
        recorder = self.recorder
        if recorder is not None and recorder.refusal is not None:
            answer(exchange, recorder.refusal)
            return
        route = self.snapshot.routers[exchange.listener].match(exchange)
        if route.__class__ is not Route:
            answer(exchange, _missed(route))
            return
        exchange.route = route
        exchange.body_limit = limit = route.body_limit
        if 0 < limit < exchange.body_length:
            answer(exchange, TOO_LARGE)
            return
        _go_on(exchange, route.access)

    def finished(self, exchange: Exchange, now: float) -> None:
        """`exchange` is over: its reply is complete, broken off, or nobody waits for it. It is recorded soon."""
        route = exchange.route
        if route is not None and route.log:
            _log_hooks(exchange, route)
        if self.recorder is not None and not exchange.recorded:
            self.recorder.ended.append((exchange, now))
        ended = self._ended
        ended.append((exchange, now))
        if len(ended) >= BATCH:
            self.record()

    def answered(self, exchange: Exchange, now: float) -> None:
        """The caller has, or is about to get, all of the reply, but the exchange is not over: its call is recorded."""
        if self.recorder is not None:
            exchange.recorded = True
            self.recorder.ended.append((exchange, now))

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


def _go_on(exchange: Exchange, hooks: tuple[tuple[str, AccessHook], ...]) -> None:
    """Ask `hooks` in turn; what no one refuses goes to the handler, or on by the caller's plan."""
    for name, hook in hooks:
        try:
            verdict = hook(exchange)
        except Exception as error:
            verdict = _failed(exchange, name, error)
        if verdict is not None:
            if isinstance(verdict, Reply):
                _refuse(exchange, name, verdict)
            else:
                rest = hooks[hooks.index((name, hook)) + 1 :]
                spawn(_wait(exchange, name, verdict, rest), f"policy {name}")
            return
    route: Route = exchange.route  # type: ignore[assignment]
    if route.by_plan is None:
        route.handler(exchange)
    else:
        exchange.route = variant = _for_plan(exchange, route.by_plan)
        _go_on(exchange, variant.access)


def _for_plan(exchange: Exchange, variants: dict[str, Route]) -> Route:
    identity = exchange.identity
    plan = "" if identity is None else identity.consumer.plan
    return variants.get(plan) or variants[""]


def _failed(exchange: Exchange, name: str, error: Exception) -> Reply:
    """A policy that cannot run refuses."""
    exchange.note(name, "failed")
    if isinstance(error, Undecided):
        return error.reply
    _log.exception("policy %s failed", name)
    return POLICY_FAILED


def _refuse(exchange: Exchange, name: str, reply: Reply) -> None:
    # A hook without a name has noted it, and so has one that failed.
    if name and (not exchange.verdicts or exchange.verdicts[-1] != (name, "failed")):
        exchange.note(name, "refused" if reply.code else "answered")
    answer(exchange, reply)


async def _wait(
    exchange: Exchange, name: str, waiting: Awaitable[Reply | None], rest: tuple[tuple[str, AccessHook], ...]
) -> None:
    """Go on with an exchange whose hook `name` has to wait for something."""
    try:
        verdict = await waiting
    except Exception as error:
        verdict = _failed(exchange, name, error)
    if exchange.status:
        return  # the caller has gone meanwhile
    if verdict is None:
        _go_on(exchange, rest)
    else:
        _refuse(exchange, name, verdict)


def _missed(miss: Miss) -> Reply:
    if miss.status == 405:
        return problem(405, "method_not_allowed", "the route has other methods", ((b"allow", miss.allow),))
    return NOT_FOUND


NOT_FOUND = problem(404, "route_not_found", "no route matches this request")
