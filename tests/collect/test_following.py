from __future__ import annotations

import logging

import pytest

from gatewayd.audit.frames import TIP, Before, digest, frame
from gatewayd.audit.reading import BrokenChain
from gatewayd.audit.record import decode_call
from gatewayd.collect import following
from gatewayd.collect.following import START as BEGINNING
from gatewayd.collect.following import Follower

from .spooled import Spooled, call, encode


@pytest.fixture
def spooled(tmp_path):
    """A chain."""
    return Spooled(tmp_path)


def follower(spooled, position=BEGINNING, signer=True):
    """What reads it."""
    return Follower(spooled.folder, spooled.signer if signer else None, position)


def read(of):
    """All there is at present: numbers and status of its calls."""
    found = []
    while (piece := of.read()) is not None:
        found += [
            (int(number), decode_call(body).status) for number, body in zip(piece.numbers, piece.bodies, strict=True)
        ]
    return found


def test_an_open_segment_grows(spooled):
    of = follower(spooled)
    assert read(of) == []
    spooled.add(call(status=201), call(status=202))
    assert read(of) == [(1, 201), (2, 202)]
    spooled.put(spooled.chain.head(1))
    assert read(of) == []
    spooled.add(call(status=203))
    assert read(of) == [(3, 203)]


def test_what_has_no_tip_does_not_count_yet(spooled):
    spooled.add(call())
    of = follower(spooled)
    assert len(read(of)) == 1
    data = spooled.chain.append([encode(call(status=404))])
    spooled.put(data[:-20])
    assert read(of) == []
    spooled.put(data[-20:])
    assert read(of) == [(2, 404)]


def test_segments_follow_one_another(spooled):
    of = follower(spooled)
    for status in (200, 201, 202):
        spooled.add(call(status=status))
        spooled.turn()
    assert read(of) == [(1, 200), (2, 201), (3, 202)]
    assert (of.position.segment, of.position.records) == (4, 3)


def test_from_any_position_the_rest_is_the_same(spooled, monkeypatch):
    for number in range(12):
        spooled.add(call(status=200 + number))
        if number % 4 == 3:
            spooled.turn()
    monkeypatch.setattr(following, "PIECE", 1)
    first = follower(spooled)
    for number in range(12):
        again = follower(spooled, first.position)
        assert read(again) == [(rest + 1, 200 + rest) for rest in range(number, 12)]
        assert len(first.read().bodies) == 1


def test_piece_by_piece(spooled, monkeypatch):
    """However little is read at once, even less than a record."""
    for number in range(30):
        spooled.add(*[call(status=200 + number)] * (number % 4 + 1))
    whole = read(follower(spooled))
    assert len(whole) == sum(number % 4 + 1 for number in range(30))
    for size in (1, 100, 1000, 5000):
        monkeypatch.setattr(following, "PIECE", size)
        of = follower(spooled)
        assert read(of) == whole
        assert of.behind() == 0


def test_what_a_crash_left_behind_the_last_tip_is_passed_by(spooled):
    spooled.add(call(status=201))
    size = spooled.path.stat().st_size
    chain = spooled.chain
    left = frame(2, chain.previous, b"never acknowledged")
    spooled.put(left[:-3])
    of = follower(spooled)
    assert read(of) == [(1, 201)]
    assert of.behind() == len(left) - 3
    spooled.open(Before(1, size, len(left) - 3))
    spooled.add(call(status=202))
    assert read(of) == [(2, 202)]


def test_a_segment_that_was_cut_off_in_its_opening(spooled):
    spooled.add(call(status=201))
    of = follower(spooled)
    read(of)
    previous, size = spooled.chain.previous, spooled.path.stat().st_size
    spooled.open()
    spooled.path.write_bytes(spooled.path.read_bytes()[:50])
    assert read(of) == []
    spooled.chain.previous = previous
    spooled.open(Before(1, size))
    spooled.add(call(status=202))
    assert read(of) == [(2, 202)]
    assert read(follower(spooled)) == [(1, 201), (2, 202)]


def test_gaps_have_numbers_too(spooled):
    spooled.add(call(status=201))
    spooled.gap(5)
    spooled.add(call(status=202), call(status=203))
    spooled.gap(2)
    of = follower(spooled)
    assert read(of) == [(1, 201), (7, 202), (8, 203)]
    spooled.add(call(status=204))
    assert read(of) == [(11, 204)]
    assert of.missing == 7


def test_segments_that_are_gone_before_they_were_read(spooled, caplog):
    for status in (201, 202, 203):
        spooled.add(call(status=status), call(status=status))
        spooled.turn()
    for number in (1, 2):
        (spooled.folder / f"{number:010d}.seg").unlink()
    of = follower(spooled)
    assert read(of) == [(5, 203), (6, 203)]
    assert of.missing == 4
    assert "4 records are gone before segment 3" in caplog.text


def test_segments_that_are_gone_after_they_were_read(spooled):
    spooled.add(call(status=201))
    of = follower(spooled)
    assert read(of) == [(1, 201)]
    position, first = of.position, spooled.path
    spooled.turn()
    spooled.add(call(status=202))
    first.unlink()
    for each in (of, follower(spooled, position)):
        assert read(each) == [(2, 202)]
        assert each.missing == 0


def test_a_segment_that_is_gone_before_it_was_read_to_its_end(spooled):
    spooled.add(call(status=201))
    of = follower(spooled)
    read(of)
    position, first = of.position, spooled.path
    spooled.add(call(status=202))
    spooled.turn()
    spooled.add(call(status=203))
    first.unlink()
    again = follower(spooled, position)
    assert read(again) == [(3, 203)]
    assert again.missing == 1


def test_a_segment_that_goes_while_it_is_read_is_read_to_its_end(spooled, monkeypatch):
    monkeypatch.setattr(following, "PIECE", 1)
    spooled.add(call(status=201))
    spooled.add(call(status=202))
    of = follower(spooled)
    assert of.read() is not None
    path = spooled.path
    spooled.turn()
    path.unlink()
    spooled.add(call(status=203))
    assert read(of) == [(2, 202), (3, 203)]
    assert of.missing == 0


def test_segments_that_are_gone_from_the_middle_are_found_missing(spooled, monkeypatch):
    monkeypatch.setattr(following, "FULL_LOOKS", 1)
    spooled.add(call(status=201))
    of = follower(spooled)
    read(of)
    spooled.turn()
    spooled.add(call(status=202))
    gone = spooled.path
    spooled.turn()
    spooled.add(call(status=203))
    gone.unlink()
    assert read(of) == [(3, 203)]
    assert of.missing == 1


def damage(path, at):
    """Change one byte. Returns what the file held before."""
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    return data


def test_a_broken_chain_stops_behind_what_still_counts(spooled, caplog):
    spooled.add(call(status=201))
    spooled.add(call(status=202))
    sound = spooled.path.stat().st_size
    spooled.add(call(status=203))
    spooled.add(call(status=204))
    data = damage(spooled.path, sound + 60)
    of = follower(spooled)
    assert of.read().numbers.tolist() == [1, 2]
    position = of.position
    for _ in range(2):
        with pytest.raises(BrokenChain, match="calls-0, segment 1, record 3"):
            of.read()
    assert of.position == position
    assert of.breaks == 1
    assert [level for _, level, _ in caplog.record_tuples] == [logging.ERROR]
    spooled.path.write_bytes(data)
    assert read(of) == [(3, 203), (4, 204)]


def test_it_goes_on_where_the_writer_says(spooled):
    """Who writes goes on from the last frame that counts before the change, in another segment."""
    spooled.add(call(status=201))
    before = spooled.chain.previous
    sound = spooled.path.stat().st_size
    spooled.add(call(status=202))
    damage(spooled.path, sound + 60)
    of = follower(spooled)
    assert of.read().numbers.tolist() == [1]
    with pytest.raises(BrokenChain):
        of.read()
    spooled.chain.previous, spooled.chain.records = before, 1
    spooled.open(Before(1, sound, 100))
    spooled.add(call(status=203))
    assert read(of) == [(2, 203)]
    assert of.breaks == 1


def test_a_forged_continuation(spooled, tmp_path):
    """By somebody who has the files and not the key."""
    spooled.add(call(status=201))
    previous = spooled.chain.previous
    record = frame(2, previous, encode(call(status=500)))
    spooled.put(record + frame(TIP, digest(record), bytes(16)))
    of = follower(spooled)
    assert of.read().numbers.tolist() == [1]
    with pytest.raises(BrokenChain, match="not written by this gateway"):
        of.read()
    assert len(read(follower(spooled, signer=False))) == 2


def test_a_forged_segment(spooled, tmp_path):
    spooled.add(call(status=201))
    of = follower(spooled)
    read(of)
    other = Spooled(tmp_path / "other")
    other.signer.id = spooled.signer.id
    other.chain.segment, other.chain.previous, other.chain.records = 1, spooled.chain.previous, 1
    other.open()
    other.add(call(status=500))
    spooled.put(spooled.chain.head(1, end=True))
    (spooled.folder / "0000000002.seg").write_bytes(other.path.read_bytes())
    with pytest.raises(BrokenChain, match=r"segment 2.*not written by this gateway"):
        of.read()


def test_segments_of_a_key_before_this_are_read(spooled, tmp_path):
    spooled.add(call(status=201))
    later = Spooled(tmp_path / "later")
    assert later.signer.id != spooled.signer.id
    assert read(Follower(spooled.folder, later.signer)) == [(1, 201)]


def test_a_segment_from_elsewhere(spooled, tmp_path):
    spooled.add(call())
    other = Spooled(tmp_path, "calls-1")
    other.add(call())
    (spooled.folder / "0000000002.seg").write_bytes(other.path.read_bytes())
    spooled.put(spooled.chain.head(1, end=True))
    of = follower(spooled)
    assert of.read() is not None
    with pytest.raises(BrokenChain, match="it belongs elsewhere"):
        of.read()


def test_a_segment_that_does_not_go_on(spooled):
    spooled.add(call())
    spooled.chain.previous = digest(b"something else")
    spooled.open()
    of = follower(spooled)
    assert of.read() is not None
    with pytest.raises(BrokenChain, match="does not go on"):
        of.read()


def test_a_segment_that_was_cut_off(spooled):
    spooled.add(call())
    spooled.add(call())
    of = follower(spooled)
    read(of)
    data = spooled.path.read_bytes()
    spooled.path.write_bytes(data[:-10])
    with pytest.raises(BrokenChain, match="cut off"):
        of.read()
    spooled.path.write_bytes(data[:20])
    with pytest.raises(BrokenChain, match="cut off"):
        follower(spooled, of.position).read()


def test_a_chain_that_began_anew(spooled):
    """Somebody put the files away; what they had is not taken for what comes."""
    spooled.add(call())
    spooled.turn()
    spooled.add(call())
    of = follower(spooled)
    read(of)
    position = of.position
    for path in spooled.folder.glob("*.seg"):
        path.unlink()
    again = Spooled(spooled.folder.parent.parent)
    again.add(call())
    with pytest.raises(BrokenChain, match="segments behind it are gone"):
        follower(spooled, position).read()


def test_nothing_is_left_open(spooled):
    spooled.add(call())
    of = follower(spooled)
    read(of)
    of.close()
    of.close()
    with pytest.raises(OSError, match="Bad file"):
        of.read()
