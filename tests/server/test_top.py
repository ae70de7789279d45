"""`GET /v1/top`."""

from __future__ import annotations

import asyncio

import jsonschema_rs
import msgspec
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gatewayd.config.model import Document
from gatewayd.server.overview import Overview
from gatewayd.server.top import Top
from tests.server.observed import STATUS, totals


def asked(path="/v1/top"):
    async def run():
        async def observed():
            return STATUS, totals()

        part = Top(observed)
        await part.apply(Document())
        app = web.Application()
        app.add_routes(part.routes())
        async with TestClient(TestServer(app)) as client, client.get(path) as reply:
            found = reply.status, reply.content_type, await reply.read()
        await part.close()
        return part, *found

    return asyncio.run(run())


def test_it_tells_the_present():
    part, status, kind, body = asked()
    assert (status, kind) == (200, "application/json")
    assert msgspec.json.decode(body, type=Overview).generation == 4
    assert list(part.families()) == []


def test_it_is_as_the_description_says():
    part, _, _, body = asked()
    ((path, item),) = part.operations().items()
    schema = item["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.Draft202012Validator(schema)
    assert path == "/v1/top"
    assert validator.is_valid(msgspec.json.decode(body))
    assert not validator.is_valid({"now": "later"})
