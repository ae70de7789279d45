"""All limits of a route in one step: each is charged, and if one has no room the others get back what they took.

Limits are exact over workers, so what one decides from must be there for others to see before it decides: to charge and
then look is one look, to look and then charge would be two. What is charged and given back stands for about a
microsecond.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Limit, Reply, Undecided
from gatewayd.core.problem import POLICY_FAILED

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """A limit on a route: its policy instance, and what its `mode` and `failure` say."""

    instance: str
    limit: Limit
    observe: bool = False
    fail_open: bool = False


Step = Callable[[Exchange], Reply | None]


def one_step(entries: Sequence[Entry], clock: Callable[[], float]) -> Step:
    """An access hook that charges `entries` together, and notes its verdicts by itself.

    `clock` tells monotonic seconds. A limit in `observe` mode is charged like any other; where it has no room that is
    noted, and nothing refused.
    """
    asked = tuple(entries)

    def step(exchange: Exchange) -> Reply | None:
        now = round(clock() * 1e9)
        for entry in asked:
            try:
                reply = entry.limit.take(exchange, now)
            except Exception as error:
                reply = _failed(entry, exchange, error)
            else:
                if reply is not None:
                    reply = _refused(entry, exchange, reply)
            if reply is not None:
                _give_back(asked, entry, exchange)
                return reply
        return None

    return step


def _refused(entry: Entry, exchange: Exchange, reply: Reply) -> Reply | None:
    exchange.note(entry.instance, "observed" if entry.observe else "refused")
    return None if entry.observe else reply


def _give_back(asked: Sequence[Entry], refused: Entry, exchange: Exchange) -> None:
    for entry in asked:
        if entry is refused:
            return
        try:
            entry.limit.give_back(exchange)
        except Exception:
            _log.exception("policy %s could not give back", entry.instance)


def _failed(entry: Entry, exchange: Exchange, error: Exception) -> Reply | None:
    passes = entry.fail_open or entry.observe
    exchange.note(entry.instance, "failed")
    if isinstance(error, Undecided):
        return None if passes else error.reply
    _log.exception("policy %s failed%s", entry.instance, "; it fails open" if passes else "")
    return None if passes else POLICY_FAILED
