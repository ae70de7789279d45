"""What only an anchor shows: ends cut off, old copies put back."""

from __future__ import annotations

import shutil

import pytest

from gatewayd.audit.actions import anchor
from gatewayd.audit.anchors import export, heads
from gatewayd.audit.keys import FOLDER
from tests.support.evidence import Bench, only_files, somebody


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "state")
    made.write([[3, 2], [2, 3]])
    chain = made.write([[2]], end=False)
    made.more(chain, 2, head=True)
    return made  # records 1 to 5, 6 to 10, 11 to 14: no end yet


@pytest.fixture(params=["from outside", "on record"])
def known(bench, request):
    """Up to where the chains are signed is known: the options to verify with."""
    if request.param == "from outside":
        return {"anchors": export(bench.state).chains, "keys": only_files(bench)}
    anchor(bench.state, heads(bench.state), actor="gatewayd")
    return {"keys": only_files(bench)}


def test_it_is_fine_as_long_as_nothing_is_missing(bench, known):
    report = bench.verify(**known)
    assert report.fine
    assert report.anchors == (1 if "anchors" in known else 0)
    bench.write([[3]])
    assert bench.verify(**known).fine


def test_the_end_cut_off_anywhere(bench, known):
    path = bench.path(3)
    whole = path.read_bytes()
    tip = bench.frames(3)[-2]
    for size in (0, 100, len(whole) // 2, tip.start, tip.end, len(whole) - 1):
        path.write_bytes(whole[:size])
        found = bench.first(**known)
        assert found.segment == 3
        assert (found.kind, found.last) == (("truncated", 14) if size > 200 else ("segment removed", 14)), size
    path.write_bytes(whole[: tip.end])  # all four records, only the signature of two is gone
    found = bench.first(**known)
    assert (found.kind, found.record) == ("truncated", 13)


def test_without_an_anchor_that_is_not_to_be_seen(bench):
    whole = bench.path(3).read_bytes()
    bench.path(3).write_bytes(whole[: len(whole) // 2])
    assert bench.verify().fine
    bench.path(3).unlink()
    assert bench.verify().fine


def test_the_last_segments_removed(bench, known):
    bench.path(3).unlink()
    found = bench.first(**known)
    assert (found.segment, found.record, found.last, found.kind) == (3, 11, 14, "segment removed")
    bench.path(2).unlink()
    found = bench.first(**known)
    assert (found.segment, found.record, found.last, found.kind) == (2, 6, 14, "segment removed")


def test_a_whole_chain_removed(bench, known):
    shutil.rmtree(bench.folder())
    found = bench.first(**known)
    assert (found.chain, found.segment, found.record, found.last) == ("calls-0", 1, 1, 14)
    assert found.kind == "segment removed"


def test_an_old_copy_put_back_and_gone_on_from(tmp_path):
    bench = Bench(tmp_path / "state")
    chain = bench.write([[3]], end=False)
    old = bench.path(1).read_bytes()
    bench.more(chain, 4, head=True)
    saved = {"anchors": export(bench.state).chains, "keys": only_files(bench)}
    bench.path(1).write_bytes(old)
    found = bench.first(**saved)
    assert (found.segment, found.record, found.last, found.kind) == (1, 4, 7, "truncated")
    bench.write([[9]])  # the gateway does not know better
    assert bench.verify().fine
    found = bench.first(**saved)
    assert (found.segment, found.record, found.last, found.kind) == (1, 4, 7, "truncated")


def test_another_past_of_the_same_length(tmp_path):
    bench = Bench(tmp_path / "state")
    chain = bench.write([[3]], end=False)
    saved = bench.path(1).read_bytes(), chain.previous, chain.records
    bench.more(chain, 4, head=True)
    known = {"anchors": export(bench.state).chains, "keys": only_files(bench)}
    data, chain.previous, chain.records = saved
    bench.path(1).write_bytes(data)
    bench.more(chain, 2, head=True)
    bench.more(chain, 2, head=True)
    assert bench.verify().fine
    found = bench.first(**known)
    assert (found.kind, found.last) == ("changed", 7)


def test_the_whole_state_put_back_is_seen_from_outside_only(bench, tmp_path):
    anchor(bench.state, heads(bench.state), actor="gatewayd")
    shutil.copytree(bench.state, tmp_path / "old")
    bench.write([[5]])
    anchor(bench.state, heads(bench.state), actor="gatewayd")
    outside = export(bench.state).chains
    shutil.rmtree(bench.state)
    shutil.copytree(tmp_path / "old", bench.state)
    assert bench.verify().fine
    found = bench.verify(anchors=outside, keys=only_files(bench)).findings
    assert {each.chain for each in found} == {"actions", "calls-0"}
    assert (found[1].record, found[1].last, found[1].kind) == (15, 19, "segment removed")


def test_an_anchor_of_a_new_segment_without_records(tmp_path):
    bench = Bench(tmp_path)
    chain = bench.write([[3]])
    bench.path(2).write_bytes(chain.open(bench.at(3)))
    known = {"anchors": export(bench.state).chains}
    assert known["anchors"][0].kind == "opening"
    assert bench.verify(**known).fine
    bench.path(2).unlink()
    found = bench.first(**known)
    assert (found.segment, found.kind) == (2, "segment removed")


def test_an_anchor_by_somebody_else(bench, tmp_path):
    other = Bench(tmp_path / "other")
    other.write([[3]])
    found = bench.first(anchors=export(other.state).chains, keys=only_files(bench))
    assert (found.chain, found.kind) == ("calls-0", "anchor")
    assert other.signer.id not in bench.verify(keys=only_files(bench)).keys


def test_anchors_in_segments_that_are_not_read_are_not_looked_for(bench, known):
    assert bench.verify(until=1.0, **known).fine


def test_no_key_no_trust(bench):
    found = bench.first(keys={"0" * 16: somebody().public})
    assert (found.segment, found.record, found.kind) == (1, 1, "forged")


def test_the_folder_of_keys_is_no_chain(bench):
    assert [each.name for each in bench.verify().chains] == ["actions", "calls-0"]
    assert (bench.state / FOLDER / "keys").is_dir()
