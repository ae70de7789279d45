"""HTTP dates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.dates import read_date
from gatewayd.rfc.headers import http_date

NOW = 1_800_000_000.0
EXAMPLE = 784_111_777.0


@pytest.mark.parametrize(
    "text",
    [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994"],
)
def test_three_forms_of_one_moment(text):
    assert read_date(text, NOW) == EXAMPLE


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"-1",
        b"now",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 gmt",
        b"sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 NOV 1994 08:49:37 GMT",
        b"Sun, 06 Now 1994 08:49:37 GMT",
        b"Sun 06 Nov 1994 08:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 32 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"Sun, 06-Nov-94 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT" * 9,
    ],
)
def test_what_is_no_date(text):
    assert read_date(text, NOW) is None


@given(st.integers(0, 4_000_000_000))
def test_what_is_written_is_read(seconds):
    assert read_date(http_date(seconds), NOW) == seconds


def test_years_of_two_digits_lie_near():
    assert read_date(b"Monday, 06-Nov-50 08:49:37 GMT", NOW) == read_date(b"Sun, 06 Nov 2050 08:49:37 GMT", NOW)
    assert read_date(b"Monday, 06-Nov-80 08:49:37 GMT", NOW) == read_date(b"Thu, 06 Nov 1980 08:49:37 GMT", NOW)


@given(st.binary(max_size=60))
def test_anything_else_is_survived(data):
    assert read_date(data, NOW) is None or data
