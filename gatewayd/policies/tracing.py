"""Continues a caller's trace or begins one (W3C Trace Context), decides whether it is sampled, and tells targets.

Targets get a `traceparent` and `tracestate` of ours in place of the caller's. Their parent is the span of asking them
(`core.trace.asking_span`), which the control process exports, with the call's own, from the call records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from gatewayd.config.values import Share
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import AccessHook, BuildContext, Handler, Hooks, ReplyHook
from gatewayd.core.trace import asking_span
from gatewayd.observe import traces
from gatewayd.rfc import trace_context
from gatewayd.rfc.headers import elements

STACKS = False

_PARENT, _STATE, _ASKED = b"traceparent", b"tracestate", b"gatewayd-trace"
_WATCHED = frozenset((_PARENT, _STATE, _ASKED))


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `tracing`."""

    sample: Share = 0.1  # share of the traces whose spans are exported, where no caller has decided
    trust: Literal["all", "trusted_proxies", "none"] = "trusted_proxies"  # whose traces are continued
    follow: bool = True  # a continued trace is sampled if its caller's span is; false: by its share
    server_timing: Literal["off", "request", "on"] = "off"  # Server-Timing in replies; request: who asks gets it


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    timed = config.server_timing != "off"
    instance, monotonic = context.instance, context.clock.monotonic
    return Hooks(
        access=_access(config, instance),
        reply=_teller(instance, monotonic) if timed else None,
        handler=_watch(instance, monotonic) if timed else _as_it_is,
        explain=f"{config.sample:g} of all traces sampled; callers' continued: {config.trust}",
    )


def _access(config: Config, instance: str) -> AccessHook:
    begin, go_on = traces.makers(config.sample, config.follow)
    everyone, nobody = config.trust == "all", config.trust == "none"
    on_request, always = config.server_timing == "request", config.server_timing == "on"
    write = trace_context.write_traceparent

    def access(exchange: Exchange) -> None:
        headers = exchange.headers
        trace = None
        asked: list[bytes] = []
        brought = [pair for pair in headers if pair[0] in _WATCHED]
        if brought:
            parents, states, asked = _sorted(brought, headers)
            if len(parents) == 1 and (everyone or (exchange.peer_trusted and not nobody)):
                trace = go_on(parents[0], states)
        if trace is None:
            trace = begin()
        if asked and exchange.peer_trusted and b"sample" in asked:
            traces.force(trace)
        exchange.trace = trace
        headers.append((_PARENT, write(trace.trace_id, asking_span(trace.span_id), trace.sampled, trace.random)))
        if trace.state:
            headers.append((_STATE, trace.state.encode()))
        if always or (on_request and b"timing" in asked):
            exchange.context = {**(exchange.context or {}), instance: 0.0}

    return access


def _sorted(brought: Headers, headers: Headers) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """What a caller `brought` of traceparent, tracestate and what it asks for; taken out of `headers`."""
    parents: list[bytes] = []
    states: list[bytes] = []
    asked: list[bytes] = []
    for pair in brought:
        headers.remove(pair)
        name, value = pair
        if name == _PARENT:
            parents.append(value)
        elif name == _STATE:
            states.append(value)
        else:
            asked += elements([value])
    return parents, states, asked


def _as_it_is(handler: Handler) -> Handler:
    """Marks what no plan can have: a trace is begun before it is known who calls."""
    return handler


def _watch(instance: str, monotonic: Callable[[], float]) -> Callable[[Handler], Handler]:
    """Notes when the handler was asked, where that is going to be told."""

    def around(handler: Handler) -> Handler:
        def watched(exchange: Exchange) -> None:
            context = exchange.context
            if context is not None and instance in context:
                context[instance] = monotonic()
            handler(exchange)

        return watched

    return around


def _teller(instance: str, monotonic: Callable[[], float]) -> ReplyHook:
    """Tells what is known when the reply begins (W3C Server Timing): milliseconds, and where the call is traced."""

    def tell(exchange: Exchange, headers: Headers) -> None:
        context, trace = exchange.context, exchange.trace
        if context is None or trace is None or instance not in context:
            return
        total = monotonic() - exchange.started
        handed = context[instance] - exchange.started if context[instance] else total
        upstream = max(exchange.upstream_seconds - handed, 0.0)
        parts = [f"total;dur={total * 1e3:.3f}", f"gateway;dur={(total - upstream) * 1e3:.3f}"]
        if exchange.attempts:
            parts.append(f"upstream;dur={upstream * 1e3:.3f}")
        parent = trace_context.write_traceparent(trace.trace_id, trace.span_id, trace.sampled, trace.random).decode()
        headers.append((b"server-timing", f'{", ".join(parts)}, traceparent;desc="{parent}"'.encode()))

    return tell
