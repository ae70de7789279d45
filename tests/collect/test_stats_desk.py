from __future__ import annotations

import asyncio

import pytest

from gatewayd.collect.api import Api
from gatewayd.core.clock import FakeClock
from tests.support.asking import client_of
from tests.support.calls import NOON, call, fill, store_in


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    rows = [call(number, at=NOON - 60 * number, route="quotes", total_us=1000) for number in range(1, 91)]
    rows += [call(number, at=NOON - 3600 - number, route="claims", status=500) for number in range(101, 111)]
    rows += [call(200, at=NOON - 86_400 - 5, route="quotes")]
    fill(store, rows)
    yield store
    store.close()


@pytest.fixture
def ask(store):
    def asked(path):
        async def run():
            async with client_of(Api(lambda: store, list, FakeClock(wall=NOON))) as client:
                reply = await client.get(path)
                return reply.status, await reply.json()

        return asyncio.run(run())

    return asked


def test_the_last_hour_of_everything(ask):
    status, found = ask("/v1/stats")
    assert status == 200
    assert (found["period"]["from"], found["period"]["to"]) == ("2027-01-15T11:00:00Z", "2027-01-15T12:00:00Z")
    assert (found["by"], found["rows"], found["total"]["calls"]) == (None, [], 60)
    assert (found["period"]["source"], found["period"]["seconds"]) == ("10s", 3600)


def test_the_first_keys(ask):
    _, found = ask("/v1/stats?by=route&from=2h&order=errors&limit=1")
    assert [(row["key"], row["measures"]["errors"]) for row in found["rows"]] == [("claims", 10)]
    assert (found["order"], found["total"]["calls"]) == ("errors", 100)
    _, found = ask("/v1/stats?by=class&from=2h&route=claims")
    assert (found["period"]["source"], [row["key"] for row in found["rows"]]) == ("calls", ["5xx"])
    _, found = ask("/v1/stats?from=2h&exact=true")
    assert (found["period"]["source"], found["total"]["p50_us"]) == ("calls", 1000)


def test_a_series(ask):
    _, found = ask("/v1/stats/series?from=30m&step=15m")
    assert [(point["at"], point["measures"]["calls"]) for point in found["points"]] == [
        ("2027-01-15T11:30:00Z", 15),
        ("2027-01-15T11:45:00Z", 15),
    ]
    assert ask("/v1/stats/series?from=20m")[1]["step"] == "10s"


def test_what_changed(ask):
    _, found = ask("/v1/stats/compare?by=route")
    assert (found["now"]["from"], found["then"]["from"]) == ("2027-01-15T11:00:00Z", "2027-01-15T10:00:00Z")
    assert [(row["key"], row["now"]["calls"], row["then"]["calls"]) for row in found["rows"]] == [
        ("quotes", 60, 30),
        ("claims", 0, 10),
    ]
    assert found["rows"][0]["change"]["calls"] == {"absolute": 30, "relative": 1.0}
    assert found["total"]["change"]["calls"] == {"absolute": 20, "relative": 0.5}


def test_with_what_it_is_compared(ask):
    _, found = ask("/v1/stats/compare?against=day&from=1m")
    assert (found["then"]["from"], found["then"]["to"]) == ("2027-01-14T11:59:00Z", "2027-01-14T12:00:00Z")
    assert found["total"]["then"]["calls"] == 1
    _, found = ask("/v1/stats/compare?against=week")
    assert found["then"]["to"] == "2027-01-08T12:00:00Z"
    _, found = ask("/v1/stats/compare?against_from=90m&against_to=80m")
    assert (found["then"]["from"], found["then"]["seconds"]) == ("2027-01-15T10:30:00Z", 600)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v1/stats?by=rout&order=best&limit=9999", ["by", "order", "limit"]),
        ("/v1/stats?from=2027-01-15T13:00:00Z", ["from"]),
        ("/v1/stats?from=1h&to=2h", ["to"]),
        ("/v1/stats/series?step=10s&from=30d", ["step"]),
        ("/v1/stats/series?by=route", ["by"]),
        ("/v1/stats/compare?against_from=2h", ["against_to"]),
        ("/v1/stats/compare?against_from=2h&against_to=3h", ["against_to"]),
    ],
)
def test_what_is_wrong(ask, path, names):
    status, found = ask(path)
    assert status == 400
    assert [fault["path"] for fault in found["faults"]] == names
