"""Hooks that write down what became of them, and edges that run them."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import pytest

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Hooks, Reply
from gatewayd.core.problem import problem
from gatewayd.observe import metrics
from tests.support.edge import EdgeThread
from tests.support.policies import install, policy

FINE, REFUSED, GONE = (metrics.CLASSES.index(name) for name in ("2xx", "4xx", "499"))
BROKEN = (h11.RemoteProtocolError, ConnectionResetError)
REFUSAL = problem(403, "not_you", "you are not let in")


class Trace:
    """Makes hooks that write down in which order they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.logged: list[tuple[str, int, str]] = []  # path, status, reason

    def access(self, name: str, verdict: Reply | None = None) -> Any:
        def hook(exchange: Exchange) -> Reply | None:
            self.ran.append(name)
            return verdict

        return hook

    def waiting(self, name: str, verdict: Reply | None = None, until: asyncio.Event | None = None) -> Any:
        async def hook(exchange: Exchange) -> Reply | None:
            self.ran.append(name)
            if until is not None:
                await until.wait()
            else:
                await asyncio.sleep(0)
            self.ran.append(f"{name} done")
            return verdict

        return hook

    def failing(self, name: str) -> Any:
        def hook(exchange: Exchange) -> Reply | None:
            self.ran.append(name)
            raise LookupError(name)

        return hook

    def log(self, exchange: Exchange) -> None:
        self.logged.append((exchange.path.decode(), exchange.status, exchange.reason))


STATIC = {"routes": {"all": {"path": "/*", "reply": {"body": "static"}}}}


def guarded(monkeypatch: pytest.MonkeyPatch, base: dict[str, Any] | None = None, **hooks: Hooks) -> dict[str, Any]:
    """A document whose only route has an instance of each made-up policy on it, in this order."""
    install(monkeypatch, **{name: policy(each) for name, each in hooks.items()})
    base = base or STATIC
    routes = {name: {**route, "policies": list(reversed(hooks))} for name, route in base["routes"].items()}
    return {**base, "routes": routes, "policies": {name: {} for name in hooks}}


def recorded(edge: EdgeThread) -> metrics.Totals:
    edge.call(edge.edge._pipeline.record)
    return edge.totals()
