"""`/v1/logs`: pages of calls, what comes in, and all about one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from gatewayd.collect import logs
from gatewayd.collect.answers import reference
from gatewayd.collect.filters import FILTERS, Filters, filters_of
from gatewayd.collect.openapi import JSON, Operation
from gatewayd.collect.parameters import one_of, read_all, text, whole
from gatewayd.collect.questions import Questions, Unanswered
from gatewayd.core.clock import Clock

NDJSON = "application/x-ndjson"
FOLLOWERS = 16
_LOOK_EVERY = 0.5
"""Seconds between two looks for what came in."""
_HEARTBEAT = 15.0
"""Seconds after which who follows is told where it is, though nothing came in."""

_PAGE = (
    *FILTERS,
    one_of("order", "Which calls come first.", ("newest", "oldest"), "newest"),
    whole("limit", "How many at most.", 1, logs.MOST, 100),
    text("cursor", "Behind the page that came with this; the other parameters are to be the same.", read=logs.place),
)
_FOLLOW = (
    *(each for each in FILTERS if each.name not in ("from", "to")),
    text(
        "position",
        "What comes in behind this; from now on, if it is not given.",
        read=logs.position_of,
        longest=logs.LONGEST_POSITION,
    ),
    whole("wait", "Seconds to wait for a call, if there is none yet. A stream does not end.", 0, 60, 20),
    whole("limit", "How many at most.", 1, logs.MOST, 100),
)


class LogDesk:
    """Answers what is asked about single calls."""

    def __init__(
        self,
        questions: Questions,
        following: Questions,
        clock: Clock,
        idle: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`following`: for what comes in alone. `idle` waits until it may be worth while to look again."""
        self._questions = questions
        self._following = following
        self._clock = clock
        self._idle = idle or self._wait
        self._followers = 0
        self._over = asyncio.Event()

    def operations(self) -> tuple[Operation, ...]:
        """What can be asked here."""
        page, news = {JSON: reference("Page")}, {JSON: reference("News")}
        found = {JSON: {"type": "array", "items": reference("Call")}}
        stream = {NDJSON: {"description": "A call per line, and behind some a line with the `position`."}}
        return (
            Operation("GET", "/v1/logs", self.page, "logs", "Calls, by page.", page, _PAGE),
            Operation(
                "GET", "/v1/logs/follow", self.follow, "follow", "Calls as they come in.", news | stream, _FOLLOW
            ),
            Operation(
                "GET", "/v1/calls/{request_id}", self.call, "call", "All about the calls of a request id.", found, (),
                errors=(404, 503),
            ),
        )  # fmt: skip

    def close(self) -> None:
        """End those who follow."""
        self._over.set()

    async def page(self, request: web.Request) -> web.Response:
        """One page."""
        values = read_all(_PAGE, request.query.items())
        filters = filters_of(values, self._clock.wall())
        asked = partial(
            logs.page,
            filters=filters,
            order=values["order"] or "newest",
            limit=values["limit"] or 100,
            behind=values["cursor"],
        )
        found = await self._questions.ask(asked)
        return _json({"calls": found.calls, "cursor": found.cursor, "position": found.position})

    async def call(self, request: web.Request) -> web.Response:
        """The calls of one id; a caller may have given it to several."""
        found = await self._questions.ask(partial(logs.detail, request_id=request.match_info["request_id"]))
        if not found:
            return _json({"error": "no call of this id is kept", "faults": []}, 404)
        return _json(found)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """What came in behind a position, once; or on and on as lines, where those are accepted."""
        values = read_all(_FOLLOW, request.query.items())
        filters = filters_of({**values, "from": None, "to": None}, self._clock.wall())
        limit = values["limit"] or 100
        if self._followers >= FOLLOWERS:
            raise Unanswered(f"{FOLLOWERS} follow already")
        self._followers += 1
        try:
            since = values["position"]
            if since is None:
                since = await self._following.ask(logs.position)
            if NDJSON in request.headers.get("Accept", ""):
                return await self._stream(request, filters, since, limit)
            wait = 20 if values["wait"] is None else values["wait"]
            return await self._once(filters, since, limit, self._clock.monotonic() + wait)
        finally:
            self._followers -= 1

    async def _once(self, filters: Filters, since: logs.Position, limit: int, deadline: float) -> web.Response:
        while True:
            calls, since = await self._news(filters, since, limit)
            if calls or self._over.is_set() or self._clock.monotonic() >= deadline:
                return _json({"calls": calls, "position": logs.written(since)})
            await self._idle()

    async def _stream(
        self, request: web.Request, filters: Filters, since: logs.Position, limit: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-store"})
        await response.prepare(request)
        told = self._clock.monotonic() - _HEARTBEAT
        with contextlib.suppress(ConnectionResetError):  # gone
            while not self._over.is_set() and request.transport is not None:
                try:
                    calls, since = await self._news(filters, since, limit)
                except Unanswered as error:
                    await response.write(_lines([{"error": str(error)}]))
                    break
                if calls or self._clock.monotonic() - told >= _HEARTBEAT:
                    told = self._clock.monotonic()
                    await response.write(_lines([*calls, {"position": logs.written(since)}]))
                if not calls:
                    await self._idle()
        return response

    async def _news(self, filters: Filters, since: logs.Position, limit: int) -> tuple[list[logs.Row], logs.Position]:
        return await self._following.ask(partial(logs.news, filters=filters, since=since, limit=limit))

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY):
                await self._over.wait()


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type=JSON)


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
