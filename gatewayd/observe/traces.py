"""Traces begun and continued, and which of them are sampled: decided first, so that the rest costs little."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from gatewayd.core.trace import Trace
from gatewayd.rfc import trace_context

_SAMPLER = "ot"
"""OpenTelemetry's key in tracestate; what stands there of probability is true of one way to decide only."""

Begin = Callable[[], Trace]
GoOn = Callable[[bytes, Sequence[bytes]], Trace | None]
"""From a traceparent and all tracestates; None if the former is malformed."""


def makers(share: float, follow: bool) -> tuple[Begin, GoOn]:
    """What begins a trace, and what continues one.

    A `share` (0 to 1) of the traces begun here is sampled, by their ids: whoever goes by them decides the same. One
    that is continued is sampled if its caller's span is, where we `follow` that, else by its id, too.
    """
    bits = random.Random().getrandbits  # noqa: S311 - to be unique, not secret; seeded here, in the worker
    least = trace_context.threshold(share)
    reaches = trace_context.reaches
    said = trace_context.sampling_state(least)

    def begin() -> Trace:
        ids = (bits(192) | 2).to_bytes(24, "big").hex()  # no span is all zeros, whatever its last bit is
        trace_id = ids[:32]
        if reaches(trace_id, least):
            return Trace(trace_id, ids[32:], "", True, said)
        return Trace(trace_id, ids[32:])

    def go_on(value: bytes, states: Sequence[bytes]) -> Trace | None:
        parent = trace_context.read_traceparent(value)
        if parent is None:
            return None
        trace_id, parent_id, sampled, is_random = parent
        state = trace_context.read_tracestate(states) if states else ""
        if not follow:
            sampled = reaches(trace_id, least)
            state = trace_context.without_key(state, _SAMPLER)
        return Trace(trace_id, (bits(64) | 2).to_bytes(8, "big").hex(), parent_id, sampled, state, is_random)

    return begin, go_on


def force(trace: Trace) -> None:
    """Have `trace` sampled from here on, whatever was decided before."""
    if not trace.sampled:
        trace.sampled = True
        trace.state = trace_context.without_key(trace.state, _SAMPLER)
