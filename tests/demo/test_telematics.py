"""Telematics: readings by WebSocket and by server-sent events."""

from __future__ import annotations

import re

import orjson
import pytest
from aiohttp import WSMsgType

from gatewayd.demo import book, telematics

from .call import with_service


def test_readings_come_as_messages_and_texts_are_echoed():
    async def talk(client):
        async with client.ws_connect("/v1/telematics/stream?interval=60000&vehicle=VEH-000007") as socket:
            first = await socket.receive_json()
            await socket.send_str("hello")
            return first, await socket.receive_json()

    assert with_service(telematics.make_app(), talk) == (book.reading(7, 1), {"echo": "hello"})


def test_a_counted_stream_ends_with_a_close():
    async def talk(client):
        async with client.ws_connect("/v1/telematics/stream?interval=1&count=3") as socket:
            return [message.json()["sequence"] async for message in socket], socket.close_code

    assert with_service(telematics.make_app(), talk) == ([1, 2, 3], 1000)


def test_a_service_that_stops_says_goodbye():
    async def talk(client):
        async with client.ws_connect("/v1/telematics/stream?interval=60000") as socket:
            await socket.receive()
            await telematics.hang_up(client.app)
            message = await socket.receive()
            return message.type, message.data

    assert with_service(telematics.make_app(), talk) == (WSMsgType.CLOSE, 1001)


def test_events_go_on_behind_the_last_one_seen():
    async def talk(client):
        reply = await client.get("/v1/telematics/events?interval=1&count=2", headers={"Last-Event-ID": "41"})
        return reply.headers["Content-Type"], await reply.text()

    content_type, text = with_service(telematics.make_app(), talk)
    assert content_type == "text/event-stream"
    assert re.findall(r"^id: (\d+)$", text, re.MULTILINE) == ["42", "43"]
    data = re.findall(r"^data: (.*)$", text, re.MULTILINE)
    assert [orjson.loads(line)["sequence"] for line in data] == [42, 43]


@pytest.mark.parametrize("query", ["vehicle=x", "interval=0", "count=-1"])
def test_odd_wishes_are_refused(query):
    async def talk(client):
        return [(await client.get(f"/v1/telematics/{kind}?{query}")).status for kind in ("stream", "events")]

    assert with_service(telematics.make_app(), talk) == [400, 400]


def test_a_vehicle():
    async def talk(client):
        found = await client.get("/v1/telematics/vehicles/VEH-000042")
        return await found.json(), (await client.get("/v1/telematics/vehicles/VEH-999999")).status

    assert with_service(telematics.make_app(), talk) == (book.vehicle(42), 404)
