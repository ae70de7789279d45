"""Peaks of past weeks, and marks."""

from __future__ import annotations

import pytest

from gatewayd.collect.peaks import DAYS, Peaks

from .alert_store import DAY, HOUR, MONDAY, opened


@pytest.fixture
def peaks(tmp_path):
    store = opened(tmp_path)
    cursor = store.cursor()
    yield Peaks(cursor)
    cursor.close()
    store.close()


def test_the_worst_day_is_left_out(peaks):
    for day, peak in enumerate((7, 100, 9, 3), 1):
        peaks.note("d", [("s", MONDAY - day * DAY, peak)])
    assert peaks.past("d", ["s", "t"], MONDAY + HOUR) == {"s": (9, 100)}


def test_one_day_alone_is_nothing_usual(peaks):
    peaks.note("d", [("s", MONDAY - DAY, 5), ("s", MONDAY - DAY + HOUR, 50)])
    assert peaks.past("d", ["s"], MONDAY) == {"s": (0, 50)}


def test_the_day_itself_is_no_past(peaks):
    peaks.note("d", [("s", MONDAY - DAY, 5), ("s", MONDAY - 2 * DAY, 5), ("s", MONDAY, 90), ("s", MONDAY + DAY, 90)])
    assert peaks.past("d", ["s"], MONDAY + HOUR) == {"s": (5, 5)}


def test_detectors_are_apart(peaks):
    for day in (1, 2):
        peaks.note("d", [("s", MONDAY - day * DAY, 5)])
    assert peaks.past("e", ["s"], MONDAY) == {}


def test_of_an_hour_the_most_is_kept(peaks):
    for day in (1, 2):
        peaks.note("d", [("s", MONDAY - day * DAY + 60 * minute, minute) for minute in range(60)])
    assert peaks.past("d", ["s"], MONDAY) == {"s": (59, 59)}
    assert peaks._cursor.execute("SELECT count(*) FROM peaks_1h").fetchall() == [(2,)]


def test_what_is_old_is_forgotten(peaks):
    for day in (1, 2, DAYS + 5, DAYS + 6):
        peaks.note("d", [("s", MONDAY - day * DAY, day)])
    assert peaks.past("d", ["s"], MONDAY) == {"s": (1, 2)}
    peaks.forget(MONDAY)
    assert peaks._cursor.execute("SELECT count(*) FROM peaks_1h").fetchall() == [(2,)]


def test_marks(peaks):
    assert peaks.mark("m") is None
    peaks.set_mark("m", MONDAY)
    peaks.set_mark("m", MONDAY + 60)
    assert peaks.mark("m") == MONDAY + 60
    assert [peaks.since("n", MONDAY), peaks.since("n", MONDAY + 60)] == [MONDAY, MONDAY]
