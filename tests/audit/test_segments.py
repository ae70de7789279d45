"""Where segments lie, who holds a chain, and what it goes on from."""

from __future__ import annotations

import logging
import os

import pytest

from gatewayd.audit import segments as module
from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import BEGINNING, Before
from gatewayd.audit.keys import FOLDER
from gatewayd.audit.segments import Found, chains, hold, hold_calls, segment_path, segments
from tests.support.evidence import Bench, call, somebody


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def found(bench, signer=None):
    return Found(bench.folder(), signer or bench.signer)


def test_names_and_numbers(bench):
    bench.write([[1], [1]])
    (bench.folder() / "notes.seg").touch()
    assert segments(bench.folder()) == [1, 2]
    assert segment_path(bench.folder(), 12).name == "0000000012.seg"
    assert segments(bench.folder("calls-9")) == []


def test_chains_are_actions_and_calls_only(bench):
    for name in ("calls-0", "calls-10", "actions", "subjects", "erased"):
        bench.folder(name).mkdir()
    assert [path.name for path in chains(bench.state)] == ["actions", "calls-0", "calls-10"]


def test_each_process_has_a_chain_of_its_own(bench):
    first, one = hold_calls(bench.state)
    second, two = hold_calls(bench.state)
    assert (first.name, second.name) == ("calls-0", "calls-1")
    os.close(one)
    again, three = hold_calls(bench.state)
    assert again == first
    for descriptor in (two, three):
        os.close(descriptor)


def test_a_chain_that_is_held_is_waited_for_or_not(bench):
    held = hold(bench.folder(), wait=True)
    assert hold(bench.folder(), wait=False) is None
    os.close(held)
    os.close(hold(bench.folder(), wait=True))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(OSError, match="director"):
        hold(tmp_path / FOLDER / "calls-0", wait=False)


def test_nothing_is_found_where_nothing_is(bench):
    fresh = found(bench)
    assert (fresh.fresh, fresh.segment, fresh.records, fresh.previous) == (True, 0, 0, BEGINNING)
    assert not fresh.extendable


def test_a_chain_goes_on_behind_its_last_tip(bench):
    chain = bench.write([[2], [3]], end=False)
    whole = bench.path(2).stat().st_size
    at_end = found(bench)
    assert (at_end.segment, at_end.records, at_end.previous) == (2, 5, chain.previous)
    assert (at_end.before, at_end.extendable) == (Before(2, whole, 0), True)
    with bench.path(2).open("ab") as file:
        file.write(b"\0\0\1")
    cut = found(bench)
    assert (cut.before, cut.extendable, cut.previous) == (Before(2, whole, 3), False, chain.previous)


def test_an_ended_segment_is_not_extended(bench):
    bench.write([[2]])
    assert not found(bench).extendable


def test_what_was_cut_off_in_its_opening_is_passed_over(bench):
    chain = bench.write([[2]])
    bench.path(2).write_bytes(b"\0\0\0")
    behind = found(bench)
    assert (behind.segment, behind.before.segment, behind.previous) == (2, 1, chain.previous)
    assert not behind.extendable


def test_what_stands_before_is_on_the_disk_before_anybody_says_how_much_it_is(bench, monkeypatch):
    bench.write([[2]])
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    found(bench)
    assert synced == [str(bench.path(1))]


def test_a_changed_segment_does_not_stop_the_gateway(bench, caplog):
    bench.write([[2]], end=False)
    chain = bench.write([[2, 2]], end=False)
    data = bytearray(bench.path(2).read_bytes())
    tips = [each for each in bench.frames(2) if each.kind == 3]
    data[tips[0].end + 60] ^= 1
    bench.path(2).write_bytes(data)
    with caplog.at_level(logging.ERROR):
        behind = found(bench)
    # what a head stands behind counts; the change is in the write after it
    assert (behind.records, behind.segment) == (chain.records - 2, 2)
    assert behind.before.dropped > 0
    assert "the chain goes on from before it" in caplog.text


@pytest.mark.parametrize(
    "forge",
    [
        lambda bench: Chain("calls-0", somebody(), 1, bytes(32), 9).open(1),
        lambda bench: bench.path(1).read_bytes(),
        lambda bench: Chain("calls-1", bench.signer, 1, bytes(32), 9).open(1),
        lambda bench: b"\0\0\0\x22\2" + bytes(33),
        lambda bench: b"\0\0\0\x62\1" + bytes(32) + bytes(64) + b"?",
    ],
    ids=["another's", "another segment", "another chain's", "no opening", "unreadable"],
)
def test_a_segment_that_is_not_ours_is_never_gone_on_from(bench, caplog, forge):
    chain = bench.write([[2]])
    bench.path(2).write_bytes(forge(bench))
    with caplog.at_level(logging.ERROR):
        behind = found(bench)
    assert (behind.segment, behind.records, behind.previous) == (2, 2, chain.previous)
    assert caplog.text


def test_somebody_who_says_he_were_the_gateway(bench):
    chain = bench.write([[2]])
    other = somebody()
    other.id = bench.signer.id
    forged = Chain("calls-0", other, 1, chain.previous, 2)
    bench.path(2).write_bytes(forged.open(1) + forged.append([call(3)]))
    assert found(bench).records == 2


def test_a_segment_of_the_key_before_is_gone_on_from(bench):
    chain = bench.write([[2]], end=False)
    (bench.state / FOLDER / "signing.key").unlink()
    after = Bench(bench.state)
    behind = found(after)
    assert (behind.records, behind.previous, behind.extendable) == (2, chain.previous, False)


def test_what_root_makes_is_the_daemons(bench, monkeypatch):
    given = []
    monkeypatch.setattr(module, "give_to_owner", given.append)
    os.close(hold(bench.folder("calls-3"), wait=False))
    assert given == [bench.folder("calls-3"), bench.folder("calls-3") / "lock"]
