"""Telematics: readings of insured vehicles as they drive, over a WebSocket and as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count

import orjson
from aiohttp import WSMsgType, web

from gatewayd.demo import book
from gatewayd.demo.service import application, json_reply, options, refusal, run, whole

STREAMS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("streams", set[web.WebSocketResponse])


class Wishes:
    """What the query asks for: `vehicle`, `interval` (milliseconds), `count` of readings (0: no end)."""

    def __init__(self, request: web.Request) -> None:
        query = request.query
        vehicle = book.number_of(query.get("vehicle", "VEH-000042"), "VEH", book.VEHICLES)
        interval = whole(query.get("interval"), 500, 1, 60_000)
        readings = whole(query.get("count"), 0, 0, 1_000_000)
        self.understood = None not in (vehicle, interval, readings)
        self.vehicle = vehicle or 1
        self.seconds = (interval or 0) / 1000
        self.readings = readings or 0

    def sequences(self, first: int) -> Iterable[int]:
        """The numbers of the readings wanted, from `first` on."""
        return range(first, first + self.readings) if self.readings else count(first)


def _not_understood() -> web.Response:
    return refusal(400, "vehicle is VEH-000001 to VEH-005000, interval 1 to 60000 (ms), count a number")


async def stream(request: web.Request) -> web.StreamResponse:
    """Readings as WebSocket messages (RFC 6455); a text the caller sends comes back as `{"echo": text}`."""
    wishes = Wishes(request)
    if not wishes.understood:
        return _not_understood()
    socket = web.WebSocketResponse(heartbeat=30)
    await socket.prepare(request)
    request.app[STREAMS].add(socket)
    try:
        for sequence in wishes.sequences(1):
            await socket.send_str(orjson.dumps(book.reading(wishes.vehicle, sequence)).decode())
            if await _echo(socket, wishes.seconds):
                break
    finally:
        request.app[STREAMS].discard(socket)
    await socket.close()
    return socket


async def _echo(socket: web.WebSocketResponse, seconds: float) -> bool:
    """Answer what comes in within `seconds`; True when the caller has gone."""
    try:
        async with asyncio.timeout(seconds):
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await socket.send_str(orjson.dumps({"echo": message.data}).decode())
    except TimeoutError:
        return False
    return True


async def events(request: web.Request) -> web.StreamResponse:
    """Readings as `text/event-stream` (HTML Living Standard §9.2); goes on behind `Last-Event-ID`."""
    wishes = Wishes(request)
    if not wishes.understood:
        return _not_understood()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    seen = whole(request.headers.get("Last-Event-ID"), 0, 0, 10**9) or 0
    for sequence in wishes.sequences(seen + 1):
        data = orjson.dumps(book.reading(wishes.vehicle, sequence)).decode()
        await response.write(f"id: {sequence}\nevent: reading\ndata: {data}\n\n".encode())
        await asyncio.sleep(wishes.seconds)
    await response.write_eof()
    return response


async def vehicle(request: web.Request) -> web.Response:
    """One vehicle."""
    number = book.number_of(request.match_info["id"], "VEH", book.VEHICLES)
    return json_reply(book.vehicle(number)) if number else refusal(404, "no such vehicle; try VEH-000042")


async def hang_up(app: web.Application) -> None:
    """Say goodbye to all WebSockets (1001 going away) when the process stops."""
    streams = app[STREAMS]
    for socket in tuple(streams):
        await socket.close(code=1001, message=b"the service stops")


def make_app() -> web.Application:
    """The service."""
    app = application("telematics")
    app[STREAMS] = set()
    app.on_shutdown.append(hang_up)
    app.router.add_get("/v1/telematics/stream", stream)
    app.router.add_get("/v1/telematics/events", events)
    app.router.add_get("/v1/telematics/vehicles/{id}", vehicle)
    return app


if __name__ == "__main__":
    run(make_app(), options("telematics", 9106).port)
