from __future__ import annotations

import os

import duckdb
import pytest

from gatewayd.audit.keys import load_signer
from gatewayd.audit.record import Personal
from gatewayd.audit.subjects import SubjectKeys
from gatewayd.collect import ingest as module
from gatewayd.collect import rollups
from gatewayd.collect.chains import Figures
from gatewayd.collect.ingest import EXPIRE_EVERY, Ingest
from gatewayd.collect.store import Store
from gatewayd.config.collector import Collector
from gatewayd.core.clock import FakeClock

from .spooled import START, Spooled, call, sealed
from .test_rollups import differences

CONFIG = Collector(keep_calls=0.0, keep_10s=0.0, keep_1m=0.0, keep_1h=0.0, keep_1d=0.0)


@pytest.fixture
def clock():
    """A clock that stands, ten seconds behind the first calls."""
    return FakeClock(wall=START + 10.0)


@pytest.fixture
def store(tmp_path):
    """The store."""
    made = Store(tmp_path / "calls.duckdb")
    yield made
    made.close()


@pytest.fixture
def ingest(tmp_path, store, clock):
    """What fills it."""
    made = Ingest(store, tmp_path, load_signer(tmp_path), clock, Figures())
    yield made
    made.close()


def work(ingest, config=CONFIG):
    """Do all there is to be done."""
    for _ in range(100):
        if not ingest.step(config):
            return
    raise AssertionError("it does not come to an end")


def numbers(store):
    """Chain and number of every row."""
    with store.cursor() as cursor:
        return cursor.execute('SELECT chain, "number" FROM calls ORDER BY ALL').fetchall()


def test_rows_sums_and_positions(tmp_path, store, ingest):
    spooled = Spooled(tmp_path)
    spooled.add(call(), call(START + 1, status=404))
    work(ingest)
    assert numbers(store) == [("calls-0", 1), ("calls-0", 2)]
    with store.cursor() as cursor:
        assert cursor.execute("FROM positions").fetchall() == [
            ("calls-0", 1, spooled.path.stat().st_size, spooled.chain.previous, 2)
        ]
        assert differences(cursor) == []
    assert ingest.figures.records == 2
    work(ingest)
    assert len(numbers(store)) == 2


def test_another_process_goes_on_where_one_ended(tmp_path, store, ingest, clock):
    spooled = Spooled(tmp_path)
    for status in (200, 201, 202):
        spooled.add(call(status=status))
        work(ingest)
        ingest.close()
        ingest = Ingest(store, tmp_path, None, clock, Figures())
        spooled.turn()
    work(ingest)
    ingest.close()
    assert numbers(store) == [("calls-0", number) for number in (1, 2, 3)]


def test_a_transaction_has_many_pieces_and_a_backlog_many_transactions(tmp_path, store, ingest, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.following.PIECE", 1)
    monkeypatch.setattr(module, "TRANSACTION", 3)
    for name in ("calls-0", "calls-1"):
        spooled = Spooled(tmp_path, name)
        for number in range(10):
            spooled.add(call(START + number))
    steps = 0
    while ingest.step(CONFIG):
        steps += 1
        with store.cursor() as cursor:
            assert differences(cursor) == []
            saved = cursor.execute("SELECT sum(records) FROM positions").fetchone()
            assert saved == cursor.execute("SELECT count(*) FROM calls").fetchone()
    assert steps >= 7
    assert numbers(store) == [(name, number) for name in ("calls-0", "calls-1") for number in range(1, 11)]


@pytest.mark.parametrize("where", ["insert", "write", "_SAVE"])
def test_what_fails_halfway_is_done_again_as_a_whole(tmp_path, store, ingest, monkeypatch, where):
    Spooled(tmp_path).add(call(), call())
    with monkeypatch.context() as broken:
        if where == "insert":
            broken.setattr("gatewayd.collect.rows._INSERT", "INSERT INTO calls SELECT no FROM nothing")
        elif where == "write":
            broken.setattr(rollups, "until", lambda cursor: cursor.execute("SELECT no FROM nothing"))
        else:
            broken.setattr(module, "_SAVE", "INSERT INTO nothing VALUES (?, ?, ?, ?, ?)")
        for _ in range(2):
            with pytest.raises(duckdb.Error, match="nothing"):
                ingest.step(CONFIG)
            assert numbers(store) == []
    work(ingest)
    assert numbers(store) == [("calls-0", 1), ("calls-0", 2)]
    with store.cursor() as cursor:
        assert differences(cursor) == []
    assert ingest.figures.records == 2


def test_a_seal_that_cannot_be_opened_now_loses_nothing(tmp_path, store, ingest):
    Spooled(tmp_path).add(call(personal=None, sealed=sealed(tmp_path, "ann", Personal("192.0.2.7"))))
    keys = tmp_path / "audit" / "subjects"
    (where,) = keys.glob("*")
    where.rename(tmp_path / "away")
    where.mkdir()
    with pytest.raises(IsADirectoryError):
        ingest.step(CONFIG)
    where.rmdir()
    (tmp_path / "away").rename(where)
    work(ingest)
    with store.cursor() as cursor:
        assert cursor.execute("SELECT client FROM calls").fetchall() == [("192.0.2.7",)]


def test_who_is_erased_is_erased_before_and_behind(tmp_path, store, ingest, monkeypatch):
    """In rows that are there, in what was read ahead, and in records that come with an old seal."""
    spooled = Spooled(tmp_path)
    said = call(personal=None, sealed=sealed(tmp_path, "ann", Personal("192.0.2.7")))
    spooled.add(said)
    work(ingest)
    spooled.add(said)
    ingest._ahead.append(ingest._reader.submit(ingest._chains.look))
    assert ingest._ahead[0].result().piece.batch.lines["client"].tolist() == ["192.0.2.7"]
    SubjectKeys(tmp_path).destroy("ann")
    spooled.add(said)
    work(ingest)
    with store.cursor() as cursor:
        assert cursor.execute("SELECT client FROM calls").fetchall() == [(None,)] * 3


def test_what_is_over_is_added_up_and_what_is_old_goes(tmp_path, store, ingest, clock):
    Spooled(tmp_path).add(call(), call(START + 3600))
    config = Collector(keep_calls=3600.0)
    work(ingest, config)
    with store.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM rollup_1m").fetchone() == (0,)
    clock.advance(7000)
    work(ingest, config)
    assert numbers(store) == [("calls-0", 2)]
    with store.cursor() as cursor:
        assert cursor.execute("SELECT sum(calls) FROM rollup_1h").fetchone() == (1,)
        assert cursor.execute("SELECT sum(calls) FROM rollup_1d_now").fetchone() == (2,)


def test_what_is_old_is_looked_for_now_and_then(tmp_path, store, ingest, clock, monkeypatch):
    looks = []
    monkeypatch.setattr(module.retention, "expire", lambda *_: looks.append(1))
    for seconds in (0, EXPIRE_EVERY / 2, EXPIRE_EVERY / 2, 1):
        clock.advance(seconds)
        ingest.step(CONFIG)
    assert len(looks) == 2


def test_what_is_remembered_is_bounded(tmp_path, store, ingest, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 20)
    spooled = Spooled(tmp_path)
    for number in range(30):
        spooled.add(call(host=b"h%d" % number))
        work(ingest)
        assert len(ingest._chains.decoding) <= 23
    assert len(numbers(store)) == 30
    with store.cursor() as cursor:
        assert cursor.execute("SELECT count(DISTINCT host) FROM calls").fetchone() == (30,)


def test_unreadable_records_are_counted_and_passed_by(tmp_path, store, ingest):
    spooled = Spooled(tmp_path)
    spooled.add(call())
    spooled.put(spooled.chain.append([b"from the future"]))
    spooled.add(call())
    work(ingest)
    assert numbers(store) == [("calls-0", 1), ("calls-0", 3)]
    assert ingest.figures.unreadable == 1
    spooled.put(spooled.chain.append([b"from the future"]))
    work(ingest)
    assert ingest.figures.unreadable == 2
    with store.cursor() as cursor:
        assert cursor.execute("SELECT records FROM positions").fetchone() == (4,)


def test_an_empty_state(tmp_path, store, ingest):
    assert not ingest.step(CONFIG) or not ingest.step(CONFIG)
    assert numbers(store) == []


def test_what_is_read_ahead_is_read_by_another_thread_and_bounded(tmp_path, store, ingest, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.following.PIECE", 1)
    monkeypatch.setattr(module, "TRANSACTION", 2)
    spooled = Spooled(tmp_path)
    spooled.add(call())
    work(ingest)
    assert ingest.reader_cpu() == 0.0  # one piece is read by the thread that adds it
    for _ in range(20):
        spooled.add(call())
    assert ingest.step(CONFIG)
    assert len(ingest._ahead) == module.AHEAD
    work(ingest)
    assert not ingest._ahead
    assert ingest.reader_cpu() > 0.0
    spooled.add(call())
    work(ingest)
    assert numbers(store) == [("calls-0", number) for number in range(1, 23)]


def test_a_transaction_of_large_records_has_fewer(tmp_path, store, ingest, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.following.PIECE", 1)
    monkeypatch.setattr(module, "PIECES", 3)
    spooled = Spooled(tmp_path)
    for _ in range(7):
        spooled.add(call())
    counts = []
    while ingest.step(CONFIG):
        counts.append(len(numbers(store)))
    assert counts[:3] == [3, 6, 7]


def test_what_was_read_ahead_of_a_failure_is_read_again(tmp_path, store, ingest, monkeypatch):
    monkeypatch.setattr("gatewayd.collect.following.PIECE", 1)
    monkeypatch.setattr(module, "TRANSACTION", 2)
    spooled = Spooled(tmp_path)
    for _ in range(20):
        spooled.add(call())
    assert ingest.step(CONFIG)
    with monkeypatch.context() as broken:
        broken.setattr(module, "_SAVE", "INSERT INTO nothing VALUES (?, ?, ?, ?, ?)")
        with pytest.raises(duckdb.Error, match="nothing"):
            ingest.step(CONFIG)
    assert not ingest._ahead
    work(ingest)
    assert numbers(store) == [("calls-0", number) for number in range(1, 21)]
    with store.cursor() as cursor:
        assert differences(cursor) == []


def test_it_can_be_interrupted_and_goes_on(tmp_path, store, ingest):
    ingest.interrupt()
    Spooled(tmp_path).add(call())
    work(ingest)
    ingest.interrupt()
    work(ingest)
    assert numbers(store) == [("calls-0", 1)]


def test_nothing_is_left_open(tmp_path, store, clock):
    before = set(os.listdir("/proc/self/fd"))
    one = Ingest(store, tmp_path, None, clock, Figures())
    Spooled(tmp_path).add(call())
    work(one)
    one.close()
    store.close()
    assert set(os.listdir("/proc/self/fd")) == before
