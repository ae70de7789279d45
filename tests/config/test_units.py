"""Durations, sizes and rates: what can be written, what cannot, and that what is shown reads back the same."""

from __future__ import annotations

import copy
import datetime
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.units import UNITS, Duration, Moment, Rate, Size, UnitError, from_plain, to_plain


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("100ms", 0.1),
        ("30s", 30),
        ("30 s", 30),
        ("1m30s", 90),
        ("1h0m1s", 3601),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5s", 1.5),
        ("0s", 0),
        (0, 0),
        (5, 5),
        (0.25, 0.25),
    ],
)
def test_durations(text, seconds):
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("1B", 1),
        ("64KiB", 65536),
        ("1 MiB", 2**20),
        ("10MB", 10_000_000),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1.5KiB", 1536),
        ("2GiB", 2**31),
        ("3TB", 3 * 10**12),
        ("1TiB", 2**40),
        (7, 7),
        (7.0, 7),
    ],
)
def test_sizes(text, size):
    assert Size.parse(text) == size


@pytest.mark.parametrize(
    ("text", "amount", "period"),
    [
        ("100/m", 100, 60),
        ("240/s", 240, 1),
        ("2KiB/s", 2048, 1),
        ("100/10s", 100, 10),
        ("0.5/h", 0.5, 3600),
        ("5/100ms", 5, 0.1),
        (3, 3, 1),
        (0, 0, 1),
    ],
)
def test_rates_keep_how_they_were_written(text, amount, period):
    rate = Rate.parse(text)
    assert (rate.amount, rate.period) == (amount, period)
    assert rate == pytest.approx(amount / period)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Duration, "30", "its unit is missing"),
        (Duration, "30x", "not a duration"),
        (Duration, "", "not a duration"),
        (Duration, "-1s", "not a duration"),
        (Duration, "1s\n", "not a duration"),
        (Duration, "1s1m", "units go down"),
        (Duration, "1s1s", "units go down"),
        (Duration, -1, "negative"),
        (Duration, float("inf"), "not finite"),
        (Duration, float("nan"), "not finite"),
        (Duration, True, "neither"),
        (Duration, None, "neither"),
        (Size, "64", "its unit is missing"),
        (Size, "64kib", "not a size"),
        (Size, "64K", "not a size"),
        (Size, "1.5B", "no whole number"),
        (Size, 1.5, "no whole number"),
        (Size, [], "neither"),
        (Rate, "100", "its unit is missing"),
        (Rate, "100/x", "not a rate"),
        (Rate, "100/0s", "time is zero"),
        (Rate, "/s", "not a rate"),
        (Rate, -1, "negative"),
        (Duration, 10**18, "too large"),
        (Duration, "99999999999999999d", "too large"),
        (Size, 10**18, "too large"),
        (Size, "999999999TiB", "too large"),
        (Rate, 10**18, "too large"),
    ],
)
def test_what_cannot_be_read(kind, value, message):
    with pytest.raises(UnitError, match=message):
        kind.parse(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Duration(0), "0s"),
        (Duration(0.1), "0.1s"),
        (Duration(0.001), "1ms"),
        (Duration(60), "1m"),
        (Duration(75), "75s"),
        (Duration(90), "90s"),
        (Duration(3600), "1h"),
        (Duration(129_600), "36h"),
        (Duration(86400), "1d"),
        (Size(0), "0B"),
        (Size(65536), "64KiB"),
        (Size(10**7), "10MB"),
        (Size(1000), "1kB"),
        (Size(1536), "1536B"),
        (Size(2**30), "1GiB"),
        (Rate(240), "240/s"),
        (Rate(100, 60), "100/m"),
        (Rate(5, 10), "5/10s"),
    ],
)
def test_the_shortest_text_is_shown(value, text):
    assert str(value) == f"{value}" == text
    assert repr(value) == f"{type(value).__name__}('{text}')"


SECONDS = st.one_of(st.integers(0, 10**9), st.floats(0.001, 10**9), st.integers(0, 10**6).map(lambda n: n / 1000))


@given(SECONDS)
def test_durations_read_back_the_same(seconds):
    assert Duration.parse(str(Duration(seconds))) == float(seconds)


@given(st.integers(0, 10**18 - 1))
def test_sizes_read_back_the_same(size):
    assert Size.parse(str(Size(size))) == size


@given(st.integers(0, 10**9), st.sampled_from([0.1, 1.0, 10.0, 60.0, 90.0, 3600.0, 86400.0]))
def test_rates_read_back_the_same(amount, period):
    again = Rate.parse(str(Rate(amount, period)))
    assert (again.amount, again.period) == (amount, period)


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,3}[a-zA-Z/]{0,4}", fullmatch=True))
def test_any_text_is_read_or_refused(text):
    for kind in UNITS:
        try:
            value = kind.parse(text)
        except UnitError:
            continue
        assert kind.parse(str(value)) == value


def test_they_are_numbers_and_survive_copies():
    assert Duration(2) * 3 == 6
    assert Size(2) + 3 == 5
    for value in (Duration(2), Size(2), Rate(100, 60)):
        for again in (copy.copy(value), pickle.loads(pickle.dumps(value))):
            assert type(again) is type(value)
            assert str(again) == str(value)


def test_msgspec_reads_and_writes_them():
    class Table(msgspec.Struct):
        a: Duration
        b: Size
        c: Rate

    table = msgspec.convert({"a": "1m", "b": "1KiB", "c": "2/m"}, Table, dec_hook=from_plain)
    assert msgspec.to_builtins(table, enc_hook=to_plain) == {"a": "1m", "b": "1KiB", "c": "2/m"}


def test_other_types_are_not_theirs():
    with pytest.raises(TypeError, match="bytes"):
        from_plain(bytes, "x")
    with pytest.raises(TypeError, match="object"):
        to_plain(object())


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2027-01-31", 1801353600),
        ("2027-01-31T12:00:00Z", 1801396800),
        ("2027-01-31t12:00:00z", 1801396800),
        ("2027-01-31 12:00:00+02:00", 1801389600),
        ("2027-01-31T12:00:00.5Z", 1801396800.5),
        (datetime.datetime(2027, 1, 31, 12, tzinfo=datetime.UTC), 1801396800),
        (datetime.date(2027, 1, 31), 1801353600),
        ("", 0),
        (0, 0),
        (5.5, 5.5),
    ],
)
def test_moments(written, seconds):
    found = Moment.parse(written)
    assert found == seconds
    assert Moment.parse(str(found)) == found


@pytest.mark.parametrize(
    "written",
    [
        "2027-02-30",
        "2027-01-31T12:00:00",
        "2027-01-31T12:00:00+24:00",
        "2027-1-31",
        "2027-W01-1",
        "20270131",
        "soon",
        "2027-01-31Z",
        "2027-01-31T12:00:00Z\n",
        datetime.datetime(2027, 1, 31, 12),
        True,
        -1,
        None,
    ],
)
def test_what_is_no_moment(written):
    with pytest.raises(UnitError):
        Moment.parse(written)
