"""Following a segment: what is proven, what counts, and why it stops."""

from __future__ import annotations

import pytest

from gatewayd.audit.chain import Chain
from gatewayd.audit.following import Following, Point
from gatewayd.audit.frames import GAP, HEAD, RECORD, SIGNATURE, TIP, decode_opening, digest, frame, frames
from gatewayd.audit.report import Lost
from gatewayd.audit.trust import Trust
from tests.support.evidence import somebody

SIGNER = somebody()
TRUST = Trust({SIGNER.id: SIGNER.public})


def begun():
    chain = Chain("calls-0", SIGNER, 2, b"p" * 32, 10)
    return chain, chain.open(1)


def follow(data, signer=None, **options):
    opening = next(frames(data))
    said = decode_opening(opening.body[SIGNATURE:])
    return Following(data, opening, said, TRUST, signer).run(**options)


def test_what_is_signed_is_proven_and_what_has_a_tip_counts():
    chain, data = begun()
    data += chain.append([b"one", b"two"]) + chain.head(2)
    signed = Point(len(data), chain.previous, 12)
    data += chain.append([b"three"])
    counting = Point(len(data), chain.previous, 13)
    data += frame(RECORD, chain.previous, b"four")
    found = follow(data)
    assert (found.signed, found.counting) == (signed, counting)
    assert (found.here.at, found.here.records, found.stop) == (len(data), 14, "")
    assert (found.first, found.ended) == (11, False)


def test_an_end_is_the_end():
    chain, data = begun()
    data += chain.append([b"one"]) + chain.head(2, end=True)
    found = follow(data)
    assert (found.stop, found.ended, found.signed.records) == ("", True, 11)
    assert follow(data + b"more").stop == "end"


def test_it_can_be_followed_up_to_a_place_and_on_from_there():
    chain, data = begun()
    data += chain.append([b"one"])
    size = len(data)
    data += chain.append([b"two"]) + chain.head(2, end=True)
    found = follow(data, limit=size)
    assert (found.here.records, found.stop) == (11, "")
    assert follow(data, limit=size + 3).stop == "shape"
    assert (found.run().here.records, found.stop) == (12, "")
    assert (found.run().here.records, found.stop) == (12, "")


def test_what_is_proven_is_handed_on_as_it_gets_so():
    chain, data = begun()
    data += chain.append([b"one", b"two"]) + chain.head(2) + chain.append([b"three"]) + chain.head(3)
    data += chain.append([b"four"])
    kept = []
    follow(data, keep=kept.append)
    assert kept == [[b"one", b"two"], [b"three"]]


def test_known_digests_are_met():
    chain, data = begun()
    data += chain.append([b"one"]) + chain.head(2)
    known = {chain.previous, b"q" * 32}
    follow(data + chain.append([b"two"]), known=known)
    assert known == {b"q" * 32}


def test_gaps_count():
    chain, data = begun()
    data += chain.append([b"one"]) + chain.gap(7, 5) + chain.append(()) + chain.head(8)
    found = follow(data)
    assert (found.lost, found.signed.records) == ([Lost(3, 12, 5, 7)], 16)


@pytest.mark.parametrize(
    ("stop", "more"),
    [
        ("shape", lambda chain: b"\0\0\0"),
        ("shape", lambda chain: frame(9, chain.previous, b"")),
        ("link", lambda chain: frame(RECORD, b"q" * 32, b"two")),
        ("content", lambda chain: frame(GAP, chain.previous, b"?")),
        ("content", lambda chain: frame(TIP, chain.previous, b"short")),
        ("content", lambda chain: frame(HEAD, chain.previous, SIGNER.body(HEAD, chain.previous, b"\xa1"))),
        ("signature", lambda chain: frame(HEAD, chain.previous, b"s" * 64 + b"\x92\1\x0b")),
        ("signature", lambda chain: Chain("calls-0", somebody(), 3, chain.previous, 11).head(2)),
        ("opening", lambda chain: chain.open(2)),
        ("count", lambda chain: Chain("calls-0", SIGNER, 3, chain.previous, 12).head(2)),
    ],
)
def test_why_it_stops(stop, more):
    chain, data = begun()
    data += chain.append([b"one"])
    behind = Point(len(data), chain.previous, 11)
    found = follow(data + more(chain))
    assert (found.stop, found.here) == (stop, behind)


def test_macs_are_checked_with_the_key_that_made_them_only():
    chain, data = begun()
    other = Chain("calls-0", somebody(), 3, chain.previous, 10)
    data += other.append([b"one"])
    assert follow(data).stop == ""
    assert follow(data, SIGNER).stop == "mac"
    assert follow(data, somebody()).stop == ""


def test_an_opening_is_where_it_begins():
    _, data = begun()
    found = follow(data)
    assert found.here == found.signed == found.counting == Point(len(data), digest(data), 10)
