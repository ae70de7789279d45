from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.audit.record import Caller, Operation
from gatewayd.collect import rollups, sketch
from gatewayd.collect.rows import Decoding
from gatewayd.collect.schema import KEYS, SUMS, TIERS, moment
from gatewayd.collect.store import Store

from .spooled import START, call, encode

RAW = f"""
    SELECT {{bucket}} AS bucket, {", ".join(KEYS)}, count(*), count(*) FILTER (status // 100 = 1),
    count(*) FILTER (status // 100 = 2), count(*) FILTER (status // 100 = 3),
    count(*) FILTER (status // 100 = 4 AND status <> 499), count(*) FILTER (status >= 500),
    count(*) FILTER (status = 499), count(*) FILTER (code <> ''), sum(bytes_in), sum(bytes_out), sum(total_us),
    sum(upstream_us) FROM calls GROUP BY ALL ORDER BY ALL
"""


@pytest.fixture
def store(tmp_path):
    """An empty one."""
    made = Store(tmp_path / "calls.duckdb")
    yield made
    made.close()


@pytest.fixture
def cursor(store):
    """A connection, as the collector's."""
    with store.cursor() as made:
        made.execute("SET pandas_analyze_sample = 0")
        yield made


def add(cursor, *calls):
    """Add calls and what they sum up to."""
    decoding = Decoding(lambda _: None)
    batch = decoding.batch([encode(each) for each in calls], np.arange(1, len(calls) + 1))
    cursor.begin()
    decoding.insert(cursor, "calls-0", batch)
    rollups.write(cursor, rollups.numbers(batch), decoding)
    cursor.commit()


def differences(cursor):
    """Tiers whose complete view is not what the single calls add up to."""
    found = []
    for tier in TIERS:
        bucket = f'make_timestamp(epoch_us("at") // {tier.seconds * 10**6} * {tier.seconds * 10**6})'
        sums = ", ".join(f"sum({name})" for name in SUMS)
        by = f"bucket, {', '.join(KEYS)}"
        summed = f"SELECT {by}, {sums} FROM rollup_{tier.name}_now GROUP BY ALL ORDER BY ALL"
        if cursor.execute(summed).fetchall() != cursor.execute(RAW.format(bucket=bucket)).fetchall():
            found.append(f"rollup_{tier.name}")
        counted = f"SELECT {by}, bin, sum(calls) FROM latency_{tier.name}_now GROUP BY ALL ORDER BY ALL"
        raw = f"SELECT {bucket} AS bucket, {', '.join(KEYS)}, {sketch.bin_sql('total_us')} AS bin, count(*) FROM calls"
        if cursor.execute(counted).fetchall() != cursor.execute(f"{raw} GROUP BY ALL ORDER BY ALL").fetchall():
            found.append(f"latency_{tier.name}")
    return found


def rows(cursor, table):
    """How many rows a table has, and how many calls they count."""
    return cursor.execute(f"SELECT count(*), coalesce(sum(calls), 0) FROM {table}").fetchone()


def test_one_row_for_each_combination(cursor):
    add(cursor, call(), call(START + 9), call(START + 10), call(caller=Caller("other")), call(operation=Operation("r")))
    assert rows(cursor, "rollup_10s") == (4, 5)
    assert rows(cursor, "rollup_1m") == (0, 0)
    assert rows(cursor, "rollup_1m_now") == (4, 5)
    assert differences(cursor) == []


def test_classes_of_status(cursor):
    statuses = [0, 101, 200, 204, 302, 404, 499, 500, 599, 600]
    add(cursor, *(call(status=status, code="" if status < 400 else "refused") for status in statuses))
    names = "s1xx, s2xx, s3xx, s4xx, s5xx, s499, refused"
    assert cursor.execute(f"SELECT calls, {names} FROM rollup_10s").fetchall() == [(10, 1, 2, 1, 1, 3, 1, 5)]


def test_a_minute_is_added_up_once_it_is_over(cursor):
    add(cursor, *(call(START + second) for second in range(0, 120, 5)))
    assert rollups.cascade(cursor, START)
    assert not rollups.cascade(cursor, START + 59.9)
    assert rows(cursor, "rollup_1m") == (0, 0)
    assert rollups.cascade(cursor, START + 60)
    assert rows(cursor, "rollup_1m") == (1, 12)
    assert rollups.until(cursor) == {"1m": START + 60, "1h": START, "1d": START - START % 86400}
    assert not rollups.cascade(cursor, START + 100)
    assert rows(cursor, "rollup_1m_now") == (1 + 6, 24)
    assert differences(cursor) == []


def test_partial_rows_become_one_where_that_saves_something(cursor):
    rollups.cascade(cursor, START)
    for second in range(50):
        add(cursor, call(START + second // 25, total=20), call(START + second // 25, total=20_000))
    add(cursor, call(START + 70))
    assert rows(cursor, "rollup_10s") == (51, 101)
    rollups.cascade(cursor, START + 60)
    assert rows(cursor, "rollup_10s") == (2, 101)
    assert rows(cursor, "latency_10s") == (3, 101)
    assert differences(cursor) == []


def test_hours_and_days(cursor):
    day = START - START % 86400
    add(cursor, *(call(day + minute * 60) for minute in range(-90, 90, 7)))
    for closed in (day - 3600, day + 60, day + 7200):
        rollups.cascade(cursor, closed)
        assert differences(cursor) == []
    assert rows(cursor, "rollup_1d") == (1, 13)
    assert rows(cursor, "rollup_1h") == (4, 26)
    assert rows(cursor, "rollup_1m") == (26, 26)


def test_calls_that_come_late_are_in_every_tier_at_once(cursor):
    add(cursor, call(START))
    rollups.cascade(cursor, START + 86400)
    add(cursor, call(START + 1), call(START + 86400 - START % 86400), call(START + 90_000))
    assert rows(cursor, "rollup_1m") == (3, 3)
    assert rows(cursor, "rollup_1h") == (3, 3)
    assert rows(cursor, "rollup_1d") == (2, 2)
    assert differences(cursor) == []


def test_what_fails_halfway_leaves_no_trace(cursor, monkeypatch):
    add(cursor, call(), call(START + 1))
    monkeypatch.setattr(rollups, "views", lambda marks: "SELECT no FROM nothing")
    with pytest.raises(Exception, match="nothing"):
        rollups.cascade(cursor, START + 3600)
    monkeypatch.undo()
    assert rows(cursor, "rollup_1m") == rows(cursor, "rollup_1h") == (0, 0)
    assert differences(cursor) == []
    rollups.cascade(cursor, START + 3600)
    assert differences(cursor) == []


def test_in_slices_it_is_the_same(cursor, monkeypatch):
    monkeypatch.setattr(rollups, "SLICE", 7)
    for _ in range(2):
        add(cursor, *(call(START + n, caller=Caller(f"c{n % 9}"), total=n * n) for n in range(100)))
    rollups.cascade(cursor, START + 7200)
    assert rows(cursor, "rollup_1h") == (9, 200)
    assert rows(cursor, "rollup_10s") == (90, 200)
    assert differences(cursor) == []


def test_nothing_adds_nothing(cursor):
    add(cursor)
    assert rows(cursor, "rollup_10s") == (0, 0)


moments = st.integers(START - 100, START + 8000)
calls = st.builds(
    lambda at, consumer, status, total: call(at, caller=Caller(consumer), status=status, total=total),
    moments,
    st.sampled_from(["", "a", "b"]),
    st.sampled_from([200, 404, 499, 503]),
    st.integers(0, 10**7),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.lists(calls, min_size=1, max_size=30), moments), max_size=8))
def test_whatever_comes_when_all_tiers_say_what_the_calls_say(tmp_path_factory, happening):
    store = Store(tmp_path_factory.mktemp("store") / "calls.duckdb")
    with store.cursor() as cursor:
        cursor.execute("SET pandas_analyze_sample = 0")
        for what in happening:
            if isinstance(what, list):
                add(cursor, *what)
            else:
                rollups.cascade(cursor, what)
        assert differences(cursor) == []
    store.close()


def test_marks_begin_before_everything(cursor):
    assert rollups.until(cursor) == {"1m": 0, "1h": 0, "1d": 0}
    assert cursor.execute(f"SELECT epoch({moment(5)})").fetchone() == (5,)
