"""Frames: what they are made of, and that nothing else is taken for one."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.audit.frames import (
    BEGINNING,
    CONTEXT,
    END,
    GAP,
    HEAD,
    HEADER,
    KINDS,
    LARGEST,
    OPENING,
    RECORD,
    SIGNED,
    TIP,
    UNREADABLE,
    Before,
    Frame,
    Gap,
    Head,
    Opening,
    decode_gap,
    decode_head,
    decode_opening,
    digest,
    frame,
    frames,
    signed_text,
)


def test_a_frame_byte_by_byte():
    made = frame(RECORD, b"p" * 32, b"body")
    assert made == b"\0\0\0\x25\x02" + b"p" * 32 + b"body"
    assert HEADER == 37
    assert digest(made) == hashlib.sha256(made).digest()


@given(st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.binary(min_size=32, max_size=32), st.binary(max_size=80))))
def test_frames_are_read_as_they_were_made(made):
    data = b"".join(frame(*each) for each in made)
    found = list(frames(data))
    assert [(each.kind, each.previous, each.body) for each in found] == made
    assert b"".join(data[each.start : each.end] for each in found) == data


@given(st.binary(max_size=300), st.integers(0, 40))
def test_anything_else_is_none_and_ends_it(data, cut):
    first = frame(TIP, BEGINNING, b"m" * 16)
    found = list(frames(first + data))
    assert found[0] == Frame(TIP, BEGINNING, b"m" * 16, 0, len(first))
    assert all(each.end <= len(first) + len(data) for each in found)
    assert list(frames(first[:-1][:cut])) == []


@pytest.mark.parametrize("kind", [0, 7, 255])
def test_an_unknown_kind_is_no_frame(kind):
    assert list(frames(frame(kind, BEGINNING, b""))) == []


def test_a_length_that_cannot_be_is_no_frame():
    short = (32).to_bytes(4, "big") + frame(RECORD, BEGINNING, b"")[4:]
    assert list(frames(short)) == []
    assert list(frames((LARGEST + 1).to_bytes(4, "big") + bytes(LARGEST + 1))) == []


def test_reading_goes_on_where_it_is_told():
    one, two = frame(RECORD, BEGINNING, b"1"), frame(GAP, BEGINNING, b"2")
    (found,) = frames(one + two, len(one))
    assert (found.kind, found.start, found.end) == (GAP, len(one), len(one + two))


def test_what_is_signed_says_its_kind_and_place():
    assert signed_text(HEAD, b"p" * 32, b"said") == CONTEXT + b"\4" + b"p" * 32 + b"said"
    assert {OPENING, HEAD, END} == set(SIGNED)


def test_what_frames_say_is_read_back():
    opening = Opening("calls-0", 3, 1, 2, "key", Before(2, 100, 3))
    assert decode_opening(msgspec.msgpack.encode(opening)) == opening
    assert decode_head(msgspec.msgpack.encode(Head(1, 2))) == Head(1, 2)
    assert decode_gap(msgspec.msgpack.encode(Gap(1, 2))) == Gap(1, 2)


@given(st.binary(max_size=60))
def test_what_cannot_be_read_raises_what_is_unreadable(data):
    for decode in (decode_opening, decode_head, decode_gap):
        try:
            decode(data)
        except UNREADABLE:
            continue


def test_a_text_that_is_none_is_unreadable():
    broken = msgspec.msgpack.encode(Opening("calls-0", 1, 1, 0, "key")).replace(b"key", b"\xff\xfe\xfd", 1)
    broken = broken.replace(b"calls-0", b"\xff\xfe\xfd\xfc\xfb\xfa\xf9")
    with pytest.raises(UNREADABLE):
        decode_opening(broken)
