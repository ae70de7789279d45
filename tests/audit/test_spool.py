"""A worker's chain on disk: restarts, segments, a disk that is full."""

from __future__ import annotations

import errno
import os
import signal

import msgspec
import pytest

from gatewayd.audit import spool as module
from gatewayd.audit.frames import END, GAP, HEAD, OPENING, RECORD, TIP, Gap, frames
from gatewayd.audit.keys import load_signer
from gatewayd.audit.segments import segment_path, segments
from gatewayd.audit.spool import Spool, total_size
from gatewayd.config.model import Audit
from gatewayd.config.units import Duration, Size
from gatewayd.core.clock import FakeClock
from tests.support.forked import forked
from tests.support.records import bodies_in

WRITE = os.write


@pytest.fixture
def clock():
    return FakeClock()


def opened(state, clock, **options):
    return Spool(Audit(enabled=True, **options), state, load_signer(state), clock)


def kinds(folder, number):
    return [each.kind for each in frames(segment_path(folder, number).read_bytes())]


def test_records_are_with_the_kernel_at_once(tmp_path, clock):
    spool = opened(tmp_path, clock)
    assert spool.write([b"one", b"two"])
    assert bodies_in(spool.folder, tmp_path) == [b"one", b"two"]
    assert (spool.written, spool.records, spool.name) == (2, 2, "calls-0")
    spool.close()
    assert kinds(spool.folder, 1) == [OPENING, RECORD, RECORD, TIP, END]


def test_the_next_process_goes_on_where_the_last_ended(tmp_path, clock):
    for number in range(3):
        spool = opened(tmp_path, clock)
        spool.write([b"%d" % number])
        spool.close()
    assert segments(spool.folder) == [1, 2, 3]
    assert bodies_in(spool.folder, tmp_path) == [b"0", b"1", b"2"]
    assert spool.records == 3


def test_two_at_once_have_a_chain_each_and_the_first_is_taken_up_again(tmp_path, clock):
    first, second = opened(tmp_path, clock), opened(tmp_path, clock)
    assert (first.name, second.name) == ("calls-0", "calls-1")
    first.close()
    assert opened(tmp_path, clock).name == "calls-0"
    second.close()


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path, clock):
    def work():
        spool = opened(tmp_path, clock)
        spool.write([b"before"])
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == -signal.SIGKILL
    spool = opened(tmp_path, clock)
    spool.write([b"after"])
    assert bodies_in(spool.folder, tmp_path) == [b"before", b"after"]
    assert segments(spool.folder) == [1, 2]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_what_was_cut_off_does_not_count_and_the_next_opening_says_so(tmp_path, clock, cut):
    spool = opened(tmp_path, clock)
    spool.write([b"whole"])
    spool.write([b"cut off"])
    path = segment_path(spool.folder, 1)
    os.truncate(path, path.stat().st_size - cut)
    os.close(spool._lock)
    again = opened(tmp_path, clock)
    again.write([b"more"])
    assert bodies_in(again.folder, tmp_path) == [b"whole", b"more"]
    opening = next(frames(segment_path(again.folder, 2).read_bytes()))
    before = msgspec.msgpack.decode(opening.body[64:])["before"]
    assert before["segment"] == 1
    assert before["dropped"] == path.stat().st_size - before["size"] > 0


def test_a_segment_without_a_whole_opening_is_passed_over(tmp_path, clock):
    spool = opened(tmp_path, clock)
    spool.write([b"one"])
    spool.close()
    segment_path(spool.folder, 2).write_bytes(b"\0\0\1")
    again = opened(tmp_path, clock)
    assert segments(again.folder) == [1, 2, 3]
    assert bodies_in(again.folder, tmp_path) == [b"one"]


def test_segments_end_by_size_and_by_age(tmp_path, clock):
    spool = opened(tmp_path, clock, segment_size=Size(1000), segment_age=Duration(60))
    spool.write([b"x" * 1000])
    assert segments(spool.folder) == [1, 2]
    spool.write([b"y"])
    clock.advance(61)
    spool.tick(clock.monotonic())
    assert segments(spool.folder) == [1, 2, 3]
    clock.advance(61)
    spool.tick(clock.monotonic())  # nothing stands in the third
    assert segments(spool.folder) == [1, 2, 3]
    assert kinds(spool.folder, 1)[-1] == kinds(spool.folder, 2)[-1] == END
    assert bodies_in(spool.folder, tmp_path) == [b"x" * 1000, b"y"]


def test_a_commit_signs_what_is_not_signed_yet(tmp_path, clock):
    spool = opened(tmp_path, clock)
    spool.commit()
    assert kinds(spool.folder, 1) == [OPENING]
    spool.write([b"one"])
    assert spool.lag == 0.0
    clock.advance(0.05)
    assert spool.lag == pytest.approx(0.05)
    spool.commit()
    spool.commit()
    spool.close()
    assert kinds(spool.folder, 1) == [OPENING, RECORD, TIP, HEAD, END]
    assert spool.lag == 0.0


def test_strictly_records_are_on_the_disk_when_write_returns(tmp_path, clock, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    spool = opened(tmp_path, clock, mode="strict")
    assert spool.write([b"one"])
    assert synced == [segment_path(spool.folder, 1).stat().st_size]


def test_strictly_a_disk_that_fails_to_keep_them_is_told(tmp_path, clock, monkeypatch, caplog):
    spool = opened(tmp_path, clock, mode="strict")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(errno.EIO))
        assert not spool.write([b"one"])
        assert spool.full
    spool.tick(clock.monotonic())
    assert not spool.full
    assert bodies_in(spool.folder, tmp_path) == [b"one"]  # once: it was written
    assert "Input/output error" in caplog.text


def failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


def writing_only(size):
    """`os.write` of a disk with room for so many bytes more."""
    room = [size]

    def limited(descriptor, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = WRITE(descriptor, bytes(data)[: room[0]])
        room[0] -= done
        return done

    return limited


@pytest.mark.parametrize("room", [0, 1, 50, 120])
def test_what_a_full_disk_does_not_take_is_kept_and_written_later(tmp_path, clock, monkeypatch, caplog, room):
    spool = opened(tmp_path, clock)
    spool.write([b"before"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", writing_only(room))
        assert not spool.write([b"one", b"two"])
        assert not spool.write([b"three"])
        assert spool.full
        spool.tick(clock.monotonic())
        assert spool.full
        assert bodies_in(spool.folder, tmp_path) == [b"before"]
    spool.tick(clock.monotonic())
    assert not spool.full
    spool.write([b"after"])
    assert bodies_in(spool.folder, tmp_path) == [b"before", b"one", b"two", b"three", b"after"]
    assert (spool.dropped, spool.records) == (0, 5)
    assert caplog.text.count("cannot be written") == 1


@pytest.mark.parametrize("signing", [Spool.commit, Spool._turn, Spool.close])
@pytest.mark.parametrize("room", [0, 1, 50])
def test_a_head_that_finds_no_room_leaves_the_chain_whole(tmp_path, clock, monkeypatch, signing, room):
    spool = opened(tmp_path, clock)
    spool.write([b"before"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", writing_only(room))
        signing(spool)
        assert spool.full
    if signing is Spool.close:
        spool = opened(tmp_path, clock)
    spool.tick(clock.monotonic())
    spool.write([b"after"])
    spool.commit()
    spool.close()
    assert bodies_in(spool.folder, tmp_path) == [b"before", b"after"]


def test_what_does_not_fit_in_memory_leaves_a_gap_that_the_chain_tells_of(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(module, "BACKLOG", 10)
    spool = opened(tmp_path, clock, on_full="drop")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", writing_only(0))
        spool.write([b"12345678", b"lost", b"x"])
        spool.write([b"lost too"])
    spool.tick(clock.monotonic())
    spool.write([b"after"])
    assert spool.dropped == 2
    found = list(frames(segment_path(spool.folder, 1).read_bytes()))
    assert [each.kind for each in found] == [OPENING, RECORD, RECORD, TIP, GAP, TIP, RECORD, TIP]
    assert msgspec.msgpack.decode(found[4].body, type=Gap).records == 2
    assert spool.records == 5
    spool.close()
    assert bodies_in(spool.folder, tmp_path) == [b"12345678", b"x", b"after"]


def test_a_segment_that_cannot_be_begun_is_begun_later(tmp_path, clock, monkeypatch):
    spool = opened(tmp_path, clock, segment_size=Size(100))
    opening = os.open

    def full(path, flags, *more, **named):
        if flags & os.O_EXCL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opening(path, flags, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        assert spool.write([b"x" * 100])
        assert spool.full
        assert not spool.write([b"y"])
        spool.tick(clock.monotonic())
        spool.commit()
        assert segments(spool.folder) == [1]
    spool.tick(clock.monotonic())
    spool.write([b"z"])
    spool.close()
    assert bodies_in(spool.folder, tmp_path) == [b"x" * 100, b"y", b"z"]


def test_all_chains_together_have_a_limit(tmp_path, clock):
    other = opened(tmp_path, clock)
    other.write([b"x" * 5000])
    spool = opened(tmp_path, clock, limit=Size(5000))
    assert spool.full
    assert not spool.write([b"one"])
    other.close()
    segment_path(other.folder, 1).unlink()
    assert total_size(tmp_path / "audit") < 5000
    spool.tick(clock.monotonic())
    assert not spool.full
    assert bodies_in(spool.folder, tmp_path) == [b"one"]


def test_what_waits_is_written_at_the_end(tmp_path, clock, monkeypatch):
    spool = opened(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", writing_only(0))
        spool.write([b"one"])
    spool.close()
    assert bodies_in(spool.folder, tmp_path) == [b"one"]


def test_of_much_that_waits_as_much_is_written_as_there_is_room_for(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(module, "PIECE", 2)
    spool = opened(tmp_path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", writing_only(0))
        spool.write([b"%d" % number for number in range(5)])
        patch.setattr(os, "write", writing_only(200))  # for two, and their tip
        spool.tick(clock.monotonic())
        assert bodies_in(spool.folder, tmp_path) == [b"0", b"1"]
        assert spool.full
    spool.tick(clock.monotonic())
    assert bodies_in(spool.folder, tmp_path) == [b"0", b"1", b"2", b"3", b"4"]


def test_calls_left_out_are_a_gap_though_the_disk_has_room_again(tmp_path, clock):
    spool = opened(tmp_path, clock)
    spool.leave_out(3)
    spool.write([b"one"])
    spool.tick(clock.monotonic())
    spool.tick(clock.monotonic())
    assert kinds(spool.folder, 1) == [OPENING, RECORD, TIP, GAP, TIP]
    assert (spool.records, spool.dropped) == (4, 3)
