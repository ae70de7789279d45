"""Anchors and retention as the control process does them, and the anchor of the moment over its listener."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gatewayd.audit.actions import decode_action
from gatewayd.audit.anchors import Anchors
from gatewayd.audit.segments import ACTIONS
from gatewayd.collect import retiring as module
from gatewayd.collect.retiring import Retention
from gatewayd.config.model import Audit, Document, Gateway
from gatewayd.config.units import Duration
from gatewayd.core.clock import FakeClock
from tests.support.evidence import BEGAN, Bench
from tests.support.records import bodies_in


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.write([[4]] * 3)
    return made


def document(bench, **audit):
    return Document(gateway=Gateway(state_dir=str(bench.state)), audit=Audit(**{"enabled": True, **audit}))


def play(bench, scenario, clock=None, ingested=module.nobody, every=module.EVERY, **audit):
    """Run `scenario(part)` with a part that goes by a document."""

    async def run():
        part = Retention(ingested, clock or FakeClock(wall=BEGAN), every)
        await part.apply(document(bench, **audit))
        try:
            return await scenario(part)
        finally:
            await part.close()

    return asyncio.run(run())


def acted(bench):
    return [decode_action(body).action for body in bodies_in(bench.folder(ACTIONS), bench.state)]


def shown(part):
    return {family.name: family.samples[0].value for family in part.families()}


def test_ends_go_on_record_once_until_they_are_others(bench):
    async def scenario(part):
        await part.turn()
        await part.turn()
        assert acted(bench) == ["audit.anchor"]
        await asyncio.to_thread(bench.write, [[1]])
        await part.turn()
        return shown(part)

    found = play(bench, scenario)
    assert acted(bench) == ["audit.anchor"] * 2
    assert found["gatewayd_audit_anchored_timestamp_seconds"] == BEGAN
    bench.path(4).unlink()
    assert bench.first().kind == "segment removed"


def test_old_segments_are_retired_once_they_are_ingested(bench):
    needed = {"calls-0": 2}

    async def scenario(part):
        await part.turn()
        first = shown(part)["gatewayd_audit_retired_segments"]
        needed["calls-0"] = 3
        await part.turn()
        return first, shown(part)["gatewayd_audit_retired_segments"]

    clock = FakeClock(wall=BEGAN + 10_000)
    assert play(bench, scenario, clock, needed.get, retention=Duration(3600)) == (1, 2)
    assert acted(bench) == ["audit.anchor", "audit.retire", "audit.retire"]
    assert bench.verify().fine


def test_a_broken_segment_is_said_once(bench, caplog):
    data = bytearray(bench.path(1).read_bytes())
    data[bench.frames(1)[1].end - 1] ^= 1
    bench.path(1).write_bytes(data)

    async def scenario(part):
        await part.turn()
        await part.turn()
        return shown(part)

    found = play(bench, scenario, FakeClock(wall=BEGAN + 10_000), retention=Duration(3600))
    assert found["gatewayd_audit_broken_chains"] == 1
    assert caplog.text.count("segment 1 stays") == 1


def test_a_round_that_fails_is_counted_and_the_next_succeeds(bench, caplog, monkeypatch):
    monkeypatch.setattr(module, "anchor", lambda *arguments, **named: (_ for _ in ()).throw(OSError(28, "full")))

    async def scenario(part):
        await part.turn()
        failed = shown(part)
        monkeypatch.undo()
        await part.turn()
        return failed, shown(part)

    failed, after = play(bench, scenario)
    assert (failed["gatewayd_audit_rounds_failed"], failed["gatewayd_audit_anchored_timestamp_seconds"]) == (1, 0)
    assert after["gatewayd_audit_anchored_timestamp_seconds"] == BEGAN
    assert "audit: [Errno 28] full" in caplog.text


def test_it_turns_by_itself_and_stops(bench):
    async def scenario(part):
        turned = asyncio.Event()
        real = part.turn

        async def turn():
            await real()
            turned.set()

        part.turn = turn
        async with asyncio.timeout(20):
            await turned.wait()

    play(bench, scenario, every=0.001)
    assert "audit.anchor" in acted(bench)


def test_where_nothing_is_recorded_nothing_is_done(bench):
    async def scenario(part):
        await part.turn()
        with pytest.raises(web.HTTPNotFound):
            await part.anchor(None)
        return list(part.families())

    assert play(bench, scenario, enabled=False) == []
    assert not bench.folder(ACTIONS).exists()


def test_the_anchor_of_the_moment(bench):
    async def scenario(part):
        app = web.Application()
        app.router.add_routes(part.routes())
        async with TestClient(TestServer(app)) as client:
            reply = await client.get("/v1/audit/anchor")
            assert reply.content_type == "application/json"
            return msgspec.json.decode(await reply.read(), type=Anchors)

    found = play(bench, scenario)
    assert [(each.chain, each.records) for each in found.chains] == [("calls-0", 12)]
    assert bench.verify(anchors=found.chains).fine
    assert list(Retention().operations()) == ["/v1/audit/anchor"]
