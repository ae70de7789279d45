from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading

import duckdb
import pytest

from gatewayd.collect import store as module
from gatewayd.collect.schema import MIGRATIONS
from gatewayd.collect.store import Store, StoreBusy, StoreError

HOLDER = """
import sys, duckdb
held = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def store(tmp_path):
    """A store that is closed in the end."""
    made = Store(tmp_path / "state" / "calls.duckdb")
    yield made
    made.close()


def test_it_is_made_when_first_needed_for_this_user_alone(store):
    assert not store.path.exists()
    store.cursor().close()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700


def test_what_is_in_it_stays(store):
    with store.cursor() as cursor:
        cursor.execute("INSERT INTO positions VALUES ('calls-0', 1, 2, 'x', 3)")
    store.close()
    with store.cursor() as cursor:
        assert cursor.execute("SELECT records FROM positions").fetchall() == [(3,)]


def test_cursors_of_threads_see_what_others_committed(store):
    seen = []

    def look():
        with store.cursor() as cursor:
            seen.extend(cursor.execute("SELECT count(*) FROM positions").fetchall())

    with store.cursor() as cursor:
        cursor.begin()
        cursor.execute("INSERT INTO positions VALUES ('calls-0', 1, 2, 'x', 3)")
        for _ in range(2):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            if len(seen) == 1:
                cursor.commit()
    assert seen == [(0,), (1,)]


def test_its_appetite_is_bounded_also_later(store):
    with store.cursor() as cursor:
        limit = "SELECT current_setting('threads'), current_setting('memory_limit')"
        assert cursor.execute(limit).fetchone() == (1, "64.0 MiB")
        store.limit(128 << 20)
        assert cursor.execute(limit).fetchone() == (1, "128.0 MiB")


def test_a_question_does_not_fill_the_disk(store):
    with store.cursor() as cursor:
        assert cursor.execute("SELECT current_setting('max_temp_directory_size')").fetchone() == ("1.0 GiB",)


def test_nothing_is_fetched_from_anywhere(store):
    with store.cursor() as cursor:
        settings = "SELECT value FROM duckdb_settings() WHERE name LIKE 'auto%load_known_extensions' OR name = ?"
        assert cursor.execute(settings, ["autoinstall_known_extensions"]).fetchall() == [("false",)] * 2


def test_another_process_has_it(store):
    store.cursor().close()
    store.close()
    command = [sys.executable, "-c", HOLDER, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match="in use by another process"):
            store.cursor()
        assert store.failures == 0
        holder.stdin.close()
        holder.wait()
    store.cursor().close()


def test_a_file_that_is_none_of_ours_is_said_counted_and_left_alone(store):
    store.path.parent.mkdir()
    store.path.write_bytes(b"no database at all\n" * 1000)
    for attempt in (1, 2):
        with pytest.raises(StoreError, match=r"calls\.duckdb cannot be opened: .") as raised:
            store.cursor()
        assert not isinstance(raised.value, StoreBusy)
        assert store.failures == attempt
    assert store.path.read_bytes().startswith(b"no database")


def test_a_place_where_nothing_can_be_made(tmp_path):
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "calls.duckdb")
    with pytest.raises(StoreError, match="cannot be opened"):
        store.cursor()
    assert store.failures == 1


def test_where_there_is_none():
    with pytest.raises(StoreError, match="there is no call store"):
        Store().cursor()
    assert Store().size() == 0


def test_one_of_a_newer_gatewayd_is_left_alone(store):
    with store.cursor() as cursor:
        cursor.execute("UPDATE schema_version SET version = 1000")
    store.close()
    with pytest.raises(StoreError, match="made by a newer gatewayd: its version is 1000"):
        store.cursor()
    assert store.failures == 1


def test_an_older_one_becomes_as_new_once(store, monkeypatch):
    store.cursor().close()
    store.close()
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (a INTEGER)"))
    for _ in range(2):
        with store.cursor() as cursor:
            assert cursor.execute("SELECT version FROM schema_version").fetchall() == [(len(MIGRATIONS) + 1,)]
            assert cursor.execute("SELECT count(*) FROM later").fetchone() == (0,)
        store.close()


def test_a_migration_that_fails_changes_nothing(store, monkeypatch):
    store.cursor().close()
    store.close()
    monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, "CREATE TABLE later (a INTEGER); SELECT no FROM nothing"))
    with pytest.raises(StoreError, match="nothing"):
        store.cursor()
    monkeypatch.undo()
    with store.cursor() as cursor, pytest.raises(duckdb.CatalogException):
        cursor.execute("FROM later")


def test_how_large_it_is(store):
    with store.cursor() as cursor:
        cursor.execute("INSERT INTO positions VALUES ('calls-0', 1, 2, 'x', 3)")
        wal = store.path.with_name("calls.duckdb.wal")
        assert store.size() == os.path.getsize(store.path) + os.path.getsize(wal) > os.path.getsize(store.path)


def test_how_it_shows(store):
    assert repr(store) == f"Store('{store.path}', closed)"
    store.cursor().close()
    assert repr(store) == f"Store('{store.path}', open)"


def test_no_transaction_of_its_own_is_left_open(tmp_path):
    """One would keep the log from being merged into the file, whatever is replaced, also in a store opened again."""
    path = tmp_path / "calls.duckdb"
    for _ in range(2):
        store = Store(path)
        with store.cursor() as cursor:
            cursor.execute("SET checkpoint_threshold = '1KiB'")
            for number in range(3):
                cursor.execute(
                    "INSERT OR REPLACE INTO positions VALUES ('calls-0', ?, 2, repeat('0', 4096)::BLOB, 3)", [number]
                )
            assert store.size() == path.stat().st_size
        store.close()


def test_what_a_crash_left_is_played_back_within_the_memory_there_is(tmp_path, monkeypatch):
    """What is set is set as it opens, not behind that."""
    given = []
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda path, config: given.append(config) or connect(path, config=config))
    store = Store(tmp_path / "calls.duckdb", 80 << 20)
    store.cursor().close()
    store.close()
    assert given[0]["memory_limit"] == f"{80 << 20}B"
    assert given[0]["threads"] == 1
