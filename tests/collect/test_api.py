from __future__ import annotations

import asyncio
import threading

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gatewayd.collect.api import Api
from gatewayd.collect.openapi import differences
from gatewayd.collect.questions import AT_ONCE
from gatewayd.config.model import Audit, Document
from gatewayd.server.control_parts import make
from gatewayd.server.top import Top
from tests.support.asking import client_of
from tests.support.calls import store_in

QUESTIONS = ("/v1/logs", "/v1/logs/follow", "/v1/calls/x", "/v1/stats", "/v1/stats/series", "/v1/stats/compare")


def asked(api, path):
    async def run():
        async with client_of(api) as client:
            reply = await client.get(path)
            return reply.status, await reply.json()

    return asyncio.run(run())


@pytest.mark.parametrize("path", QUESTIONS)
def test_without_a_store_there_is_no_answer(path):
    assert asked(Api(lambda: None, list), path) == (
        503,
        {"error": "no calls are collected: the collector is off, or has not started yet", "faults": []},
    )


@pytest.mark.parametrize("path", QUESTIONS)
def test_an_empty_store_answers(tmp_path, path):
    store = store_in(tmp_path)
    status, _ = asked(Api(lambda: store, list), f"{path}?wait=0" if "follow" in path else path)
    store.close()
    assert status == (404 if "calls" in path else 200)


def test_who_follows_is_not_held_up_by_other_questions(tmp_path):
    """All turns are taken by what takes long, and who follows gets an answer."""
    store = store_in(tmp_path)

    async def run():
        api = Api(lambda: store, list)
        async with client_of(api) as client:
            begun, release = threading.Semaphore(0), threading.Event()

            def slow(_):
                begun.release()
                return release.wait(30)

            taken = [asyncio.ensure_future(api._questions[0].ask(slow)) for _ in range(AT_ONCE)]
            for _ in taken:
                await asyncio.to_thread(begun.acquire)
            reply = await client.get("/v1/logs/follow?wait=0")
            release.set()
            return reply.status, await asyncio.gather(*taken)

    assert asyncio.run(run()) == (200, [True] * AT_ONCE)
    store.close()


def test_the_description():
    status, found = asked(Api(lambda: None, list), "/v1/openapi.json")
    assert status == 200
    OpenAPIV31SpecValidator(found).validate()
    assert {*QUESTIONS[:2], *QUESTIONS[3:], "/v1/calls/{request_id}", "/v1/export"} < set(found["paths"])
    assert sorted(found["paths"]["/v1/export"]) == ["get", "post"]


def test_every_part_describes_what_it_serves():
    parts = [Top(None), *make(Document(audit=Audit(enabled=True)), list)]
    assert differences(parts) == []
    api = next(part for part in parts if isinstance(part, Api))

    async def described():
        async with client_of(Api(lambda: None, lambda: [part for part in parts if part is not api])) as client:
            return await (await client.get("/v1/openapi.json")).json()

    found = asyncio.run(described())
    OpenAPIV31SpecValidator(found).validate()
    names = [each["operationId"] for item in found["paths"].values() for each in item.values() if "operationId" in each]
    assert len(set(names)) == len(names)


def test_it_shows_no_figures():
    assert list(Api(lambda: None, list).families()) == []
