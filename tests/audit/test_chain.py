"""A chain as it grows: each frame commits to the one before it, heads count, signatures hold."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import (
    BEGINNING,
    END,
    GAP,
    HEAD,
    OPENING,
    RECORD,
    SIGNATURE,
    SIGNED,
    TIP,
    Before,
    decode_head,
    decode_opening,
    digest,
    frames,
)
from gatewayd.audit.keys import is_signed
from tests.support.evidence import somebody

SIGNER = somebody()


def linked(data):
    """The frames, each of which must commit to the one before."""
    found = list(frames(data))
    assert found[-1].end == len(data)
    for before, after in itertools.pairwise(found):
        assert after.previous == digest(data[before.start : before.end])
    return found


def test_a_segment_from_opening_to_end():
    chain = Chain("calls-0", SIGNER)
    data = chain.open(1) + chain.append([b"one", b"two"]) + chain.head(2) + chain.append([b"three"])
    data += chain.head(3, end=True)
    found = linked(data)
    assert [each.kind for each in found] == [OPENING, RECORD, RECORD, TIP, HEAD, RECORD, TIP, END]
    assert found[0].previous == BEGINNING
    assert all(is_signed(SIGNER.public, each) for each in found if each.kind in SIGNED)
    assert [decode_head(each.body[SIGNATURE:]).records for each in (found[4], found[7])] == [2, 3]
    assert found[3].body == SIGNER.mac(found[3].previous)
    assert chain.previous == digest(data[found[-1].start :])


def test_an_opening_says_where_it_goes_on_from():
    chain = Chain("calls-0", SIGNER, 4, b"p" * 32, 17)
    (found,) = frames(chain.open(9, Before(4, 100, 5)))
    said = decode_opening(found.body[SIGNATURE:])
    assert found.previous == b"p" * 32
    assert (said.chain, said.segment, said.at, said.records, said.key) == ("calls-0", 5, 9, 17, SIGNER.id)
    assert said.before == Before(4, 100, 5)


def test_a_gap_counts_what_is_lost():
    chain = Chain("calls-0", SIGNER)
    data = chain.open(1) + chain.append([b"one"]) + chain.gap(2, 5) + chain.append(())
    assert [each.kind for each in linked(data)] == [OPENING, RECORD, TIP, GAP, TIP]
    assert chain.records == 6


@given(st.lists(st.lists(st.binary(max_size=20), max_size=4), max_size=6))
def test_whatever_is_appended_stays_linked_and_counted(batches):
    chain = Chain("calls-0", SIGNER)
    data = chain.open(1)
    for batch in batches:
        data += chain.append(batch) + chain.head(2)
    assert [each.body for each in linked(data) if each.kind == RECORD] == [each for batch in batches for each in batch]
    assert chain.records == sum(map(len, batches))
