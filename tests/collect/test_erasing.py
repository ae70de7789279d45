from __future__ import annotations

import os

import numpy as np
import pytest

from gatewayd.audit.record import Captured, Personal
from gatewayd.audit.subjects import SubjectKeys, subject_of
from gatewayd.collect.erasing import Erasing
from gatewayd.collect.rows import Decoding
from gatewayd.collect.schema import PERSONAL
from gatewayd.collect.store import Store

from .spooled import START, call, encode, sealed


@pytest.fixture
def store(tmp_path):
    """One with two calls each of two consumers."""
    made = Store(tmp_path / "calls.duckdb")
    said = Personal("192.0.2.7", "10.0.0.1", [b"12345678"], "curl/8", Captured())
    calls = [
        call(START + number, personal=None, sealed=sealed(tmp_path, consumer, said))
        for number, consumer in enumerate(["ann", "ben", "ann", "ben"])
    ]
    decoding = Decoding(SubjectKeys(tmp_path).open)
    with made.cursor() as cursor:
        cursor.execute("SET pandas_analyze_sample = 0")
        decoding.insert(cursor, "calls-0", decoding.batch([encode(each) for each in calls], np.arange(1, 5)))
    yield made
    made.close()


def erase(tmp_path, consumer, at):
    """Destroy a person's key at this second, which is long ago or far ahead."""
    folder = tmp_path / "audit" / "erased"
    os.utime(folder / SubjectKeys(tmp_path).destroy(consumer).hex(), (at, at))
    os.utime(folder, (at, at))


def left(cursor):
    """Numbers of calls that still tell of a person, all of them or in part."""
    told = " OR ".join(f'"{name}" IS NOT NULL' for name in PERSONAL)
    return [number for (number,) in cursor.execute(f'SELECT "number" FROM calls WHERE {told} ORDER BY ALL').fetchall()]


def test_nothing_is_due_where_nobody_was_erased(tmp_path, store):
    erasing = Erasing(tmp_path)
    with store.cursor() as cursor:
        assert erasing.due()  # it has not looked yet
        assert erasing.erase(cursor) == 0
        assert not erasing.due()
        assert left(cursor) == [1, 2, 3, 4]


def test_what_tells_of_a_person_goes_and_the_call_stays(tmp_path, store):
    erasing = Erasing(tmp_path)
    with store.cursor() as cursor:
        erasing.erase(cursor)
        erase(tmp_path, "ann", START + 60)
        assert erasing.due()
        assert erasing.erase(cursor) == 1
        assert not erasing.due()
        assert left(cursor) == [2, 4]
        rest = cursor.execute('SELECT consumer, subject FROM calls WHERE "number" = 1').fetchall()
        assert rest == [("acme", subject_of("ann", 0).hex())]


@pytest.mark.parametrize("at", [START - 86400, START + 1, START + 86400])
def test_it_does_not_matter_what_clocks_say(tmp_path, store, at):
    erase(tmp_path, "ann", at)
    with store.cursor() as cursor:
        assert Erasing(tmp_path).erase(cursor) == 1
        assert left(cursor) == [2, 4]


def test_who_came_again_stays_until_erased_again(tmp_path, store):
    with store.cursor() as cursor:
        erase(tmp_path, "ann", START)
        erasing = Erasing(tmp_path)
        assert erasing.erase(cursor) == 1
        said = sealed(tmp_path, "ann", Personal("192.0.2.8"))
        again = Decoding(SubjectKeys(tmp_path).open)
        again.insert(cursor, "calls-0", again.batch([encode(call(personal=None, sealed=said))], np.array([5])))
        assert erasing.erase(cursor) == 0
        assert left(cursor) == [2, 4, 5]
        erase(tmp_path, "ann", START + 1)
        assert erasing.due()
        assert erasing.erase(cursor) == 1
        assert left(cursor) == [2, 4]


def test_marks_within_one_tick_of_the_file_system_are_told_apart(tmp_path, store):
    """A look between two that bear the same time does not hide the second."""
    folder = tmp_path / "audit" / "erased"
    erasing = Erasing(tmp_path)
    with store.cursor() as cursor:
        SubjectKeys(tmp_path).destroy("ann")
        tick = folder.stat().st_mtime_ns
        assert erasing.erase(cursor) == 1
        SubjectKeys(tmp_path).destroy("ben")
        os.utime(folder, ns=(tick, tick))
        assert erasing.due()
        assert erasing.erase(cursor) == 1
        assert left(cursor) == []


def test_another_start_does_not_do_it_again(tmp_path, store):
    erase(tmp_path, "ann", START + 60)
    erase(tmp_path, "ben", START)
    with store.cursor() as cursor:
        assert Erasing(tmp_path).erase(cursor) == 2
        assert Erasing(tmp_path).erase(cursor) == 0
        assert left(cursor) == []
