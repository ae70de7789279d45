"""What was made invalid, over workers."""

from __future__ import annotations

from gatewayd.cache.stamps import ROWS, Stamps
from gatewayd.core.arena import Arena

SIZE = 1 << 24


def test_a_change_is_seen_by_all():
    arena = Arena(size=SIZE)
    ours, theirs = Stamps(arena, 0, 8), Stamps(arena, 7, 8)
    row = ours.row(b"host", b"/a", None)
    assert theirs.row(b"host", b"/a", None) == row
    before = ours.read(row)
    theirs.change(row)
    ours.change(row)
    assert ours.read(row) == theirs.read(row) == before + 2


def test_rows_do_not_touch_each_other():
    stamps = Stamps(None, 3, 4)
    rows = {stamps.row(b"h", b"/%d" % n, None) for n in range(500)}
    assert len(rows) > 450
    assert all(row % 4 == 0 and row < ROWS * 4 for row in rows)
    for row in rows:
        stamps.change(row)
    assert {stamps.read(row) for row in rows} == {1}


def test_uris_are_told_apart():
    stamps = Stamps(None)
    uris = [(b"h", b"/a", None), (b"h", b"/a", b""), (b"h", b"/a", b"-"), (b"h/", b"a", None), (b"h", b"/a-", None)]
    assert len({stamps.row(*uri) for uri in uris}) == len(uris)


def test_nobody_outside_can_tell_which_uris_share_a_row():
    uris = [b"/%d" % number for number in range(50)]
    one, other = Stamps(Arena(size=SIZE)), Stamps(Arena(size=SIZE))
    assert [one.row(b"h", uri, None) for uri in uris] != [other.row(b"h", uri, None) for uri in uris]
