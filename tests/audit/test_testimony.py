"""What the chain of actions says of chains."""

from __future__ import annotations

import msgspec

from gatewayd.audit import testimony
from gatewayd.audit.actions import ANCHOR, KEY, RETIRE, Action, Mark, Retired
from gatewayd.audit.trust import Trust
from tests.support.evidence import somebody


def said(action, target="", after=None):
    return msgspec.msgpack.encode(Action(1, action, "me", target, None, after))


def test_the_last_mark_of_a_segment_counts_beside_those_from_outside():
    heard = testimony.Testimony(Trust({}))
    one, two, other = Mark("a", 1, 3, b"1"), Mark("a", 1, 5, b"2"), Mark("a", 2, 9, b"3")
    outside = Mark("a", 1, 4, b"4")
    heard.hear([said(ANCHOR, after=[one]), said(ANCHOR, after=[two])])
    heard.add(outside)
    assert heard.marks("a", 1) == [outside, two]
    assert heard.latest("a") == two
    heard.hear([said(ANCHOR, after=[other])])
    assert (heard.latest("a"), heard.latest("b"), heard.marks("b", 1)) == (other, None, [])
    heard.add(Mark("b", 1, 1, b"5"))
    assert heard.chains() == {"a", "b"}


def test_what_retention_took():
    heard = testimony.Testimony(Trust({}))
    gone = Retired(1, 1, 5, bytes(32), b"d" * 32)
    heard.hear([said(RETIRE, "a", [gone])])
    assert heard.retired == {("a", 1): gone}
    assert heard.chains() == {"a"}


def test_keys_that_came():
    trust, other = Trust({}), somebody()
    testimony.Testimony(trust).hear([said(KEY, other.id, other.public.public_bytes_raw())])
    assert trust.ids == [other.id]


def test_what_says_nothing_readable_says_nothing():
    trust = Trust({})
    heard = testimony.Testimony(trust)
    heard.hear([b"?", said(ANCHOR, after=3), said(RETIRE, after=[["x"]]), said(KEY, after=b"short"), said("keys.new")])
    heard.hear([said(KEY, after="text"), b"\x92\x01\xa2\xff\xfe"])
    assert (trust.ids, heard.chains(), heard.retired) == ([], set(), {})
