from __future__ import annotations

import asyncio

import duckdb
import pytest

from gatewayd.collect import export_desk
from gatewayd.collect.api import Api
from gatewayd.collect.openapi import JSON
from gatewayd.config.model import Document, Gateway
from gatewayd.core.clock import FakeClock
from tests.support.asking import client_of
from tests.support.calls import NOON, call, fill, store_in


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    fill(store, [call(number, route="a" if number % 2 else "b") for number in range(1, 10)])
    yield store
    store.close()


@pytest.fixture
def ask(store, tmp_path):
    """Status, headers and body of the answer; a body that is given is posted."""

    def asked(path, body=None, **more):
        async def run():
            api = Api(lambda: store, list, FakeClock(wall=NOON + 60))
            await api.apply(Document(gateway=Gateway(state_dir=str(tmp_path))))
            async with client_of(api) as client:
                request = client.get(path) if body is None and not more else client.post(path, json=body, **more)
                async with request as reply:
                    kind = reply.content_type
                    return reply.status, reply.headers, await (reply.json() if kind == JSON else reply.read())

        return asyncio.run(run())

    return asked


def rows_of(path):
    with duckdb.connect() as other:
        return other.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()[0]


def test_a_file_as_the_reply(ask, tmp_path):
    status, headers, body = ask("/v1/export?route=a")
    assert (status, headers["Content-Type"]) == (200, "application/vnd.apache.parquet")
    assert headers["Content-Disposition"] == 'attachment; filename="calls.parquet"'
    assert int(headers["Content-Length"]) == len(body)
    (tmp_path / "got").write_bytes(body)
    assert rows_of(tmp_path / "got") == 5
    assert list((tmp_path / "exports").iterdir()) == []


def test_other_formats(ask):
    assert ask("/v1/export?format=csv&status=5xx")[2].count(b"\n") == 1
    assert ask("/v1/export?format=ndjson")[2].count(b'"request_id":"id-') == 9


def test_a_file_on_the_daemons_machine(ask, tmp_path):
    status, _, found = ask("/v1/export", {"name": "calls.parquet", "route": ["a", "b"], "from": "1h"})
    path = tmp_path / "exports" / "calls.parquet"
    assert (status, found) == (200, {"path": str(path), "rows": 9, "bytes": path.stat().st_size})
    assert rows_of(path) == 9
    assert ask("/v1/export", {"name": "calls.parquet"})[0] == 409
    assert ask("/v1/export", {"name": "a.csv", "route": "a"})[2]["rows"] == 5
    assert (tmp_path / "exports" / "a.csv").read_text().count("\n") == 6


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"name": "../x"}, ["name"]),
        ({"name": "/etc/x", "format": "xls"}, ["name", "format"]),
        ({}, ["name"]),
        ({"name": None}, ["name"]),
        ([], ["body"]),
    ],
)
def test_what_is_wrong(ask, tmp_path, body, names):
    status, _, found = ask("/v1/export", body)
    assert (status, [fault["path"] for fault in found["faults"]]) == (400, names)
    assert not (tmp_path / "exports").exists()


def test_a_body_that_is_no_json(ask):
    assert ask("/v1/export", data=b"name=x", headers={"Content-Type": "text/plain"})[0] == 415
    assert ask("/v1/export", data=b"{", headers={"Content-Type": "application/json"})[0] == 400


def test_what_takes_too_long_leaves_nothing(ask, tmp_path, monkeypatch):
    def export(cursor, path, **_):
        path.write_bytes(b"some")
        cursor.execute("SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range = -b.range - 1")

    monkeypatch.setattr(export_desk, "LONGEST", 0.01)
    monkeypatch.setattr(export_desk.export, "export", export)
    status, _, found = ask("/v1/export", {"name": "calls.parquet"})
    assert status == 503
    assert "no answer within 0.01 seconds" in found["error"]
    assert list((tmp_path / "exports").iterdir()) == []


def test_without_a_state_directory(store):
    async def run():
        async with client_of(Api(lambda: store, list)) as client:
            reply = await client.get("/v1/export")
            return reply.status, (await reply.json())["error"]

    assert asyncio.run(run()) == (503, "there is no state directory to write exports to")
