from __future__ import annotations

import pytest

from gatewayd.collect.retention import expire
from gatewayd.collect.schema import KINDS, TIERS, moment
from gatewayd.collect.store import Store
from gatewayd.config.collector import Collector

from .spooled import START

DAY = 86400
FOREVER = dict.fromkeys(("keep_calls", "keep_10s", "keep_1m", "keep_1h", "keep_1d"), 0.0)


@pytest.fixture
def cursor(tmp_path):
    """A connection to a store with a call and a row of each tier for each hour of two days before START."""
    store = Store(tmp_path / "calls.duckdb")
    hours = f"SELECT {moment(START)} - to_hours(unnest(range(1, 49)))"
    with store.cursor() as made:
        made.execute(f'INSERT INTO calls ("at") {hours}')
        for tier in TIERS:
            for kind in KINDS:
                made.execute(f"INSERT INTO {kind}_{tier.name} (bucket) {hours}")
        yield made
    store.close()


def expired(cursor, **keep):
    """How many rows are left of each table behind all that is to be done."""
    rounds = 0
    while expire(cursor, Collector(**(FOREVER | keep)), START):
        rounds += 1
        assert rounds < 100
    tables = ["calls", *(f"{kind}_{tier.name}" for tier in TIERS for kind in KINDS)]
    return {table: n for table in tables if (n := cursor.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) != 48}


def test_what_is_kept_for_ever(cursor):
    assert expired(cursor) == {}


def test_single_calls_go(cursor):
    assert expired(cursor, keep_calls=6 * 3600.0) == {"calls": 6}


def test_each_tier_goes_by_its_own(cursor):
    cursor.execute(f"INSERT INTO cascaded VALUES ('1h', {moment(START)})")
    assert expired(cursor, keep_1m=5 * 3600.0) == {"rollup_1m": 5, "latency_1m": 5}


def test_a_day_is_kept_until_its_end_is_old_enough(cursor):
    cursor.execute("DELETE FROM rollup_1d")
    cursor.execute(f"INSERT INTO rollup_1d (bucket) VALUES ({moment(START - 3 * DAY)}), ({moment(START - 2 * DAY)})")
    left = expired(cursor, keep_1d=1.5 * DAY)
    assert left["rollup_1d"] == 1


def test_what_was_not_added_up_yet_stays(cursor):
    """However old it is: the next tier is to have it first."""
    assert expired(cursor, keep_10s=3600.0) == {}
    cursor.execute(f"INSERT INTO cascaded VALUES ('1m', {moment(START - 10 * 3600)})")
    assert expired(cursor, keep_10s=3600.0) == {"rollup_10s": 10, "latency_10s": 10}


def test_not_all_of_it_at_once(cursor):
    config = Collector(**(FOREVER | {"keep_calls": 3600.0}))
    assert expire(cursor, config, START)
    assert cursor.execute("SELECT count(*) FROM calls").fetchone() == (47,)
