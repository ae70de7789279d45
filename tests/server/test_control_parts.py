"""What the control process consists of, by what the configuration wants."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gatewayd.collect.collector import Collector
from gatewayd.collect.store import StoreError
from gatewayd.config.collector import Collector as CollectorConfig
from gatewayd.config.model import Audit, Document, Gateway
from gatewayd.server import control_parts


def document(tmp_path, **collector):
    return Document(
        gateway=Gateway(state_dir=str(tmp_path)),
        audit=Audit(enabled=True),
        collector=CollectorConfig(**collector),
    )


def made(wanted):
    parts = []
    parts += control_parts.make(wanted, lambda: parts)
    return parts


def test_where_no_call_is_recorded_there_is_none_and_no_database_library_is_loaded():
    code = """
import sys
from gatewayd.config.model import Document
from gatewayd.server import control_parts
assert control_parts.make(Document(), list) == ()
print(sorted({"duckdb", "numpy"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_collects_comes_before_what_reads_it(tmp_path):
    first, *rest = made(document(tmp_path))
    assert isinstance(first, Collector)
    assert {type(part).__name__ for part in rest} == {"Retention", "TraceExporter", "Shipping", "Alerting", "Api"}


def test_the_interface_describes_what_every_part_answers(tmp_path):
    async def run():
        parts = made(document(tmp_path))
        app = web.Application()
        for part in parts:
            app.add_routes(part.routes())
        async with TestClient(TestServer(app)) as client:
            return json.loads(await (await client.get("/v1/openapi.json")).text()), {
                route.resource.canonical for route in app.router.routes()
            }

    described, answered = asyncio.run(run())
    assert {path for path in answered if path.startswith("/v1/")} == set(described["paths"])


@pytest.mark.parametrize("enabled", [True, False])
def test_a_segment_is_needed_until_it_is_collected(tmp_path, enabled):
    async def run():
        collector = Collector()
        await collector.apply(document(tmp_path, enabled=enabled))
        needed = control_parts._needed(collector)
        try:
            found = [needed("calls-0")]
            if enabled:
                with collector.store.cursor() as cursor:
                    cursor.execute("INSERT INTO positions VALUES ('calls-0', 7, 0, '', 0)")
                found.append(needed("calls-0"))
            return found
        finally:
            await collector.close()

    assert asyncio.run(run()) == ([0, 7] if enabled else [None])


def test_a_store_that_cannot_be_read_lets_nothing_go(tmp_path):
    (tmp_path / "calls.duckdb").mkdir()

    async def run():
        collector = Collector()
        await collector.apply(document(tmp_path))
        try:
            with pytest.raises(StoreError):
                control_parts._needed(collector)("calls-0")
        finally:
            await collector.close()

    asyncio.run(run())
