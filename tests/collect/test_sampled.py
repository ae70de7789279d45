"""Sampled calls, each once, whatever else is in the store and whatever leaves it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.collect import sampled

from .sampled_calls import add, open_store

COLUMNS = ("chain", "number")


@pytest.fixture
def store(tmp_path):
    """One without calls."""
    made = open_store(tmp_path)
    yield made
    made.close()


def drain(store, most: int = 2) -> list[tuple[str, int]]:
    """All that is left, in batches that are committed."""
    found = []
    while True:
        batch = sampled.read(store, COLUMNS, most)
        assert len(batch.rows) <= most
        sampled.commit(store, batch.reached)
        found += batch.rows
        if not batch.more:
            return found


def test_an_empty_store_has_nothing_to_say(store):
    batch = sampled.read(store, COLUMNS, 5)
    assert (batch.rows, batch.reached, batch.more) == ([], {}, False)
    sampled.commit(store, batch.reached)


def test_only_sampled_calls_are_read_in_the_order_of_their_numbers(store):
    for number in range(1, 9):
        add(store, "calls-0", number, sampled=number % 3 == 0)
    assert drain(store) == [("calls-0", 3), ("calls-0", 6)]
    assert drain(store) == []


def test_what_is_not_committed_is_read_again(store):
    add(store, "calls-0", 1)
    first = sampled.read(store, COLUMNS, 5)
    assert sampled.read(store, COLUMNS, 5) == first
    sampled.commit(store, first.reached)
    assert sampled.read(store, COLUMNS, 5).rows == []


def test_where_it_stands_outlives_the_process(store):
    add(store, "calls-0", 1)
    drain(store)
    store.close()
    add(store, "calls-0", 2)
    assert drain(store) == [("calls-0", 2)]


def test_chains_go_on_by_themselves(store):
    for number in (1, 2, 3):
        add(store, "calls-0", number)
    add(store, "calls-1", 1)
    assert drain(store, 2) == [("calls-0", 1), ("calls-0", 2), ("calls-0", 3), ("calls-1", 1)]
    add(store, "calls-2", 7)
    add(store, "calls-0", 4)
    assert drain(store) == [("calls-0", 4), ("calls-2", 7)]


def test_what_is_not_sampled_is_passed_over_for_good(store):
    for number in range(1, 6):
        add(store, "calls-0", number, sampled=False)
    batch = sampled.read(store, COLUMNS, 2)
    assert (batch.rows, batch.reached, batch.more) == ([], {"calls-0": 5}, False)
    sampled.commit(store, batch.reached)
    assert sampled.read(store, COLUMNS, 2).reached == {}


def test_calls_taken_out_of_the_store_neither_stop_nor_repeat_anything(store):
    """DuckDB gives rows other identifiers then."""
    for number in range(1, 5):
        add(store, "calls-0", number)
    drain(store)
    with store.cursor() as cursor:
        cursor.execute("DELETE FROM calls WHERE number <= 3")
        cursor.execute("CHECKPOINT")
    add(store, "calls-0", 5)
    assert drain(store) == [("calls-0", 5)]


_calls = st.lists(st.tuples(st.sampled_from(["calls-0", "calls-1"]), st.booleans()), max_size=12)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """One store for all examples, which have chains of their own."""
    made = open_store(tmp_path_factory.mktemp("store"))
    yield made
    made.close()


_marks = (f"{number}-" for number in itertools.count())


@settings(max_examples=20, deadline=None)
@given(st.lists(_calls, max_size=3), st.integers(1, 4))
def test_every_sampled_call_is_read_once(lasting, rounds, most):
    mark = next(_marks)
    numbers = {"calls-0": 0, "calls-1": 0}
    added, found = [], []
    for calls in rounds:
        for chain, is_sampled in calls:
            numbers[chain] += 1
            add(lasting, f"{mark}{chain}", numbers[chain], sampled=is_sampled)
            added += [(f"{mark}{chain}", numbers[chain])] if is_sampled else []
        found += drain(lasting, most)
    assert len(found) == len(set(found))
    assert set(found) == set(added)
