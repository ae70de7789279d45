from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from gatewayd.audit.keys import load_signer
from gatewayd.collect.shipping import Shipping, made
from gatewayd.collect.sinks import clickhouse, file, postgres, syslog
from gatewayd.config.model import Document, decode
from gatewayd.config.sinks import ClickhouseSink, FileSink, PostgresSink, SyslogSink

from .sinks.recorded import ORIGIN, names, opened, put


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def document(folder, **sinks) -> Document:
    """One that has these sinks, quick ones."""
    tables = {name: {"interval": "1ms"} | table for name, table in sinks.items()}
    return decode({"gateway": {"state_dir": str(folder), "name": "edge-1"}, "sinks": tables})


def kept(path):
    return [(line["chain"], line["number"]) for line in map(json.loads, path.read_text().splitlines())]


async def shown(shipping, text):
    """Wait until its metrics say `text`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(page_of(shipping))
    while text not in generate_latest(registry).decode():  # noqa: ASYNC110 - metrics tell nobody when they change
        await asyncio.sleep(0.001)


def page_of(shipping):
    """A collector of prometheus_client's."""

    class Page:
        def collect(self):
            return shipping.families()

    return Page()


def test_sinks_come_go_and_go_on(store, tmp_path):
    put(store, 3)
    one, two = tmp_path / "one", tmp_path / "two"

    async def play():
        shipping = Shipping(lambda: store)
        assert (list(shipping.routes()), shipping.operations()) == ([], {})
        await shipping.apply(document(tmp_path, one={"kind": "file", "path": str(one)}))
        await shown(shipping, 'gatewayd_sink_sent_records_total{sink="one"} 3.0')
        both = document(
            tmp_path,
            one={"kind": "file", "path": str(one)},
            two={"kind": "file", "path": str(two), "fields": ["status"]},
        )
        await shipping.apply(both)
        await shown(shipping, 'gatewayd_sink_sent_records_total{sink="two"} 3.0')
        put(store, 2)
        await shown(shipping, 'gatewayd_sink_sent_records_total{sink="two"} 5.0')
        await shown(shipping, 'gatewayd_sink_sent_records_total{sink="one"} 5.0')  # the same runner all the time
        await shipping.apply(document(tmp_path, two={"kind": "file", "path": str(two), "fields": ["code"]}))
        put(store, 1)
        await shown(shipping, 'gatewayd_sink_sent_records_total{sink="two"} 1.0')  # another, from where it stood
        assert 'sink="one"' not in str(list(shipping.families()))
        await shipping.close()

    asyncio.run(play())
    assert (kept(one), kept(two)) == (names(5), names(6))
    last = json.loads(two.read_text().splitlines()[-1])
    assert last.keys() == {"instance", "gateway", "chain", "number", "at", "code"}
    assert (last["instance"], last["gateway"]) == (load_signer(tmp_path).id, "edge-1")


def test_one_that_fails_is_shown_and_does_not_hold_up_others(store, tmp_path):
    put(store, 2)

    async def play():
        shipping = Shipping(lambda: store)
        sinks = {
            "dead": {"kind": "syslog", "address": f"unix:{tmp_path}/nobody", "retry": "1s"},
            "well": {"kind": "file", "path": str(tmp_path / "out")},
        }
        await shipping.apply(document(tmp_path, **sinks))
        await shown(shipping, 'gatewayd_sink_up{sink="dead"} 0.0')
        await shown(shipping, 'gatewayd_sink_sent_records_total{sink="well"} 2.0')
        await shown(shipping, 'gatewayd_sink_lag_records{sink="dead"} 2.0')
        await shown(shipping, 'gatewayd_sink_lag_records{sink="well"} 0.0')
        lag = next(each for each in shipping.families() if each.name == "gatewayd_sink_lag_seconds")
        assert {sample.labels["sink"]: sample.value > 0 for sample in lag.samples} == {"dead": True, "well": False}
        await shipping.close()

    asyncio.run(play())


def test_without_sinks_it_needs_nothing(tmp_path):
    async def play():
        shipping = Shipping(lambda: None)
        await shipping.apply(document(tmp_path))
        assert all(not family.samples for family in shipping.families())
        await shipping.close()

    asyncio.run(play())
    assert list(tmp_path.iterdir()) == []


def test_it_waits_for_a_store(store, tmp_path):
    put(store, 1)
    found = [None, None, store]

    async def play():
        shipping = Shipping(lambda: found.pop(0))
        await shipping.apply(document(tmp_path, one={"kind": "file", "path": str(tmp_path / "out")}))
        await shown(shipping, 'gatewayd_sink_sent_records_total{sink="one"} 1.0')
        await shipping.close()

    asyncio.run(play())


def test_one_that_hangs_is_cut_off_at_the_end(store, tmp_path, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.shipping.CLOSING", 0.01)
    put(store, 1)
    begun = asyncio.Event()

    async def hang(*_):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(file.Sink, "send", hang)

    async def play():
        shipping = Shipping(lambda: store)
        await shipping.apply(document(tmp_path, one={"kind": "file", "path": str(tmp_path / "out")}))
        await begun.wait()
        await shipping.close()

    asyncio.run(play())


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PostgresSink(url="postgresql://localhost/x"), postgres),
        (ClickhouseSink(url="http://localhost"), clickhouse),
        (FileSink(path="/x"), file),
        (SyslogSink(address="localhost:514"), syslog),
    ],
)
def test_kinds(config, kind):
    assert isinstance(made(config, ORIGIN), kind.Sink)
