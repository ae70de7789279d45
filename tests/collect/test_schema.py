from __future__ import annotations

import duckdb
import pytest

from gatewayd.collect import schema, sketch
from gatewayd.collect.store import Store


@pytest.fixture
def cursor(tmp_path):
    """A connection to an empty store."""
    store = Store(tmp_path / "calls.duckdb")
    cursor = store.cursor()
    yield cursor
    cursor.close()
    store.close()


def columns(cursor, table):
    """Names and types."""
    return dict(
        cursor.execute("SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ?", [table]).fetchall()
    )


def test_calls_have_their_columns(cursor):
    assert columns(cursor, "calls") == schema.CALLS_COLUMNS
    assert set(schema.PERSONAL) < set(schema.CALLS_COLUMNS)


@pytest.mark.parametrize("tier", [tier.name for tier in schema.TIERS])
def test_every_tier_has_its_tables_and_views_of_the_same_shape(cursor, tier):
    sums, bins = columns(cursor, f"rollup_{tier}"), columns(cursor, f"latency_{tier}")
    assert list(sums) == ["bucket", *schema.KEYS, *schema.SUMS]
    assert list(bins) == ["bucket", *schema.KEYS, "bin", "calls"]
    assert columns(cursor, f"rollup_{tier}_now") == sums
    assert columns(cursor, f"latency_{tier}_now") == bins


def test_a_view_takes_each_tier_where_the_coarser_one_ends(cursor):
    hour = 1_800_000_000
    at = {"1d": hour - hour % 86400 - 86400, "1h": hour - 3600, "1m": hour + 60, "10s": hour + 130}
    for number, (tier, second) in enumerate(at.items()):
        cursor.execute(
            f"INSERT INTO rollup_{tier} (bucket, tenant, route, service, consumer, calls) "
            f"VALUES ({schema.moment(second)}, '', '', '', '', {10**number})"
        )
    marks = {"1d": hour - hour % 86400, "1h": hour, "1m": hour + 120}
    cursor.execute(schema.views(marks))

    def found(tier):
        query = f"SELECT epoch(bucket)::BIGINT, sum(calls)::INTEGER FROM rollup_{tier}_now GROUP BY ALL ORDER BY ALL"
        return cursor.execute(query).fetchall()

    assert found("1d") == [(at["1d"], 1), (marks["1d"], 1110)]
    assert found("1h") == [(at["1h"], 10), (hour, 1100)]
    assert found("1m") == [(at["1m"], 100), (hour + 120, 1000)]
    assert found("10s") == [(at["10s"], 1000)]


def test_whoever_opens_the_file_can_read_the_sketch(cursor):
    query = "SELECT latency_bin(us), latency_bound(latency_bin(us)) FROM (VALUES (0), (15), (16), (123456)) t(us)"
    bins = [sketch.bin_of(us) for us in (0, 15, 16, 123456)]
    assert cursor.execute(query).fetchall() == [(each, sketch.upper_bound(each)) for each in bins]


def test_positions_are_one_for_each_chain(cursor):
    cursor.execute("INSERT INTO positions VALUES ('calls-0', 1, 2, 'x', 3)")
    with pytest.raises(duckdb.ConstraintException):
        cursor.execute("INSERT INTO positions VALUES ('calls-0', 1, 2, 'x', 3)")
