from __future__ import annotations

import random
from itertools import chain

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.audit.record import Captured
from gatewayd.collect import logs
from gatewayd.collect.filters import Filters
from gatewayd.collect.parameters import Wrong
from tests.support.calls import NOON, add, call, empty, erased, fill, store_in

EVERYTHING = Filters()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = store_in(tmp_path_factory.mktemp("store"))
    yield store
    store.close()


@pytest.fixture
def store(made):
    return empty(made)


def pages(cursor, filters, order, limit):
    """All pages, as lists of (chain, number)."""
    behind, found = None, []
    while True:
        page = logs.page(cursor, filters, order, limit, behind)
        found.append([(row["chain"], row["number"]) for row in page.calls])
        if not page.cursor:
            return found
        behind = logs.place(page.cursor)


def test_a_call_is_shown_with_all_its_columns(store):
    fill(store, [call(1, route="quotes", total_us=1500, sampled=True, values="0a 0b", client="192.0.2.1")])
    with store.cursor() as cursor:
        (row,) = logs.page(cursor, EVERYTHING, "newest", 10, None).calls
    assert tuple(row) == logs.SHOWN
    assert row["at"] == "2027-01-15T12:00:01.000000Z"
    assert (row["route"], row["total_us"], row["sampled"], row["values"]) == ("quotes", 1500, True, "0a 0b")
    assert msgspec.json.decode(msgspec.json.encode(row)) == row


def test_what_was_erased_is_null(store):
    fill(store, [erased(call(1, client="192.0.2.1"))])
    with store.cursor() as cursor:
        (row,) = logs.page(cursor, EVERYTHING, "newest", 10, None).calls
    assert (row["client"], row["agent"], row["values"]) == (None, None, None)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_leave_nothing_out(store, limit):
    """Several calls of one moment, in two chains, over the edges of pages."""
    rows = [call(number, chain=f"calls-{number % 2}", at=NOON + number // 4) for number in range(1, 8)]
    fill(store, random.Random(limit).sample(rows, len(rows)))
    in_order = [(row["chain"], row["number"]) for row in sorted(rows, key=lambda row: (row["at"], row["chain"]))]
    with store.cursor() as cursor:
        forth, back = pages(cursor, EVERYTHING, "oldest", limit), pages(cursor, EVERYTHING, "newest", limit)
    assert list(chain.from_iterable(forth)) == in_order
    assert list(chain.from_iterable(back)) == in_order[::-1]
    assert {len(page) for page in forth[:-1]} <= {limit}


def test_pages_of_what_fulfils_filters(store):
    fill(store, [call(number, status=500 if number % 3 == 0 else 200) for number in range(1, 20)])
    with store.cursor() as cursor:
        found = pages(cursor, Filters(status=((500, 599),), begin=(NOON + 4) * 1_000_000), "newest", 2)
    assert [[number for _, number in page] for page in found] == [[18, 15], [12, 9], [6]]


def test_the_next_page_skips_what_came_in_meanwhile(store):
    fill(store, [call(number) for number in (1, 2, 3, 4)])
    with store.cursor() as cursor:
        first = logs.page(cursor, EVERYTHING, "newest", 2, None)
        fill(store, [call(5)])
        second = logs.page(cursor, EVERYTHING, "newest", 2, logs.place(first.cursor))
        assert [row["number"] for row in first.calls + second.calls] == [4, 3, 2, 1]
        came, _ = logs.news(cursor, EVERYTHING, logs.position_of(first.position), 10)
        assert [row["number"] for row in came] == [5]


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_who_follows_sees_everything_once(made, data):
    """Calls come in by chain and number, but at any time of their own; however little is asked for at once."""
    store = made
    wanted, seen = [], []
    with store.cursor() as cursor:
        since = logs.position(cursor)
        reached = dict.fromkeys(("calls-0", "calls-1", "calls-2"), 0) | since
        for _ in range(data.draw(st.integers(1, 6))):
            rows = []
            for name in data.draw(st.lists(st.sampled_from(sorted(reached)), max_size=6)):
                reached[name] += data.draw(st.integers(1, 3))  # where there was a gap, numbers are missing
                at, status = NOON + data.draw(st.integers(-50, 50)), data.draw(st.sampled_from([200, 500]))
                rows.append(call(reached[name], chain=name, at=at, status=status))
            fill(store, rows)
            wanted += [(row["chain"], row["number"]) for row in rows if row["status"] == 500]
            limit = data.draw(st.integers(1, 4))
            came, since = logs.news(cursor, Filters(status=((500, 500),)), since, limit)
            seen += [(row["chain"], row["number"]) for row in came]
            since = logs.position_of(logs.written(since))
        while since != logs.position(cursor):
            came, since = logs.news(cursor, Filters(status=((500, 500),)), since, 2)
            seen += [(row["chain"], row["number"]) for row in came]
    assert sorted(seen) == sorted(wanted)
    assert len(seen) == len(set(seen))


def test_news_are_in_the_order_of_time(store):
    fill(store, [call(1, at=NOON + 9), call(2, at=NOON + 1), call(1, chain="calls-1", at=NOON + 5)])
    with store.cursor() as cursor:
        came, since = logs.news(cursor, EVERYTHING, {}, 10)
        assert [row["at"][17:19] for row in came] == ["01", "05", "09"]
        assert since == {"calls-0": 2, "calls-1": 1} == logs.position(cursor)
        assert logs.news(cursor, EVERYTHING, since, 10) == ([], since)


def test_following_goes_on_after_old_calls_went(store):
    """Rows go and come: positions don't depend on where they lie."""
    fill(store, [call(number) for number in range(1, 6)])
    with store.cursor() as cursor:
        since = logs.position(cursor)
        cursor.execute("DELETE FROM calls")
        cursor.execute("CHECKPOINT")
        fill(store, [call(6), call(7)])
        came, _ = logs.news(cursor, EVERYTHING, since, 10)
    assert [row["number"] for row in came] == [6, 7]


def test_all_about_a_call(store):
    captured = Captured([(b"x-a", b"\xe9")], b'{"a": 1}', False, [(b"x-b", b"c")], b"\xff\x00", True)
    said = msgspec.msgpack.encode(captured)
    fill(store, [call(1, request_id="one", captured=said), call(2, request_id="one"), call(3, request_id="two")])
    with store.cursor() as cursor:
        newer, older = logs.detail(cursor, "one")
    assert (newer["number"], newer["captured"]) == (2, None)
    assert older["captured"] == {
        "request": {"headers": [("x-a", "é")], "body": '{"a": 1}', "cut": False},
        "reply": {"headers": [("x-b", "c")], "body_base64": "/wA=", "cut": True},
    }


@pytest.mark.parametrize("text", ["", "1", "1.calls-0", "1.calls-0.x", "1.a b.2", "1.calls-0.2 ", f"{'9' * 19}.a.1"])
def test_what_is_no_cursor(text):
    with pytest.raises(Wrong, match="no cursor"):
        logs.place(text)


@pytest.mark.parametrize("text", ["x", "a:", "a:-1", "a:1,,b:2", "a:1;b:2", ",".join(f"a{n}:1" for n in range(1001))])
def test_what_is_no_position(text):
    with pytest.raises(Wrong, match="no position"):
        logs.position_of(text)


def test_cursors_and_positions_are_read_as_written():
    row = {"at": "2027-01-15T12:00:00.000123Z", "chain": "calls-12", "number": 7}
    assert logs.place(logs.place_of(row)) == (NOON * 1_000_000 + 123, "calls-12", 7)
    assert logs.position_of("") == {}
    assert logs.position_of(logs.written({"calls-1": 5, "actions": 0})) == {"calls-1": 5, "actions": 0}


def test_a_hundred_thousand_calls_are_paged_by_statements_that_know_them(store):
    with store.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE many AS FROM calls LIMIT 0")
        cursor.execute(
            f"""INSERT INTO many BY NAME SELECT 'calls-0' AS chain, i + 1 AS number, make_timestamp({NOON}000000 + i) AS
            "at", 'id-' || i AS request_id, 200 AS status, '' AS code, '' AS route, 0 AS total_us
            FROM range(100000) t(i)"""
        )
        add(cursor, "many")
        found = logs.page(cursor, Filters(exact={"request_id": ("id-77777",)}), "newest", 5, None)
        assert [row["number"] for row in found.calls] == [77_778]
        assert found.position == "calls-0:100000"
