"""The sliding count, against a list of timestamps."""

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.upstream.window import Window

STEPS = st.lists(st.one_of(st.just(0.0), st.floats(0.001, 4), st.floats(20, 500)), max_size=120)


@given(STEPS)
def test_it_counts_the_last_seconds_to_the_slice(steps):
    window, now, times = Window(10.0), 5.0, []
    for step in steps:
        now += step
        window.add(now)
        times.append(now)
        total = window.total(now)
        least = sum(1 for time in times if time > now - 9 + 1e-6)
        most = sum(1 for time in times if time > now - 10 - 1e-6)
        assert least <= total <= most
        assert window.count == len(times)


def test_a_long_silence_empties_it():
    window = Window(10.0)
    for _ in range(50):
        window.add(1.0)
    assert window.total(9.9) == 50
    assert window.total(1e9) == 0


def test_clearing_forgets_the_window_but_not_the_count():
    window = Window(10.0)
    window.add(1.0)
    window.clear()
    window.add(2.0)
    assert (window.total(2.0), window.count) == (1, 2)


def test_carrying_over_goes_on_where_the_old_one_stands():
    old, new = Window(10.0), Window(10.0)
    old.add(1.0)
    old.add(4.0)
    new.carry_over(old)
    old.add(4.0)
    assert new.total(5.0) == 2
    assert new.total(12.0) == 1
    assert new.total(15.0) == 0
