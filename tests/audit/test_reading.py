"""Following a segment as it grows: what counts, what waits, and where it is broken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import GAP, HEAD, RECORD, frame, frames
from gatewayd.audit.reading import BrokenChain, Reader
from tests.support.evidence import somebody

SIGNER = somebody()


def segment():
    """A chain with an opening, and its bytes."""
    chain = Chain("calls-0", SIGNER, 6, b"p" * 32, 10)
    return chain, chain.open(1)


def read(data, signer=None):
    reader = Reader.of_segment(data, signer)
    return reader, reader.feed(data, reader.at)


def test_records_count_once_a_tip_stands_behind_them():
    chain, opening = segment()
    batch = chain.append([b"one", b"two"])
    reader, found = read(opening + batch, SIGNER)
    assert found == [b"one", b"two"]
    assert (reader.records, reader.at, reader.previous) == (12, len(opening + batch), chain.previous)
    assert (reader.ended, reader.lost) == (False, 0)
    assert reader.opening.segment == 7


@given(st.lists(st.integers(1, 400)))
def test_it_does_not_matter_in_which_pieces_a_segment_grows(cuts):
    chain, opening = segment()
    data = opening + chain.append([b"one" * 20, b"two"]) + chain.head(2) + chain.append([b"three"]) + chain.gap(3, 4)
    data += chain.append([b"four"]) + chain.head(4, end=True)
    reader = Reader.of_segment(data)
    found = []
    end = reader.at
    for cut in [*cuts, len(data)]:
        end = min(len(data), end + cut)
        found += reader.feed(data[reader.at : end])
    assert found == [b"one" * 20, b"two", b"three", b"four"]
    assert (reader.records, reader.lost, reader.ended, reader.at) == (18, 4, True, len(data))


def test_an_opening_that_is_not_whole_yet():
    _, opening = segment()
    assert Reader.of_segment(opening[:-1]) is None
    assert Reader.of_segment(b"") is None


@pytest.mark.parametrize(
    "data", [frame(RECORD, bytes(32), b"x"), frame(1, bytes(32), b"s" * 64 + b"?"), frame(1, bytes(32), b"")]
)
def test_what_is_no_opening(data):
    with pytest.raises(BrokenChain):
        Reader.of_segment(data)


def test_a_changed_record_breaks_it_there_and_what_counted_before_counts():
    chain, opening = segment()
    data = opening + chain.append([b"one"]) + chain.append([b"two", b"three"])
    reader = Reader.of_segment(data)
    with pytest.raises(BrokenChain, match="calls-0, segment 7, record 12") as caught:
        reader.feed(data.replace(b"two", b"TWO"), reader.at)
    assert caught.value.record == 12
    assert reader.records == 11


def test_a_tip_by_somebody_else_is_seen_with_the_key():
    chain, opening = segment()
    other = Chain("calls-0", somebody(), 7, chain.previous, 10)
    data = opening + other.append([b"one"])
    assert read(data)[1] == [b"one"]
    with pytest.raises(BrokenChain, match="record 11: it was not written by this gateway"):
        read(data, SIGNER)


def test_a_segment_of_a_key_before_is_only_followed():
    chain, opening = segment()
    assert read(opening + chain.append([b"one"]), somebody())[1] == [b"one"]


def test_a_head_must_count_what_there_is():
    chain, opening = segment()
    data = opening + chain.append([b"one"])
    chain.records += 1
    with pytest.raises(BrokenChain, match="the signed head counts other records"):
        read(data + chain.head(2))


def test_nothing_may_stand_behind_the_end():
    chain, opening = segment()
    data = opening + chain.head(1, end=True) + chain.append([b"one"])
    with pytest.raises(BrokenChain, match="behind the segment's end"):
        read(data)


def test_a_second_opening():
    chain, opening = segment()
    with pytest.raises(BrokenChain, match="a second opening"):
        read(opening + chain.open(2))


@pytest.mark.parametrize(("kind", "body"), [(GAP, b"?"), (HEAD, b"s" * 64 + b"\xa1"), (HEAD, b"short")])
def test_a_frame_that_cannot_be_read_says_where(kind, body):
    chain, opening = segment()
    data = opening + frame(kind, chain.previous, body)
    with pytest.raises(BrokenChain, match="calls-0, segment 7, record 11: a frame cannot be read"):
        read(data)


def test_every_frame_is_whole_or_waits():
    chain, opening = segment()
    data = opening + chain.append([b"one"])
    tip = list(frames(data))[-1]
    reader, found = read(data[: tip.end - 1])
    assert (found, reader.at) == ([], len(opening))
    assert reader.feed(data[reader.at :]) == [b"one"]
