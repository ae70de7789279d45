from __future__ import annotations

import asyncio
import logging
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from gatewayd.audit.keys import FOLDER
from gatewayd.collect import collector as module
from gatewayd.collect.collector import BUSY_WAIT, LONGEST_WAIT, SWITCH, Collector, _Work
from gatewayd.collect.store import FILE, Store, StoreBusy, StoreError
from gatewayd.config.collector import Collector as Config
from gatewayd.config.model import Audit, Document, Gateway
from gatewayd.config.units import Duration, Size
from gatewayd.core.clock import FakeClock

from .spooled import START, Spooled, call

SOON = Duration(0.01)


@pytest.fixture(autouse=True)
def switching():
    """What is set for the whole process is as before."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def document(state, audit=True, **collector):
    """One that has what is below `state` collected."""
    return Document(
        gateway=Gateway(state_dir=str(state)),
        audit=Audit(enabled=audit),
        collector=Config(**{"interval": SOON} | collector),
    )


def figures(collector):
    """What it shows, by name."""
    return {family.name.removeprefix("gatewayd_collector_"): family.samples[0].value for family in collector.families()}


async def until(collector, **wanted):
    """Wait for figures; the test's own time limit ends it."""
    while any(figures(collector)[name] != value for name, value in wanted.items()):  # noqa: ASYNC110  (a thread's)
        await asyncio.sleep(0.005)


class Scripted:
    """An `Ingest` whose steps are given: what is to be raised or returned, or called."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.interrupted = threading.Event()
        self.closed = 0

    def step(self, config):
        step = self.steps.pop(0)
        if callable(step):
            return step()
        if isinstance(step, BaseException):
            raise step
        return step

    def reader_cpu(self):
        return 0.25

    def interrupt(self):
        self.interrupted.set()

    def close(self):
        self.closed += 1


def working(tmp_path, *steps):
    """Work that is not begun, with such steps."""
    work = _Work(Store(tmp_path / FILE), tmp_path, FakeClock(), Config())
    work._ingest = Scripted(*steps)
    return work


def test_what_is_written_gets_into_the_store(tmp_path):
    async def run():
        collector = Collector(FakeClock(wall=START + 60.0))
        spooled = Spooled(tmp_path)
        spooled.add(call(), call())
        await collector.apply(document(tmp_path))
        await until(collector, records=2, up=1)
        spooled.add(call())
        await until(collector, records=3)
        with collector.store.cursor() as cursor:
            assert cursor.execute("SELECT count(*) FROM calls").fetchone() == (3,)
        shown = figures(collector)
        assert shown["store_bytes"] == collector.store.size() > 0
        assert 0 < shown["cpu_seconds"] < 60
        await collector.close()
        assert figures(collector)["records"] == 3
        assert figures(collector)["up"] == 0

    asyncio.run(run())
    with duckdb.connect(tmp_path / FILE) as store:
        assert store.execute("SELECT count(*) FROM calls").fetchone() == (3,)


def test_it_gives_way_to_other_threads_early(tmp_path):
    async def run():
        collector = Collector()
        await collector.apply(document(tmp_path))
        await until(collector, up=1)
        assert sys.getswitchinterval() == pytest.approx(SWITCH)
        await collector.close()

    asyncio.run(run())


@pytest.mark.parametrize("off", [{"audit": False}, {"enabled": False}])
def test_nothing_is_collected_where_that_is_off(tmp_path, off):
    async def run():
        collector = Collector()
        Spooled(tmp_path).add(call())
        await collector.apply(document(tmp_path, **off))
        with pytest.raises(StoreError, match="there is no call store"):
            collector.store.cursor()
        assert set(figures(collector).values()) == {0}
        await collector.apply(document(tmp_path))
        await until(collector, records=1)
        await collector.apply(document(tmp_path, **off))
        assert collector.store.path is None
        assert figures(collector)["up"] == 0
        await collector.apply(document(tmp_path))
        await until(collector, up=1)
        assert figures(collector)["records"] == 1
        await collector.close()

    asyncio.run(run())


def test_a_reload_changes_what_may_change(tmp_path):
    async def run():
        collector = Collector()
        await collector.apply(document(tmp_path))
        await until(collector, up=1)
        work = collector._work
        await collector.apply(document(tmp_path, memory=Size(96 * 1024 * 1024), keep_calls=Duration(60)))
        assert collector._work is work
        assert work.config.keep_calls == 60
        with collector.store.cursor() as cursor:
            assert cursor.execute("SELECT current_setting('memory_limit')").fetchone() == ("96.0 MiB",)
        await collector.apply(document(tmp_path / "other"))
        assert not work.is_alive()
        await until(collector, up=1)
        assert collector.store.path == tmp_path / "other" / FILE
        await collector.close()

    asyncio.run(run())


def test_it_shows_how_far_behind_it_is(tmp_path):
    clock = FakeClock(wall=START + 60.0)
    collector = Collector(clock)
    collector._work = working(tmp_path)
    assert figures(collector)["lag_seconds"] == 0.0
    collector._work.figures.oldest = START + 20.0
    assert figures(collector)["lag_seconds"] == 40.0


def test_it_waits_longer_while_it_fails_and_says_why_at_length_once(tmp_path, caplog):
    work = working(tmp_path, *[OSError("no space")] * 9, True, False, OSError("again"))
    waits = [work._attempt() for _ in range(9)]
    assert waits == [min(0.2 * 2.0**number, LONGEST_WAIT) for number in range(1, 10)]
    assert waits[-1] == LONGEST_WAIT
    assert (work.well, work.figures.failures) == (False, 9)
    assert {record.getMessage() for record in caplog.records} == {"the collector failed: OSError: no space"}
    assert [bool(record.exc_info) for record in caplog.records] == [True] + [False] * 8
    assert work._attempt() == 0.0
    assert (work.well, work.figures.cpu > 0.25) == (True, True)
    assert work._attempt() == 0.2
    assert work._attempt() == 0.4


def test_a_store_that_others_have_is_waited_for(tmp_path, caplog):
    work = working(tmp_path, StoreBusy("it is in use"), StoreBusy("it is in use"), False)
    assert [work._attempt(), work._attempt()] == [BUSY_WAIT, BUSY_WAIT]
    assert caplog.record_tuples == [(module.__name__, logging.WARNING, "it is in use; waiting for it")]
    assert (work.well, work.figures.failures) == (False, 0)
    work._attempt()
    assert work.well


@pytest.mark.parametrize("kind", [duckdb.FatalException, duckdb.InternalException])
def test_a_database_that_is_of_no_use_any_more_is_opened_again(tmp_path, kind):
    work = working(tmp_path, kind("invalidated"))
    with work._store.cursor():
        pass
    work._attempt()
    assert repr(work._store).endswith("closed)")


def test_without_the_signing_key_it_collects_unverified(tmp_path, caplog):
    spooled = Spooled(tmp_path)
    spooled.add(call())
    (tmp_path / FOLDER / "signing.key").write_text("no key")
    work = _Work(Store(tmp_path / FILE), tmp_path, FakeClock(wall=START + 60.0), Config())
    assert work._attempt() == 0.0
    assert work.figures.records == 1
    assert "records are collected without being verified" in caplog.text
    work._ingest.close()
    work._store.close()


def test_what_takes_too_long_is_interrupted_when_it_ends(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    begun = threading.Event()

    def long():
        begun.set()
        ingest.interrupted.wait()
        raise duckdb.InterruptException("INTERRUPT")

    work = working(tmp_path, long)
    ingest = work._ingest
    work.start()
    begun.wait()
    work.stop()
    assert not work.is_alive()
    assert (ingest.closed, work.figures.failures, caplog.records) == (1, 0, [])


def test_no_thread_and_no_file_is_left(tmp_path):
    Spooled(tmp_path).add(call())

    async def run():
        collector = Collector()
        await collector.apply(document(tmp_path))
        await until(collector, records=1)
        await collector.close()
        await collector.close()

    before = set(threading.enumerate())
    asyncio.run(run())
    assert set(threading.enumerate()) == before
    held = {str(path.resolve()) for path in Path("/proc/self/fd").iterdir() if path.exists()}
    assert not [path for path in held if path.startswith(str(tmp_path))]


def test_it_has_no_routes():
    assert not list(Collector().routes())
    assert Collector().operations() == {}
