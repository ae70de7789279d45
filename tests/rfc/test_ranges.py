"""Byte ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.ranges import Range, Unsatisfiable, content_range, read_range


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b"bytes=0-0", Range(0, 0)),
        (b"bytes=2-4", Range(2, 4)),
        (b"Bytes=2-4", Range(2, 4)),
        (b"bytes=2-", Range(2, 9)),
        (b"bytes=2-99", Range(2, 9)),
        (b"bytes=-3", Range(7, 9)),
        (b"bytes=-99", Range(0, 9)),
        (b"bytes=10-", Unsatisfiable()),
        (b"bytes=10-12", Unsatisfiable()),
        (b"bytes=-0", Unsatisfiable()),
        (b"bytes=4-2", None),
        (b"bytes=0-1,3-4", None),
        (b"bytes=a-b", None),
        (b"bytes=-", None),
        (b"bytes 0-1", None),
        (b"lines=0-1", None),
        (b"", None),
    ],
)
def test_reading(value, part):
    assert read_range([value], 10) == part


def test_none_or_several_fields_are_ignored():
    assert read_range([], 10) is None
    assert read_range([b"bytes=0-1"] * 2, 10) is None


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 40))
def test_a_part_lies_within(first, last, length):
    for value in (b"bytes=%d-%d" % (first, last), b"bytes=%d-" % first, b"bytes=-%d" % last):
        part = read_range([value], length)
        if isinstance(part, Range):
            assert 0 <= part.first <= part.last < length


def test_content_range():
    assert content_range(Range(2, 4), 10) == b"bytes 2-4/10"
    assert content_range(Unsatisfiable(), 10) == b"bytes */10"
