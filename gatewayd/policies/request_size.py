"""How large a request's body may be: refused at once by its Content-Length, counted as it comes where it is chunked.

The count is the wire's; this policy lowers the exchange's limit, and never raises `limits.body` or the route's own.
"""

from __future__ import annotations

from msgspec import Struct

from gatewayd.config.model import Bytes
from gatewayd.config.units import Size
from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange
from gatewayd.core.policy import BuildContext, Hooks, Verdict
from gatewayd.core.problem import problem

STACKS = False


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `request_size`."""

    body: Bytes = Size(1024**2)  # at most
    require_length: bool = False  # refuse chunked bodies with 411


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for one route."""
    limit = int(config.body)
    require_length = config.require_length
    too_large = problem(413, "body_too_large", f"a request body may have at most {limit} bytes", limit=limit)
    length_required = problem(411, "length_required", "a request body must come with its Content-Length")

    def access(exchange: Exchange) -> Verdict:
        length = exchange.body_length
        if length == UNKNOWN_LENGTH:
            if require_length:
                return length_required
            if not exchange.body_limit or exchange.body_limit > limit:
                exchange.body_limit = limit
        elif length > limit:
            return too_large
        return None

    demand = ", Content-Length required" if require_length else ""
    return Hooks(access=access, explain=f"body at most {config.body}{demand}")
