from __future__ import annotations

import asyncio

import msgspec
import pytest

from gatewayd.collect import log_desk
from gatewayd.collect.api import Api
from gatewayd.core.clock import FakeClock
from tests.support.asking import client_of
from tests.support.calls import NOON, call, empty, fill, store_in

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    yield store
    store.close()


@pytest.fixture
def store(made):
    fill(empty(made), [call(number, status=500 if number == 3 else 200) for number in range(1, 6)])
    return made


def asked(store, *paths, idle=None, clock=None):
    """Status and JSON of each of some questions."""

    async def run():
        async with client_of(Api(lambda: store, list, clock or FakeClock(wall=NOON + 60), idle)) as client:
            found = []
            for path in paths:
                async with client.get(path) as reply:
                    found.append((reply.status, await reply.json()))
            return found

    return asyncio.run(run())


def test_pages(store):
    ((status, first),) = asked(store, "/v1/logs?limit=3&to=2027-01-15T12:00:05Z")
    assert status == 200
    assert [row["number"] for row in first["calls"]] == [4, 3, 2]
    ((_, second),) = asked(store, f"/v1/logs?limit=3&cursor={first['cursor']}")
    assert [row["number"] for row in second["calls"]] == [1]
    assert (second["cursor"], second["position"]) == ("", "calls-0:5")
    ((_, oldest),) = asked(store, "/v1/logs?order=oldest&limit=1&status=5xx")
    assert [row["number"] for row in oldest["calls"]] == [3]


def test_everything_that_is_wrong(store):
    ((status, found),) = asked(store, "/v1/logs?limit=0&cursor=x&stauts=5xx&from=1h&from=2h")
    assert status == 400
    assert [fault["path"] for fault in found["faults"]] == ["limit", "cursor", "stauts", "from"]
    assert "did you mean status?" in found["error"]


def test_one_call(store):
    (one, none) = asked(store, "/v1/calls/id-0003", "/v1/calls/id-0009")
    assert (one[0], one[1][0]["status"], one[1][0]["captured"]) == (200, 500, None)
    assert none == (404, {"error": "no call of this id is kept", "faults": []})


def test_what_came_in_meanwhile(store):
    ((_, found),) = asked(store, "/v1/logs/follow?position=calls-0:3")
    assert [row["number"] for row in found["calls"]] == [4, 5]
    assert found["position"] == "calls-0:5"


def test_waiting_for_a_call(store):
    """It comes in at the second look; it does not fulfil what is asked for, the next does."""
    coming = [call(6), call(7, status=503)]

    async def idle():
        fill(store, [coming.pop(0)])

    ((_, found),) = asked(store, "/v1/logs/follow?status=5xx", idle=idle)
    assert [row["number"] for row in found["calls"]] == [7]
    assert (found["position"], coming) == ("calls-0:7", [])


def test_waiting_in_vain(store):
    clock = FakeClock(wall=NOON)

    async def idle():
        clock.advance(4)

    ((_, found),) = asked(store, "/v1/logs/follow?wait=10", idle=idle, clock=clock)
    assert found == {"calls": [], "position": "calls-0:5"}
    assert clock.now == 1_012


def lines(store, path, idle, stop, clock=None):
    """What a stream says up to a line that `stop` takes."""

    async def run():
        async with client_of(Api(lambda: store, list, clock or FakeClock(wall=NOON), idle)) as client:
            found = []
            async with client.get(path, headers=NDJSON) as reply:
                assert reply.content_type == "application/x-ndjson"
                async for line in reply.content:
                    found.append(msgspec.json.decode(line))
                    if stop(found[-1]):
                        return found
            return found

    return asyncio.run(run())


def test_a_stream_of_calls(store):
    coming = [call(number) for number in (6, 7, 8)]

    async def idle():
        if coming:
            fill(store, [coming.pop(0)])
        await asyncio.sleep(0)

    found = lines(store, "/v1/logs/follow?position=calls-0:4", idle, lambda line: line.get("number") == 8)
    assert [line.get("number", line.get("position")) for line in found] == [
        5, "calls-0:5", 6, "calls-0:6", 7, "calls-0:7", 8,
    ]  # fmt: skip


def test_a_stream_says_where_it_is_though_nothing_comes(store):
    clock = FakeClock(wall=NOON)

    async def idle():
        clock.advance(5)
        await asyncio.sleep(0)

    seen = []
    found = lines(store, "/v1/logs/follow", idle, lambda line: seen.append(clock.now) or len(seen) == 3, clock)
    assert found == [{"position": "calls-0:5"}] * 3
    assert seen[2] - seen[0] >= 30


def test_a_stream_ends_with_the_reason(store):
    stores = [store, store, None]

    async def run():
        async with client_of(Api(lambda: stores.pop(0), list, FakeClock())) as client:
            reply = await client.get("/v1/logs/follow", headers=NDJSON)
            return (await reply.read()).splitlines()

    *_, last = asyncio.run(run())
    assert msgspec.json.decode(last) == {
        "error": "no calls are collected: the collector is off, or has not started yet"
    }


def test_closing_ends_those_who_follow(store):
    async def run():
        api = Api(lambda: store, list, FakeClock())
        async with client_of(api) as client:
            stream = await client.get("/v1/logs/follow", headers=NDJSON)
            assert msgspec.json.decode(await stream.content.readline()) == {"position": "calls-0:5"}
            polling = asyncio.ensure_future(client.get("/v1/logs/follow?wait=60"))
            await asyncio.sleep(0)
            await api.close()
            assert await stream.read() in (
                b"",
                b'{"error":"%b"}\n' % b"no calls are collected: the collector is off, or has not started yet",
            )
            return (await polling).status

    assert asyncio.run(run()) in (200, 503)


def test_not_too_many_follow(store, monkeypatch):
    monkeypatch.setattr(log_desk, "FOLLOWERS", 1)

    async def run():
        async with client_of(Api(lambda: store, list, FakeClock())) as client:
            stream = await client.get("/v1/logs/follow", headers=NDJSON)
            await stream.content.readline()
            second = await client.get("/v1/logs/follow")
            return second.status, await second.json()

    assert asyncio.run(run()) == (503, {"error": "1 follow already", "faults": []})
