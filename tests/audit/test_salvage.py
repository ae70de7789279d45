"""Finding frames again behind what is damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import END, GAP, HEAD, OPENING, RECORD, TIP, Frame, frames
from gatewayd.audit.salvage import Whole, is_cut, mended, wholes
from tests.support.evidence import somebody

SIGNER = somebody()


def made():
    """A segment with every kind of frame."""
    chain = Chain("calls-0", SIGNER)
    data = chain.open(1) + chain.append([b"one", b"two " * 30]) + chain.head(2) + chain.gap(3, 7) + chain.append(())
    return data + chain.append([b"three"]) + chain.head(4, end=True)


DATA = made()
FRAMES = list(frames(DATA))


def test_all_frames_of_what_is_whole():
    found = list(wholes(DATA, 0, len(DATA)))
    assert [each.frame for each in found] == FRAMES
    assert [each.records for each in found] == [0, 1, 1, 0, 0, 7, 0, 1, 0, 0]
    assert [each.said for each in found if each.frame.kind in (HEAD, END)] == [2, 10]
    assert found[0].said is None


@given(st.binary(min_size=1, max_size=60), st.integers(1, len(FRAMES) - 2))
def test_frames_behind_what_is_damaged(damage, index):
    hit = FRAMES[index]
    data = DATA[: hit.start] + damage + DATA[hit.end :]
    found = list(wholes(data, 0, len(data)))
    shift = len(data) - len(DATA)
    behind = [(each.start + shift, each.kind) for each in FRAMES[index + 1 :]]
    # a frame that only its successor vouches for may be taken to be a part of the damage
    assert set(behind[1:]) <= {(each.frame.start, each.frame.kind) for each in found}


def test_nothing_is_found_where_nothing_is():
    assert list(wholes(b"\0" * 100, 0, 100)) == []
    assert list(wholes(b"", 0, 0)) == []


def test_said_and_counted_of_what_cannot_be_read():
    assert Whole(Frame(HEAD, bytes(32), b"s" * 64 + b"?", 0, 0), b"").said is None
    assert Whole(Frame(GAP, bytes(32), b"???", 0, 0), b"").records == 0


@pytest.mark.parametrize("place", range(5))
def test_a_changed_length_or_kind_is_mended(place):
    for hit in FRAMES[1:-1]:
        for mask in (1, 0x40):
            at = hit.start + place
            data = DATA[:at] + bytes([DATA[at] ^ mask]) + DATA[at + 1 :]
            found, behind = mended(data, hit.start)
            if behind is None:  # the frame behind it is not vouched for by another one
                continue
            assert (found.kind, found.body, found.end) == (hit.kind, hit.body, hit.end)


def test_what_is_last_is_taken_to_the_end():
    last = FRAMES[-1]
    found, behind = mended(DATA[: last.start + 3] + b"\0" + DATA[last.start + 4 :], last.start)
    assert behind is None
    assert (found.body, found.end) == (last.body, len(DATA))


@pytest.mark.parametrize("hit", FRAMES[1:])
def test_every_beginning_of_a_frame_is_what_a_cut_off_write_leaves(hit):
    whole = DATA[hit.start : hit.end]
    for size in range(len(whole)):
        assert is_cut(whole[:size], hit.previous), size
    assert not is_cut(whole, hit.previous)


def test_an_openings_beginning_stands_first_only():
    opening = FRAMES[0]
    whole = DATA[: opening.end]
    for size in range(len(whole)):
        assert is_cut(whole[:size], None)
        assert size < 5 or is_cut(whole[:size], bytes(32)) is False
    assert not is_cut(DATA[FRAMES[1].start : FRAMES[1].start + 20], None)


@pytest.mark.parametrize("rest", [b"more", b"\0\0\0\x31\x09", b"\0\0\0\x25\2" + b"q" * 32, b"\0\0\1\0\3" + b"p" * 32])
def test_what_no_write_leaves(rest):
    assert not is_cut(rest, b"p" * 32)


def test_zeros_are_left_by_a_machine_that_stops():
    assert is_cut(bytes(4096), b"p" * 32)
    assert is_cut(b"", None)


def test_kinds_are_told_apart():
    assert [each.kind for each in FRAMES] == [OPENING, RECORD, RECORD, TIP, HEAD, GAP, TIP, RECORD, TIP, END]
