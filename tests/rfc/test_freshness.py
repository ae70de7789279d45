"""Age and lifetime."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.freshness import Control, Heuristics, control_of, guessed_lifetime, initial_age, said_lifetime
from gatewayd.rfc.headers import http_date

NOW = 1_800_000_000.0


def dated(name, seconds):
    return (name, http_date(NOW + seconds))


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        ([], 3),
        ([dated(b"date", 0)], 3),
        ([dated(b"date", 100)], 3),
        ([dated(b"date", -100)], 100),
        ([(b"age", b"7")], 10),
        ([dated(b"date", -100), (b"age", b"7")], 100),
        ([dated(b"date", -1), (b"age", b"70")], 73),
        ([(b"date", b"x")], 3),
        ([(b"age", b"x")], None),
        ([(b"age", b"-7")], None),
        ([(b"age", b"7.0")], None),
        ([(b"age", b"7, 8")], None),
        ([(b"age", b"7"), (b"age", b"7")], None),
        ([(b"age", b"9" * 30)], None),
    ],
)
def test_initial_age(headers, age):
    assert initial_age(headers, NOW - 3, NOW) == age


@given(st.integers(-9999, 9999), st.integers(0, 9999), st.floats(0, 99))
def test_a_reply_is_never_younger_than_it_says(skew, age, delay):
    assert initial_age([dated(b"date", skew), (b"age", b"%d" % age)], NOW - delay, NOW) >= age


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ([], None),
        ([(b"cache-control", b"max-age=60")], 60),
        ([(b"cache-control", b"max-age=60, s-maxage=7")], 7),
        ([(b"cache-control", b"max-age=x, s-maxage=7")], 7),
        ([(b"cache-control", b"max-age=x")], 0),
        ([(b"cache-control", b"max-age=60"), dated(b"expires", 7)], 60),
        ([(b"cache-control", b"max-age=0"), dated(b"expires", 7)], 0),
        ([dated(b"expires", 7)], 7),
        ([dated(b"expires", 7), dated(b"date", 2)], 5),
        ([dated(b"expires", 7), (b"date", b"x")], 7),
        ([dated(b"expires", -7)], 0),
        ([(b"expires", b"0")], 0),
        ([dated(b"expires", 7), dated(b"expires", 7)], 7),
        ([dated(b"expires", 7), dated(b"expires", 8)], 0),
    ],
)
def test_what_a_reply_says(headers, lifetime):
    assert said_lifetime(headers, control_of(headers, (), b"me"), NOW) == lifetime


TARGETS = (b"surrogate-control", b"cdn-cache-control")


@pytest.mark.parametrize(
    ("headers", "lifetime", "targeted"),
    [
        ([(b"cdn-cache-control", b"max-age=1"), (b"cache-control", b"max-age=2"), dated(b"expires", 3)], 1, True),
        ([(b"cdn-cache-control", b"max-age=1"), (b"surrogate-control", b"max-age=4")], 4, True),
        ([(b"surrogate-control", b"content"), dated(b"expires", 3)], None, True),
        ([(b"surrogate-control", b"max-age=4;other"), (b"cache-control", b"max-age=2")], 2, False),
        ([(b"surrogate-control", b"max-age=4;me"), (b"cache-control", b"max-age=2")], 4, True),
        ([(b"cdn-cache-control", b"max-age =1"), (b"cache-control", b"max-age=2")], 2, False),
        ([(b"cdn-cache-control", b""), (b"cache-control", b"max-age=2")], 2, False),
    ],
)
def test_fields_for_caches_like_this_one(headers, lifetime, targeted):
    control = control_of(headers, TARGETS, b"me")
    assert (said_lifetime(headers, control, NOW), control.targeted) == (lifetime, targeted)
    assert isinstance(control, Control)


def test_guesses():
    rules = Heuristics(0.1, 50, 7, 9, frozenset((404,)))
    assert guessed_lifetime(200, [dated(b"last-modified", -100)], rules, NOW) == pytest.approx(10)
    assert guessed_lifetime(200, [dated(b"last-modified", -10_000)], rules, NOW) == 50
    assert guessed_lifetime(200, [dated(b"last-modified", 100)], rules, NOW) == 0
    assert guessed_lifetime(200, [], rules, NOW) == 7
    assert guessed_lifetime(404, [dated(b"last-modified", -100)], rules, NOW) == 9
    assert guessed_lifetime(200, [dated(b"last-modified", -100)], Heuristics(), NOW) == 0
