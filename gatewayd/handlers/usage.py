"""The usage handler: tells callers what they have used of the limits that hold for them. Asking counts nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Handler, Reply, Undecided, Usage
from gatewayd.core.problem import answer

_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))
_NO_PLAN = ""


class Account(NamedTuple):
    """A policy instance that can tell what callers have used."""

    instance: str
    policy: str
    usage: Callable[[Exchange, int], Usage | None]
    plans: frozenset[str] | None
    """For whom it holds: consumers with one of these plans; None: everybody."""


def build(accounts: Sequence[Account], monotonic: Callable[[], float]) -> Handler:
    """A handler that answers with a JSON object: see `report`."""

    def usage(exchange: Exchange) -> None:
        try:
            body = orjson.dumps(report(accounts, exchange, monotonic()))
        except Undecided as error:
            answer(exchange, error.reply)
        else:
            answer(exchange, Reply(200, _HEADERS, body))

    return usage


def report(accounts: Sequence[Account], exchange: Exchange, now: float) -> dict[str, Any]:
    """Who calls (None: nobody known), and what is used of each limit at monotonic second `now`. Raises `Undecided`.

    `resets_in` are the seconds until all of a limit is there again.
    """
    identity = exchange.identity
    plan = identity.consumer.plan if identity is not None else _NO_PLAN
    limits = []
    for account in accounts:
        if account.plans is None or plan in account.plans:
            used = account.usage(exchange, round(now * 1e9))
            if used is not None:
                limits.append({"name": account.instance, "policy": account.policy, **used._asdict()})
    return {"consumer": identity.consumer.id if identity is not None else None, "limits": limits}


def report_of(accounts: Sequence[Account], consumer: Consumer, now: float) -> dict[str, Any]:
    """The same for operators: what `consumer` has used of the limits that are counted by consumer alone."""
    exchange = Exchange()
    exchange.identity = Identity(consumer, "")
    return report(accounts, exchange, now)
