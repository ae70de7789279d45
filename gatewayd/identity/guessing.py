"""Guessing of credentials is slowed down: an address may fail so often in a period, then it is not even listened to.

A token bucket per address, kept as one number: the time at which all its failures will be forgiven (GCRA). An IPv6
caller counts as its /64, for whoever holds one address of it commonly holds them all. Each worker counts for itself, so
an address that spreads its guesses over N workers has N times as many. A worker knows `ADDRESSES` addresses at most;
beyond that the one whose last failure is longest ago is forgotten first. Nothing is shared between addresses: nobody
is shut out for what another did.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gatewayd.config.units import Rate
from gatewayd.core.cidr import holder
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import BuildContext, Reply
from gatewayd.core.problem import problem

ADDRESSES = 65_536
"""Entries in the table at most, per worker: about 10 MiB."""
Forgiven = dict[str, float]
"""By address, the one whose last failure is longest ago first: the monotonic second at which all are forgiven."""


class Guessing:
    """The failures of addresses lately."""

    def __init__(self, allowed: Rate, monotonic: Callable[[], float], forgiven: Forgiven | None = None) -> None:
        """`allowed` failures at once, and as many again per period; an amount of 0 counts nothing.

        `forgiven` is what was counted before.
        """
        self._period = allowed.period
        self._each = allowed.period / allowed.amount if allowed.amount else 0.0
        self._monotonic = monotonic
        self._forgiven: Forgiven = {} if forgiven is None else forgiven

    @property
    def known(self) -> Forgiven:
        """The addresses that have failed lately, for whoever wants to ask only if there are some."""
        return self._forgiven

    def refusal(self, exchange: Exchange) -> Reply | None:
        """429 if the caller's address has no failure left. Asked before anything that the caller shows is read."""
        wait = self._forgiven.get(holder(exchange.client), 0.0) + self._each - self._period - self._monotonic()
        return _refusal(wait) if wait > 0 and self._each else None

    def failed(self, exchange: Exchange) -> None:
        """Count a failure. Callers without an address (on a unix socket) are not counted: they would share one."""
        if not exchange.client or not self._each:
            return
        now = self._monotonic()
        whose = holder(exchange.client)
        forgiven = max(self._forgiven.pop(whose, 0.0), now) + self._each
        # Many guesses may be under way at once before the first has failed; their sum must not shut out for hours.
        self._forgiven[whose] = min(forgiven, now + 2 * self._period)
        if len(self._forgiven) > ADDRESSES:
            del self._forgiven[next(iter(self._forgiven))]


def guessing(context: BuildContext) -> Guessing:
    """What this worker counts: one table for all policies, carried over reloads."""
    forgiven: Forgiven = context.kept.setdefault(("", "identity.guessing"), {})
    return Guessing(context.document.identity.failures_per_address, context.clock.monotonic, forgiven)


def _refusal(wait: float) -> Reply:
    """429 (RFC 6585 §4) with the whole seconds to wait."""
    seconds = b"%d" % math.ceil(wait)
    return problem(429, "too_many_failures", "too many failures from this address", ((b"retry-after", seconds),))
