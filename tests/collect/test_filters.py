from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.collect.filters import EXACT, FILTERS, SEARCHED, Filters, filters_of, quoted, where
from gatewayd.collect.parameters import BadParameters, read_all
from gatewayd.collect.schema import CALLS_COLUMNS
from tests.support.calls import NOON, call, erased, fill, store_in

WORDS = ["", "gold", "Gold", "motor-quotes", "/v1/policies/{id}", "it's", "100%", "a_b", '"x"', "Straße", "--", ";"]
words = st.sampled_from(WORDS)
columns = sorted(EXACT)
calls = st.builds(
    lambda fields, status, at, gone: (erased if gone else dict)({**fields, "status": status, "at": NOON + at}),
    st.fixed_dictionaries(dict.fromkeys({*columns, *SEARCHED, "verdicts"}, words)),
    st.sampled_from([0, 200, 204, 301, 399, 400, 404, 429, 499, 500, 502, 599]),
    st.integers(-20, 20),
    st.booleans(),
)
ranges = st.tuples(st.integers(100, 599), st.integers(100, 599)).map(lambda pair: (min(pair), max(pair)))
asked = st.builds(
    Filters,
    st.none() | st.integers(-20, 20).map(lambda second: (NOON + second) * 1_000_000),
    st.none() | st.integers(-20, 20).map(lambda second: (NOON + second) * 1_000_000),
    st.dictionaries(st.sampled_from(columns), st.lists(words, min_size=1, max_size=3).map(tuple), max_size=3),
    st.lists(ranges, max_size=2).map(tuple),
    words | st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=5),
)


def _of_id(text):
    """`text` if it may be part of a request's id, else what is part of none: ids are not read through for that."""
    return text if re.fullmatch(r"[A-Za-z0-9._-]*", text) else "\0"


def fulfils(row, filters):
    """What the SQL is to say, in Python."""
    at = row["at"] * 1_000_000
    wanted = filters.text.lower()
    return (
        (filters.begin is None or at >= filters.begin)
        and (filters.end is None or at < filters.end)
        and all(row[column] in values for column, values in filters.exact.items())
        and (not filters.status or any(low <= row["status"] <= high for low, high in filters.status))
        and (any(wanted in row[column].lower() for column in SEARCHED) or _of_id(filters.text) in row["request_id"])
    )


@pytest.fixture(scope="module")
def cursor(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    with store.cursor() as cursor:
        yield cursor
    store.close()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(calls, max_size=12), filters=asked)
def test_sql_finds_what_python_finds(cursor, rows, filters):
    rows = [call(number, **row) for number, row in enumerate(rows, 1)]
    cursor.begin()
    try:
        if rows:
            names = [name for name in CALLS_COLUMNS if name != "at"]
            listed = ", ".join(map(quoted, names))
            marks = ", ".join("?" * len(names))
            values = [[*(row[name] for name in names), row["at"] * 1_000_000] for row in rows]
            cursor.executemany(f'INSERT INTO calls ({listed}, "at") VALUES ({marks}, make_timestamp(?))', values)
        condition, values = where(filters)
        found = cursor.execute(f'SELECT "number" FROM calls WHERE {condition} ORDER BY 1', values).fetchall()
    finally:
        cursor.rollback()
    assert [number for (number,) in found] == [row["number"] for row in rows if fulfils(row, filters)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([each.name for each in FILTERS]), st.text(max_size=8)), max_size=6))
def test_whatever_is_said_is_refused_or_makes_sql(cursor, pairs):
    try:
        filters = filters_of(read_all(FILTERS, pairs), NOON)
    except BadParameters:
        return
    condition, values = where(filters)
    cursor.execute(f"SELECT count(*) FROM calls WHERE {condition}", values)


def test_a_period_that_ends_before_it_begins():
    with pytest.raises(BadParameters, match="to: is not after `from`"):
        filters_of(read_all(FILTERS, [("from", "5m"), ("to", "10m")]), NOON)


def test_what_was_said_becomes_filters():
    said = [("from", "1h"), ("consumer", "a"), ("consumer", "b"), ("code", ""), ("status", "5xx"), ("text", "x")]
    assert filters_of(read_all(FILTERS, said), NOON) == Filters(
        begin=(NOON - 3600) * 1_000_000,
        exact={"consumer": ("a", "b"), "code": ("",)},
        status=((500, 599),),
        text="x",
    )


def test_columns_are_those_of_the_store():
    assert {*EXACT, *SEARCHED} <= set(CALLS_COLUMNS)
    with pytest.raises(ValueError, match="no filter for"):
        where(Filters(exact={'status" OR true --': ("x",)}))


def test_ids_are_searched_only_for_what_could_be_one():
    assert "request_id" in where(Filters(text="5f3a"))[0]
    assert "request_id" not in where(Filters(text="/v1/x"))[0]


def test_a_filled_store_is_filtered(tmp_path):
    store = store_in(tmp_path)
    fill(store, [call(number, consumer=f"c{number % 3}", status=200 + number) for number in range(1, 10)])
    condition, values = where(Filters(exact={"consumer": ("c1", "c2")}, status=((204, 299),)))
    with store.cursor() as cursor:
        found = cursor.execute(f"SELECT list(number ORDER BY number) FROM calls WHERE {condition}", values).fetchone()
    store.close()
    assert found == ([4, 5, 7, 8],)
