"""The part of the control process that answers questions about calls, and describes what all parts answer."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client.core import Metric

from gatewayd.collect import export, openapi
from gatewayd.collect.answers import ErrorAnswer
from gatewayd.collect.export_desk import ExportDesk
from gatewayd.collect.log_desk import LogDesk
from gatewayd.collect.openapi import JSON, Operation
from gatewayd.collect.parameters import BadParameters
from gatewayd.collect.part import Part
from gatewayd.collect.questions import Cursors, Questions, Unanswered
from gatewayd.collect.stats_desk import StatsDesk
from gatewayd.config.model import Document
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.state import StateError, state_folder

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """`/v1/logs`, `/v1/calls`, `/v1/stats`, `/v1/export` and `/v1/openapi.json`. A `Part`."""

    def __init__(
        self,
        store: Callable[[], Cursors | None],
        parts: Callable[[], Iterable[Part]],
        clock: Clock | None = None,
        idle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`store` returns the store, None while there is none; `parts` all other parts. `idle`: see `LogDesk`."""
        questions, clock = Questions(store), clock or SystemClock()
        self._parts = parts
        following = Questions(store, 1)  # answers at once, whatever else is asked
        self._logs = LogDesk(questions, following, clock, idle)
        self._stats = StatsDesk(questions, clock)
        exporting = Questions(store, 1)
        self._export = ExportDesk(exporting, clock)
        self._questions = (questions, following, exporting)

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.RouteDef(each.method, each.path, _answering(each.handler), {}) for each in self._operations()]

    def operations(self) -> dict[str, Any]:
        return openapi.paths(self._operations())

    def families(self) -> Iterable[Metric]:
        return ()

    async def apply(self, document: Document) -> None:
        try:
            self._export.folder = state_folder(document, os.environ) / export.FOLDER
        except StateError:
            self._export.folder = None

    async def close(self) -> None:
        self._logs.close()
        for questions in self._questions:
            await questions.close()

    async def describe(self, _: web.Request) -> web.Response:
        """The OpenAPI description."""
        return _json(openapi.document([self, *self._parts()]))

    def _operations(self) -> Iterable[Operation]:
        described = Operation(
            "GET", "/v1/openapi.json", self.describe, "describe", "This.", {JSON: {"type": "object"}}, errors=()
        )
        return *self._logs.operations(), *self._stats.operations(), *self._export.operations(), described


def _answering(handler: Handler) -> Handler:
    """`handler`, with answers for what it raises."""

    @functools.wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except BadParameters as error:
            return _json(ErrorAnswer(str(error), list(error.faults)), 400)
        except export.AlreadyThere as error:
            return _json(ErrorAnswer(str(error)), 409)
        except (Unanswered, StateError, export.NoRoom) as error:
            return _json(ErrorAnswer(str(error)), 503)

    return answer


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type=JSON)
