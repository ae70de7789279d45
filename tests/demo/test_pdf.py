"""The archive is a PDF whose table of places is true, readable from any byte to any other."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.demo.pdf import HEIGHT, WIDTH, Pdf

SMALL = Pdf(123, 3)
WHOLE = b"".join(SMALL.read(0, SMALL.size))


def test_size_is_known_before_anything_is_made():
    assert len(WHOLE) == SMALL.size


def test_the_default_is_about_fifty_megabytes():
    assert 50_000_000 < Pdf(1).size < 55_000_000


def test_every_place_in_the_table_holds_its_object():
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", WHOLE)[1])
    assert WHOLE[start:].startswith(b"xref\n0 13\n")
    places = re.findall(rb"(\d{10}) 00000 n \n", WHOLE[start:])
    assert len(places) == 12
    for number, place in enumerate(places, 1):
        assert re.match(rb"0*%d 0 obj\n" % number, WHOLE[int(place) :])


def test_streams_are_as_long_as_they_say():
    streams = re.findall(rb"/Length (\d+) >>\nstream\n(.*?)\nendstream\nendobj\n", WHOLE, re.DOTALL)
    assert len(streams) == 6
    assert all(len(data) == int(length) for length, data in streams)
    assert len(streams[1][1]) == WIDTH * HEIGHT


def test_pages_differ_and_say_which_they_are():
    assert [f"sheet {page} of 3".encode() in WHOLE for page in (1, 2, 3)] == [True] * 3
    assert SMALL._scan(0) != SMALL._scan(1)


@given(st.integers(0, SMALL.size), st.integers(0, SMALL.size))
def test_any_range_is_that_part_of_the_whole(one, other):
    start, stop = sorted((one, other))
    assert b"".join(SMALL.read(start, stop)) == WHOLE[start:stop]
