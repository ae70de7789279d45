"""Where an exchange stands in a trace (W3C Trace Context)."""

from __future__ import annotations

_OTHER = dict(zip("0123456789abcdef", "1032547698badcfe", strict=True))
"""The hexadecimal digit whose lowest bit is the other one."""


class Trace:
    """A trace and the exchange's own span in it. Identifiers in lower-case hexadecimal, 32 and 16 digits."""

    __slots__ = ("parent_id", "random", "sampled", "span_id", "state", "trace_id")

    def __init__(
        self,
        trace_id: str,
        span_id: str,
        parent_id: str = "",
        sampled: bool = False,
        state: str = "",
        random: bool = True,
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id  # of the span that this exchange is
        self.parent_id = parent_id  # of the caller's span; "": the trace begins here
        self.sampled = sampled  # its spans are exported
        self.state = state  # tracestate, as it goes on
        self.random = random  # the rightmost 56 bits of the trace id are


def asking_span(span_id: str) -> str:
    """The span of asking a target within the exchange of `span_id`: its lowest bit is the other one.

    So targets know their parent before anybody has written it down, and it needs no place in a record.
    """
    return span_id[:15] + _OTHER[span_id[15]]
