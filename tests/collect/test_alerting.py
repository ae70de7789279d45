"""The part of the control process: it looks, tells, answers and shows."""

from __future__ import annotations

import asyncio
import base64
import json
import logging

import pytest
from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry, generate_latest

from gatewayd.collect.alerting import PATH, Alerting
from gatewayd.config.alerts import Alerts, Webhook
from gatewayd.config.model import Document
from gatewayd.core.clock import FakeClock

from .alert_store import DAY, HOUR, MONDAY, add_calls, add_hours, complete, opened

NOON = MONDAY + 12 * HOUR
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Single minutes of the last two hours, not of a week."""
    monkeypatch.setattr("gatewayd.collect.watching.BACK", 2 * HOUR)


class Place:
    """The part with a store, an application in front of it, and a webhook that takes everything."""

    def __init__(self, folder):
        self.store = opened(folder)
        self.clock = FakeClock(wall=NOON)
        self.part = Alerting(lambda: self.store, self.clock)
        self.got = asyncio.Queue()
        with self.store.cursor() as cursor:
            add_hours(cursor, dict.fromkeys(range(MONDAY - 56 * DAY, NOON, HOUR), 1_000))
            add_calls(cursor, MONDAY - 8 * DAY)
            complete(cursor, NOON)

    async def __aenter__(self):
        app = web.Application()
        app.router.add_routes(self.part.routes())
        app.router.add_post("/hook", self.take)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        self.session = ClientSession()
        return self

    async def __aexit__(self, *_):
        await self.part.close()
        await self.session.close()
        await self.runner.cleanup()
        self.store.close()

    async def take(self, request):
        await self.got.put(json.loads(await request.read()))
        return web.Response()

    def document(self, **options):
        hooks = {"ops": Webhook(f"{self.url}/hook", SECRET)}
        return Document(alerts=Alerts(interval=0.01, webhooks=hooks, **options))

    async def ask(self, query=""):
        async with self.session.get(f"{self.url}{PATH}{query}") as reply:
            return reply.status, await reply.json() if "json" in reply.content_type else await reply.text()

    def spike(self):
        """One hour with far too many calls."""
        with self.store.cursor() as cursor:
            add_hours(cursor, {NOON: 9_000})
            complete(cursor, NOON + HOUR)
        self.clock.advance(HOUR)

    def page(self):
        registry = CollectorRegistry()
        registry.register(type("Families", (), {"collect": lambda _: list(self.part.families())})())
        return generate_latest(registry).decode()


def at(tmp_path, scenario):
    """Run a scenario in such a place."""

    async def run():
        async with asyncio.timeout(60), Place(tmp_path) as place:
            await scenario(place)

    asyncio.run(run())


def test_an_alert_reaches_everyone(tmp_path, caplog):
    async def scenario(place):
        place.spike()
        await place.part.apply(place.document())
        message = await place.got.get()
        assert (message["type"], message["data"]["subject"]) == ("alert.opened", "consumer:acme")
        status, found = await place.ask()
        assert (status, [each["id"] for each in found["alerts"]]) == (200, [message["data"]["id"]])
        assert found["alerts"][0] == message["data"]
        page = place.page()
        assert 'gatewayd_alerts_open{detector="rate",severity="critical"} 1.0' in page
        assert 'gatewayd_alerts_total{detector="rate",severity="critical"} 1.0' in page
        assert 'gatewayd_webhook_attempts_total{result="failed",webhook="ops"} 0.0' in page

    with caplog.at_level(logging.INFO):
        at(tmp_path, scenario)
    assert "consumer acme made 9,000 calls; usual at this hour are 1,000" in caplog.text
    assert "most of it: route claims 100%" in caplog.text
    assert SECRET not in caplog.text


def test_alerts_can_be_chosen(tmp_path):
    async def scenario(place):
        place.spike()
        await place.part.apply(place.document())
        await place.got.get()
        for query, count in (
            ("?state=open", 1),
            ("?state=resolved", 0),
            ("?state=all&detector=rate&severity=critical", 1),
            ("?detector=latency", 0),
            ("?severity=warning", 0),
            ("?limit=1", 1),
        ):
            status, found = await place.ask(query)
            assert (query, status, len(found["alerts"])) == (query, 200, count)
        for query in ("?state=ajar", "?limit=0", "?detektor=rate"):
            status, found = await place.ask(query)
            assert (status, found["faults"][0]["path"]) == (400, query[1:].partition("=")[0])

    at(tmp_path, scenario)


def test_without_a_store_it_waits_for_one(tmp_path):
    async def scenario(place):
        store, place.store = place.store, None
        await place.part.apply(place.document())
        assert (await place.ask())[0] == 503
        place.store = store
        place.spike()
        assert (await place.got.get())["type"] == "alert.opened"

    at(tmp_path, scenario)


def test_a_store_that_fails_is_said_once_and_tried_again(tmp_path, caplog):
    async def scenario(place):
        store, tried = place.store, asyncio.Event()
        loop = asyncio.get_running_loop()

        class Broken:
            count = 0

            def cursor(self):
                Broken.count += 1
                if Broken.count > 5:
                    loop.call_soon_threadsafe(tried.set)
                return store.cursor().execute("SELECT * FROM no_such_table")

        place.store = Broken()
        await place.part.apply(place.document())
        await tried.wait()
        place.store = store
        place.spike()
        assert (await place.got.get())["type"] == "alert.opened"
        assert "gatewayd_alerts_look_failures_total" in place.page()

    at(tmp_path, scenario)
    assert caplog.text.count("no_such_table") == 1


def test_turned_off_it_does_nothing_and_shows_nothing(tmp_path):
    async def scenario(place):
        await place.part.apply(place.document(enabled=False))
        assert place.page() == ""
        assert place.part._tasks == []
        await place.part.apply(place.document())
        assert len(place.part._tasks) == 2
        await place.part.apply(place.document(enabled=False))
        assert place.part._tasks == []

    at(tmp_path, scenario)


def test_a_reload_changes_what_is_found(tmp_path):
    async def scenario(place):
        place.spike()
        await place.part.apply(place.document(mute_consumers=["acme"], mute_routes=["claims"]))
        assert (await place.got.get())["data"]["subject"] == "gateway:"
        await place.part.apply(place.document())
        assert place.got.empty()

    at(tmp_path, scenario)


def test_it_lets_go_of_the_store(tmp_path):
    async def scenario(place):
        await place.part.apply(place.document())
        await place.part.close()
        place.store.close()
        assert opened(tmp_path).cursor().execute("SELECT 1").fetchall() == [(1,)]

    at(tmp_path, scenario)


@pytest.mark.parametrize("key", ["parameters", "responses", "operationId"])
def test_it_describes_itself(key):
    (described,) = Alerting(lambda: None).operations().values()
    assert key in described["get"]
