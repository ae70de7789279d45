"""How fast the bodies of a connection may go: bytes per second, each way on its own.

Nothing is gathered for it: who sends faster is read more slowly, and a target that brings more is paused. Heads,
interim replies, tunnels and refusals are not counted.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from gatewayd.config.units import Rate, Size
from gatewayd.config.values import Bytes
from gatewayd.core.exchange import Downstream, Exchange
from gatewayd.core.policy import BuildContext, Handler, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.limits.pace import Pace, Paced

STACKS = False


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `bandwidth_limit`; at least one way must be given."""

    request: Rate = Rate(0)  # request bodies, such as "512KiB/s"; 0: no limit
    reply: Rate = Rate(0)  # reply bodies; 0: no limit
    burst: Bytes = Size(64 * 1024)  # so much goes at full speed after a pause


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    if not config.request and not config.reply:
        raise ConfigError([Fault("reply", "nothing is limited", allowed="request, reply or both")])
    instance, monotonic = context.instance, context.clock.monotonic

    def wrap(handler: Handler) -> Handler:
        def paced(exchange: Exchange) -> None:
            paces = _paces(exchange.downstream, instance, config)
            if exchange.context is None:
                exchange.context = {}
            exchange.context[instance] = Paced(exchange, paces.request, paces.reply, monotonic)
            handler(exchange)

        return paced

    def log(exchange: Exchange) -> None:
        paced = exchange.context.pop(instance, None) if exchange.context else None
        if paced is not None:
            paced.stop()

    said = [f"{way} {int(rate)} B/s" for way, rate in (("request", config.request), ("reply", config.reply)) if rate]
    return Hooks(handler=wrap, log=log, explain=f"{', '.join(said)}, after {config.burst}")


class _Paces(NamedTuple):
    config: Config
    request: Pace | None
    reply: Pace | None


def _paces(connection: Downstream, instance: str, config: Config) -> _Paces:
    """What the connection keeps from exchange to exchange; made anew when a reload brought other rates."""
    if connection.kept is None:
        connection.kept = {}
    found: _Paces | None = connection.kept.get(instance)
    if found is None or found.config != config:
        found = connection.kept[instance] = _Paces(config, _pace(config.request, config), _pace(config.reply, config))
    return found


def _pace(rate: Rate, config: Config) -> Pace | None:
    return Pace(rate, int(config.burst)) if rate else None
