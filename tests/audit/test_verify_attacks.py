"""What somebody who has the files, but not the key, can do to them: each is found, and the first bad record named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import END, RECORD, digest
from gatewayd.audit.verify import verify
from tests.support.evidence import BEGAN, SECOND, Bench, call, only_files, record_at, relinked, somebody

SHAPE = [[3, 2], [2, 3], [4]]
"""Records 1 to 5, 6 to 10, 11 to 14."""
FIRST = {1: 1, 2: 6, 3: 11}


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    made.write(SHAPE)
    return made


@pytest.fixture(params=["public key", "private key"])
def first(bench, request):
    """What is found first with the auditor's key, and with the gateway's own; nothing else may be."""

    def look(**options):
        signer = bench.signer if request.param == "private key" else None
        (found, *_) = bench.verify(keys=only_files(bench), signer=signer, **options).findings
        return found

    return look


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("whole"))
    made.write(SHAPE)
    return made


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_anywhere(whole, data):
    number = data.draw(st.integers(1, 3))
    path = whole.path(number)
    before = path.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    mask = data.draw(st.integers(1, 255))
    signer = data.draw(st.sampled_from([None, whole.signer]))
    frames = whole.frames(number)
    hit = next(each for each in frames if each.start <= at < each.end)
    records = sum(each.kind == RECORD for each in frames if each.start <= at)
    path.write_bytes(before[:at] + bytes([before[at] ^ mask]) + before[at + 1 :])
    try:
        report = verify(whole.state, keys=only_files(whole), signer=signer)
    finally:
        path.write_bytes(before)
    (found,) = report.findings
    expected = FIRST[number] + max(records, 1) - 1
    assert (found.chain, found.segment) == ("calls-0", number)
    if hit.kind == END:  # behind it stands nothing that could tell its change from that of what it signs
        assert found.kind in ("changed", "forged", "removed", "inserted")
        assert expected <= found.record <= expected + 1
    else:
        assert (found.kind, found.record) == ("changed", expected)


@pytest.mark.parametrize("number", range(1, 6))
def test_a_removed_record(bench, first, number):
    bench.rewrite(1, lambda pieces: without(pieces, number))
    found = first()
    assert (found.segment, found.record, found.last, found.kind) == (1, number, number, "removed")
    if number > 1:
        assert (found.request_id, found.at, found.before) == (f"req-{number - 1}", (BEGAN + number - 1) * SECOND, True)


def test_several_removed_records(bench, first):
    bench.rewrite(2, lambda pieces: without(without(pieces, 3), 3))
    found = first()
    assert (found.segment, found.record, found.last, found.kind) == (2, 8, 9, "removed")


@pytest.mark.parametrize(("number", "since", "until"), [(1, 1, 3), (3, 1, 3), (4, 4, 5), (5, 4, 5)])
def test_a_removed_record_with_digests_made_to_fit(bench, first, number, since, until):
    bench.rewrite(1, lambda pieces: relinked(without(pieces, number)))
    found = first()
    assert (found.segment, found.record, found.last, found.kind) == (1, since, until, "removed")


def test_a_changed_record_with_digests_made_to_fit(bench, first):
    def change(pieces):
        at = record_at(pieces, 4)
        return relinked([*pieces[:at], pieces[at].replace(b"req-9", b"req-X"), *pieces[at + 1 :]])

    bench.rewrite(2, change)
    found = first()
    assert (found.segment, found.record, found.last, found.kind) == (2, 8, 10, "forged")


def test_an_inserted_record_with_digests_made_to_fit(bench, first):
    bench.rewrite(2, lambda pieces: relinked([*pieces[:2], pieces[1], *pieces[2:]]))
    found = first()
    assert (found.segment, found.record, found.last, found.kind) == (2, 6, 8, "inserted")


def test_a_record_that_stands_there_twice(bench, first):
    bench.rewrite(2, lambda pieces: [*pieces[:2], pieces[1], *pieces[2:]])
    found = first()
    assert (found.segment, found.record, found.kind) == (2, 7, "inserted")


def test_something_else_between_two_records(bench, first):
    bench.rewrite(2, lambda pieces: [*pieces[:2], b"something else", *pieces[2:]])
    found = first()
    assert (found.segment, found.record, found.kind) == (2, 7, "inserted")


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (1, 5), (4, 5)])
def test_reordered_records(bench, first, one, other):
    def swap(pieces):
        at, to = record_at(pieces, one), record_at(pieces, other)
        pieces[at], pieces[to] = pieces[to], pieces[at]
        return pieces

    bench.rewrite(1, swap)
    found = first()
    assert (found.segment, found.record, found.kind) == (1, one, "reordered")
    assert found.request_id == f"req-{other}"


@pytest.mark.parametrize(("number", "since", "until"), [(1, 1, 5), (2, 6, 10)])
def test_a_removed_segment(bench, first, number, since, until):
    bench.path(number).unlink()
    found = first()
    assert (found.segment, found.record, found.last, found.kind) == (number, since, until, "segment removed")


@pytest.mark.parametrize("number", [1, 2])
def test_an_emptied_segment(bench, first, number):
    bench.path(number).write_bytes(b"")
    found = first()
    assert (found.segment, found.record, found.kind) == (number, FIRST[number], "truncated")


def test_reordered_segments(bench, first):
    one, other = bench.path(1), bench.path(2)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    found = first()
    assert (found.segment, found.record, found.kind) == (1, 1, "segment moved")


def test_a_segment_of_the_chain_once_more(bench, first):
    bench.path(4).write_bytes(bench.path(2).read_bytes())
    found = first()
    assert (found.segment, found.record, found.kind) == (4, 15, "segment moved")


def test_a_segment_of_another_chain(bench, first):
    bench.write(SHAPE, "calls-1")
    bench.path(2).write_bytes(bench.path(2, "calls-1").read_bytes())
    found = first()
    assert (found.chain, found.segment, found.record, found.kind) == ("calls-0", 2, 6, "segment moved")


def test_swapped_chains(bench, first):
    bench.write([[1]], "calls-1")
    aside = bench.state / "aside"
    bench.folder().rename(aside)
    bench.folder("calls-1").rename(bench.folder())
    aside.rename(bench.folder("calls-1"))
    found = first()
    assert (found.chain, found.segment, found.record, found.kind) == ("calls-0", 1, 1, "segment moved")


def test_the_end_of_a_segment_cut_off_at_every_byte(whole):
    path = whole.path(2)
    before = path.read_bytes()
    frames = whole.frames(2)
    try:
        for size in range(0, len(before), 3):
            path.write_bytes(before[:size])
            found = verify(whole.state, keys=only_files(whole)).findings[0]
            left = sum(each.kind == RECORD for each in frames if each.end <= size)
            # cut in an opening: nothing of it counts; only the end is missing: no record is
            assert (found.segment, found.kind) == (2, "truncated")
            assert found.record == (min(6 + left, 10) if size >= frames[0].end else 6), size
    finally:
        path.write_bytes(before)


def test_the_end_of_a_segment_that_a_crash_left_cut_off(tmp_path):
    bench = Bench(tmp_path)
    chain = bench.write([[3]], end=False)
    bench.more(chain, 2)
    bench.write([[1]])
    path = bench.path(1)
    whole, frames = path.read_bytes(), bench.frames(1)
    for cut in (1, 40, 53, 54, 200):
        path.write_bytes(whole[:-cut])
        left = sum(each.kind == RECORD for each in frames if each.end <= len(whole) - cut)
        found = bench.first(keys=only_files(bench))
        assert (found.segment, found.kind, found.record) == (1, "truncated", min(left + 1, 5)), cut


def behind(bench, number):
    """The digest of a segment's last frame."""
    data = bench.path(number).read_bytes()
    last = bench.frames(number)[-1]
    return digest(data[last.start : last.end])


def test_a_continuation_by_somebody_with_another_key(tmp_path):
    bench = Bench(tmp_path)
    bench.write([[3], [4]], end=False)
    bench.more(Chain("calls-0", somebody(), 2, behind(bench, 2), 7), 2, head=True)
    for signer in (None, bench.signer):
        found = bench.first(keys=only_files(bench), signer=signer)
        assert (found.segment, found.record, found.last, found.kind) == (2, 8, 9, "forged")
        assert found.request_id == "req-8"


def test_a_continuation_without_a_signature_is_proven_by_nobody_but_the_gateway(tmp_path):
    bench = Bench(tmp_path)
    bench.write([[3], [4]], end=False)
    bench.more(Chain("calls-0", somebody(), 2, behind(bench, 2), 7), 2)
    report = bench.verify(keys=only_files(bench))
    assert (report.fine, report.chains[-1].signed, report.chains[-1].unsigned) == (True, 7, 2)
    found = bench.first(signer=bench.signer)
    assert (found.segment, found.record, found.last, found.kind) == (2, 8, 9, "forged")


@pytest.mark.parametrize("known", [False, True])
def test_a_segment_by_somebody_with_another_key(bench, first, known):
    other = somebody()
    if known:  # it says it were the gateway's
        other.id = bench.signer.id
    chain = Chain("calls-0", other, 3, behind(bench, 3), 14)
    bench.path(4).write_bytes(chain.open(1) + chain.append([call(15)]) + chain.head(2, end=True))
    found = first()
    assert (found.segment, found.record, found.kind) == (4, 15, "forged")


def test_a_signed_segment_of_another_past(bench, first):
    """Whoever can run the gateway on an old copy gets segments that are signed, but not those of this chain."""
    copies = {number: bench.path(number).read_bytes() for number in (2, 3)}
    for number in copies:
        bench.path(number).unlink()
    bench.write([[5]])
    other = bench.path(2).read_bytes()
    bench.path(3).write_bytes(copies[3])
    bench.path(2).write_bytes(other)
    found = first()
    assert found.segment == 2
    assert found.record == 6


def test_something_behind_the_end(bench, first):
    bench.path(3).write_bytes(bench.path(3).read_bytes() + b"more")
    found = first()
    assert (found.segment, found.record, found.kind) == (3, 15, "inserted")


def test_records_that_a_restart_was_made_to_leave_behind(tmp_path):
    """A changed tip has the next process go on from before it: what was signed behind is still there, and shown."""
    bench = Bench(tmp_path)
    bench.write([[3, 2]], end=False)
    data = bench.path(1).read_bytes()
    tip = [each for each in bench.frames(1) if each.kind == 3][1]
    bench.path(1).write_bytes(data[: tip.end - 1] + b"?" + data[tip.end :])
    bench.write([[1]])
    found = bench.first(keys=only_files(bench))
    assert (found.segment, found.record, found.kind) == (1, 4, "changed")


def test_every_segment_that_is_bad_is_named_once(bench):
    for number in (1, 3):
        bench.rewrite(number, lambda pieces: without(pieces, 2))
    found = bench.verify().findings
    assert [(each.segment, each.record) for each in found] == [(1, 2), (3, 12)]


def without(pieces, number):
    """The pieces of a segment without one record."""
    at = record_at(pieces, number)
    return [*pieces[:at], *pieces[at + 1 :]]
