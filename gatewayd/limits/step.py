"""All limits of a route in one step: every one is asked before any is charged, and what one refuses costs no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Limit, Reply
from gatewayd.core.problem import problem

_log = logging.getLogger(__name__)

FAILED = problem(500, "policy_failed", "a policy could not decide, so the request was refused")
_ROUNDS = 3
"""Times a step begins again because another worker took the last of a limit between its question and its charge."""


class Entry(NamedTuple):
    """A limit on a route: its policy instance, and what its `mode` and `failure` say."""

    instance: str
    limit: Limit
    observe: bool = False
    fail_open: bool = False


def one_step(entries: Sequence[Entry], clock: Callable[[], float]) -> Callable[[Exchange], Reply | None]:
    """An access hook that asks and charges `entries` together, and notes its verdicts by itself.

    A limit in `observe` mode is charged like any other; where it has no room that is noted, and nothing refused.
    """
    asked = tuple(entries)

    def step(exchange: Exchange) -> Reply | None:
        now = clock()
        for _ in range(_ROUNDS):
            charged: list[Limit] = []
            for entry in asked:
                reply = _room(entry, exchange, now)
                if reply is not None:
                    return reply
            for entry in asked:
                if not _take(entry, exchange, now, charged):
                    break
            else:
                return None
            for limit in charged:
                limit.give_back(exchange, now)
        return _room(entry, exchange, now) or FAILED

    return step


def _room(entry: Entry, exchange: Exchange, now: float) -> Reply | None:
    try:
        reply = entry.limit.room(exchange, now)
    except Exception:
        return _failed(entry, exchange)
    if reply is None:
        return None
    _note(exchange, entry.instance, "observed" if entry.observe else "refused")
    return None if entry.observe else reply


def _take(entry: Entry, exchange: Exchange, now: float, charged: list[Limit]) -> bool:
    """Charge `entry`; False if there was no room any more. What breaks here has said so in `_room`, or lets pass."""
    taken = entry.limit.take(exchange, now)
    if taken:
        charged.append(entry.limit)
    return taken or entry.observe


def _failed(entry: Entry, exchange: Exchange) -> Reply | None:
    passes = entry.fail_open or entry.observe
    _log.exception("policy %s failed%s", entry.instance, "; it fails open" if passes else "")
    _note(exchange, entry.instance, "failed")
    return None if passes else FAILED


def _note(exchange: Exchange, instance: str, verdict: str) -> None:
    if exchange.verdicts is None:
        exchange.verdicts = []
    exchange.verdicts.append((instance, verdict))
