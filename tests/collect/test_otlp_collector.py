"""The exporter of spans, against a collector that is not ours (Rotel): what it reads in them."""

from __future__ import annotations

import asyncio
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from gatewayd.collect.otlp import TraceExporter
from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from tests.support.daemon import wait_for
from tests.support.peers import free_port, running

from .sampled_calls import CALL, WALL, add, open_store


def agent() -> str:
    """The collector's program; skips the test where its package is not to be had."""
    spec = find_spec("rotel")
    if spec is None or spec.origin is None:
        pytest.skip("rotel is not installed")
    return str(Path(spec.origin).with_name("rotel-agent"))


@pytest.mark.process
def test_a_collector_reads_what_we_meant(tmp_path):
    port = free_port()
    command = [agent(), "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--exporter", "blackhole"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}"]
    command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    store = open_store(tmp_path)
    add(store, "calls-0", 1, verdicts="partner-ips:observed cache:miss")
    add(store, "calls-0", 2, status=504, reason="first_byte_timeout", upstream_us=0, span_id="00000000000000f1")
    with running(command, port, tmp_path):
        exporter = exported(store, f"http://127.0.0.1:{port}")
        said = tmp_path / "said.log"
        wait_for(lambda: said.read_text().count("Trace ID") == 4, "the collector's account")
        text = said.read_text()
    store.close()
    assert (exporter.sent, exporter.rejected, dict(exporter.failures)) == (4, 0, {})
    assert re.findall(r"Trace ID +: (\w+)", text) == [CALL["trace_id"]] * 4
    spans = re.findall(r"Parent ID +: (\w+)\s+ID +: (\w+)\s+Name +: (.*)\s+Kind +: (\w+)", text)
    name = "GET /v1/quotes/{id}"
    assert spans == [
        (CALL["parent_id"], CALL["span_id"], name, "SPAN_KIND_SERVER"),
        (CALL["span_id"], "00f067aa0ba902b6", "GET", "SPAN_KIND_CLIENT"),
        (CALL["parent_id"], "00000000000000f1", name, "SPAN_KIND_SERVER"),
        ("00000000000000f1", "00000000000000f0", "GET", "SPAN_KIND_CLIENT"),
    ]
    assert text.count("STATUS_CODE_ERROR") == 2
    begun = int(WALL * 1e6) * 1000
    assert f"Start time: {begun}" in text
    assert f"End time: {begun + 1_500_000}" in text
    for line in (
        "service.name: Str(gatewayd)",
        "http.response.status_code: Int(504)",
        "error.type: Str(first_byte_timeout)",
        "gatewayd.verdicts: Slice(Str(partner-ips:observed), Str(cache:miss))",
    ):
        assert line in text


def exported(store, url: str) -> TraceExporter:
    """The exporter, once it has sent what is in `store`."""

    async def run() -> TraceExporter:
        turned = asyncio.Event()

        async def wait(_: float) -> None:
            turned.set()
            await asyncio.Event().wait()

        exporter = TraceExporter(lambda: store, FakeClock(wall=WALL + 1), wait)
        await exporter.apply(decode({"tracing": {"url": url}}))
        await asyncio.wait_for(turned.wait(), 20)
        await exporter.close()
        return exporter

    return asyncio.run(run())
