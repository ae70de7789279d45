"""Verifying chains as they are when nobody has touched them: nothing is found, and what is there is told of."""

from __future__ import annotations

import fcntl
import os

import pytest

from gatewayd.audit.actions import act, change_key
from gatewayd.audit.frames import Before
from gatewayd.audit.keys import FOLDER
from gatewayd.audit.report import Lost
from tests.support.evidence import BEGAN, SECOND, Bench, call, only_files


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def chain_of(report, name="calls-0"):
    return next(each for each in report.chains if each.name == name)


@pytest.mark.parametrize("restart", [False, True])
def test_what_nobody_touched_is_fine(bench, restart):
    bench.write([[3, 2], [2, 3], [4]], restart=restart)
    bench.write([[1]], "calls-1")
    report = bench.verify(keys=only_files(bench))
    assert report.fine
    assert [each.name for each in report.chains] == ["actions", "calls-0", "calls-1"]
    found = chain_of(report)
    assert (found.segments, found.first_segment, found.records, found.checked, found.signed) == (3, 1, 14, 14, 14)
    assert (found.unsigned, found.leftover, found.lost) == (0, 0, [])
    assert report.checked == 15


def test_nothing_at_all_is_fine(bench):
    assert bench.verify().fine


def test_a_tail_that_is_not_signed_is_told_of(bench):
    chain = bench.write([[3]], end=False)
    bench.more(chain, 2)
    found = chain_of(bench.verify(keys=only_files(bench)))
    assert (found.records, found.signed, found.unsigned, found.by_mac) == (5, 3, 2, False)
    found = chain_of(bench.verify(signer=bench.signer))
    assert (found.unsigned, found.by_mac) == (2, True)


def test_a_write_that_was_cut_off_is_told_of_at_every_byte(bench):
    chain = bench.write([[3]], end=False)
    whole = bench.path(1).read_bytes()
    bench.more(chain, 2)
    more = bench.path(1).read_bytes()[len(whole) :]
    for size in (*range(0, len(more), 5), len(more) - 1):
        bench.path(1).write_bytes(whole + more[:size])
        for signer in (None, bench.signer):
            report = bench.verify(signer=signer)
            assert report.fine, size
            found = chain_of(report)
            assert (found.records, found.leftover) == (3, size)


def test_zeros_that_a_crash_of_the_machine_left_are_no_change(bench):
    bench.write([[3]], end=False)
    bench.path(1).write_bytes(bench.path(1).read_bytes() + bytes(500))
    report = bench.verify()
    assert report.fine
    assert chain_of(report).leftover == 500


def test_what_the_next_process_leaves_behind_is_accepted_if_it_is_what_it_says(bench):
    chain = bench.write([[3]], end=False)
    bench.more(chain, 2)
    whole = bench.path(1).read_bytes()
    bench.path(1).write_bytes(whole + whole[-70:-10])
    bench.write([[2], [1]])
    report = bench.verify(keys=only_files(bench))
    assert report.fine
    assert (chain_of(report).records, chain_of(report).leftover) == (8, 60)
    bench.path(1).write_bytes(whole)
    assert bench.first().kind == "changed"


def test_a_segment_cut_off_before_its_opening_was_whole(bench):
    bench.write([[3]])
    opening = bench.frames(1)[0]
    bench.path(2).write_bytes(bench.path(1).read_bytes()[: opening.end - 5])
    assert bench.verify().fine
    chain, before = bench.chain()
    assert (chain.segment, before.segment) == (2, 1)
    bench.write([[1]])
    report = bench.verify()
    assert report.fine
    assert chain_of(report).records == 4


def test_the_very_first_segment_cut_off(bench):
    bench.folder().mkdir()
    bench.path(1).write_bytes(b"\0\0")
    bench.write([[2]])
    assert bench.verify().fine


def test_a_gap_is_shown(bench):
    chain, before = bench.chain()
    data = chain.open(bench.at(0), before) + chain.append([call(1)]) + chain.gap(bench.at(1), 5) + chain.append(())
    data += chain.append([call(7)]) + chain.head(bench.at(7), end=True)
    bench.path(1).write_bytes(data)
    report = bench.verify(keys=only_files(bench))
    assert report.fine
    assert chain_of(report).lost == [Lost(1, 2, 5, (BEGAN + 1) * SECOND)]
    assert chain_of(report).records == 7


def test_only_a_time_is_read_wholly_and_the_rest_linked(bench):
    bench.write([[10]] * 5)
    report = bench.verify(since=BEGAN + 15, until=BEGAN + 25)
    assert report.fine
    assert (chain_of(report).records, chain_of(report).checked) == (40, 20)
    data = bench.path(1).read_bytes()
    bench.path(1).write_bytes(data[:300] + b"x" + data[301:])
    assert bench.verify(since=BEGAN + 15).fine
    bench.path(1).write_bytes(data[:-1] + b"x")
    found = bench.first(since=BEGAN + 15)
    assert (found.segment, found.record, found.kind) == (1, 10, "changed")


def test_a_segment_that_was_cut_off_by_a_crash_is_linked_by_its_size(bench):
    chain = bench.write([[5]], end=False)
    bench.more(chain, 5)
    bench.path(1).write_bytes(bench.path(1).read_bytes() + b"\0\0\1")
    bench.write([[10]])
    assert bench.verify(since=BEGAN + 12).fine


def test_the_signing_key_changes_and_who_knows_the_old_one_can_go_on(bench):
    bench.write([[2]])
    old = only_files(bench)
    change_key(bench.state, actor="me", reason="yearly")
    after = Bench(bench.state)
    assert after.signer.id not in old
    after.write([[3]])
    act(after.state, "later", actor="me")
    report = bench.verify(keys=old, signer=after.signer)
    assert report.fine
    assert report.keys == sorted([bench.signer.id, after.signer.id])
    assert chain_of(report).records == 5


def test_a_key_that_nobody_signed_for_is_not_trusted(bench):
    bench.write([[2]])
    old = only_files(bench)
    (bench.state / FOLDER / "signing.key").unlink()
    Bench(bench.state).write([[3]])
    found = bench.first(keys=old)
    assert (found.segment, found.record, found.kind) == (2, 3, "forged")
    assert bench.verify().fine  # the state directory's own keys


def test_retention_waits_meanwhile(bench, monkeypatch):
    from gatewayd.audit import verify as module

    bench.write([[1]])
    locked = []

    def read(*arguments):
        descriptor = os.open(bench.state / FOLDER, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
        locked.append(arguments)
        return real(*arguments)

    real = module.opening.read
    monkeypatch.setattr(module.opening, "read", read)
    assert bench.verify().fine
    assert locked


def test_before_says_where_it_goes_on(bench):
    chain = bench.write([[1]], end=False)
    bench.path(1).write_bytes(bench.path(1).read_bytes() + b"rest")
    _, before = bench.chain()
    assert before == Before(1, bench.path(1).stat().st_size - 4, 4)
    assert chain.records == 1
