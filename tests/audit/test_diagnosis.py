"""What digests, signatures and counts tell of what was done to a segment; whole attacks: `test_verify_attacks`."""

from __future__ import annotations

from gatewayd.audit.chain import Chain
from gatewayd.audit.diagnosis import Goal, judge
from gatewayd.audit.following import Following
from gatewayd.audit.frames import RECORD, SIGNATURE, decode_opening, frame, frames
from gatewayd.audit.trust import Trust
from tests.support.evidence import relinked, somebody

SIGNER = somebody()
TRUST = Trust({SIGNER.id: SIGNER.public})


def made(end=True):
    """A segment of four records, two of them behind its last head; its goal."""
    chain = Chain("calls-0", SIGNER)
    data = chain.open(1) + chain.append([b"one", b"two"]) + chain.head(2) + chain.append([b"three", b"four"])
    if end:
        data += chain.head(3, end=True)
    return data, Goal(4, chain.previous, None if end else len(data))


def judged(data, goal=None, signer=None):
    opening = next(frames(data))
    followed = Following(data, opening, decode_opening(opening.body[SIGNATURE:]), TRUST, signer)
    return judge(followed.run(goal.size if goal else None), goal)


def pieces_of(data):
    return [data[each.start : each.end] for each in frames(data)]


def test_what_is_right_is_right():
    for end in (True, False):
        data, goal = made(end)
        assert judged(data, goal) is None
        assert judged(data) is None


def test_behind_the_last_head_the_next_segment_counts():
    data, goal = made(end=False)
    pieces = pieces_of(data)
    del pieces[5]  # record 4 would stand behind: the tip no longer fits
    found = judged(b"".join(pieces), goal)
    assert (found.kind, found.record) == ("removed", 3)
    found = judged(b"".join(relinked(pieces)) + bytes(len(data)), goal)
    assert found.kind in ("removed", "changed")
    assert found.record == 3


def test_the_same_size_with_other_records_in_it():
    data, goal = made(end=False)
    pieces = pieces_of(data)
    pieces[-3] = pieces[-3].replace(b"three", b"THREE")
    found = judged(b"".join(relinked(pieces)), goal)
    assert (found.kind, found.record, found.last) == ("forged", 3, 4)


def test_too_short_for_what_counts():
    data, goal = made(end=False)
    found = judged(data[: -len(pieces_of(data)[-1])], goal)
    assert (found.kind, found.record, found.text) == ("truncated", 4, "the segment's end is missing, but no record")


def test_what_was_left_behind_must_be_what_it_was():
    data, goal = made(end=False)
    assert judged(data + b"rest", goal._replace(dropped=4)) is None
    assert judged(data + b"rest", goal).kind == "changed"
    assert judged(data, goal._replace(dropped=4)).kind == "changed"


def test_something_signed_among_what_was_left_behind():
    data, goal = made(end=False)
    chain = Chain("calls-0", SIGNER, 1, b"q" * 32, 9)
    more = frame(RECORD, b"q" * 32, b"x") + chain.head(5) + b"\0\0"
    found = judged(data + more, goal._replace(dropped=len(more)))
    assert (found.kind, found.record) == ("changed", 5)
    more = chain.append([b"x"])
    assert judged(data + more, goal._replace(dropped=len(more))) is None
    assert judged(data + more, goal._replace(dropped=len(more)), SIGNER).record == 5


def test_an_end_in_the_guise_of_a_record():
    data, _ = made()
    last = list(frames(data))[-1]
    found = judged(data[: last.start + 4] + b"\2" + data[last.start + 5 :])
    assert (found.kind, found.record) == ("changed", 4)


def test_a_tip_in_the_guise_of_a_record_is_seen_with_the_key():
    data, _ = made(end=False)
    last = list(frames(data))[-1]
    turned = data[: last.start + 4] + b"\2" + data[last.start + 5 :]
    assert judged(turned) is None
    assert judged(turned, signer=SIGNER).kind == "changed"


def test_a_segment_of_another_past():
    data, goal = made()
    assert judged(data, goal._replace(digest=b"q" * 32)).kind == "segment moved"


def test_with_the_key_a_forgery_is_narrowed_down_to_a_write():
    chain = Chain("calls-0", SIGNER)
    data = chain.open(1) + chain.append([b"one"]) + chain.append([b"two", b"2"]) + chain.append([b"three"])
    data += chain.head(2, end=True)
    pieces = pieces_of(data)
    pieces[3] = pieces[3].replace(b"two", b"TWO")
    changed = b"".join(relinked(pieces))
    assert judged(changed).record == 1
    found = judged(changed, signer=SIGNER)
    assert (found.record, found.kind) == (2, "forged")
