from __future__ import annotations

import math

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.collect import sketch

ANY = st.one_of(st.integers(0, 300), st.integers(0, 2**62), st.integers(0, 40).map(lambda power: 2**power))
latencies = st.lists(ANY, min_size=1, max_size=200)


@given(ANY)
def test_a_bin_holds_what_is_counted_in_it(us):
    number = sketch.bin_of(us)
    shown = min(us, sketch.CEILING - 1)
    assert 0 <= number < sketch.BINS
    assert shown <= sketch.upper_bound(number)
    assert number == 0 or shown > sketch.upper_bound(number - 1)


@given(ANY)
def test_it_is_at_most_a_sixteenth_too_high(us):
    us = min(us, sketch.CEILING - 1)
    assert sketch.upper_bound(sketch.bin_of(us)) <= us * 17 / 16


def test_the_first_are_exact_and_bounds_only_grow():
    assert [sketch.bin_of(us) for us in range(34)] == [*range(32), 32, 32]
    bounds = [sketch.upper_bound(number) for number in range(sketch.BINS)]
    assert bounds == sorted(set(bounds))
    assert bounds[-1] == sketch.CEILING - 1


@pytest.fixture(scope="module")
def database():
    """One that is empty."""
    with duckdb.connect() as made:
        yield made


@settings(deadline=None, max_examples=50)
@given(latencies)
def test_many_at_once_and_sql_say_the_same(database, many):
    one_by_one = [sketch.bin_of(us) for us in many]
    assert sketch.bins_of(np.array(many, np.int64)).tolist() == one_by_one
    columns = f"{sketch.bin_sql('us')} AS bin, {sketch.upper_bound_sql('bin')}"
    found = database.execute(f"SELECT {columns} FROM (SELECT unnest(?::UBIGINT[]) us)", [many]).fetchall()
    assert found == [(number, sketch.upper_bound(number)) for number in one_by_one]


@given(latencies, st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0]))
def test_percentiles_are_as_near_as_promised(many, share):
    many = [min(us, sketch.CEILING - 1) for us in many]
    exact = sorted(many)[max(0, math.ceil(share * len(many)) - 1)]
    found = sketch.percentile([(sketch.bin_of(us), 1) for us in many], share)
    assert exact <= found <= exact * 17 / 16


@given(latencies, latencies)
def test_sketches_add_up(some, others):
    counted = [(sketch.bin_of(us), 1) for us in some]
    rest = [(sketch.bin_of(us), 1) for us in others]
    together: dict[int, int] = {}
    for number, calls in counted + rest:
        together[number] = together.get(number, 0) + calls
    assert sketch.percentile(counted + rest, 0.5) == sketch.percentile(together.items(), 0.5)


def test_nothing_took_no_time():
    assert sketch.percentile([], 0.99) == 0
    assert sketch.percentile([(5, 0)], 0.99) == 0
