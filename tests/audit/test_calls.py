"""Recorded calls read offline: in order, within a time, whatever is broken or sealed."""

from __future__ import annotations

import gzip
import random

import msgspec
import pytest

from gatewayd.audit import calls
from gatewayd.audit.calls import Source, recorded
from gatewayd.audit.keys import load_signer
from gatewayd.audit.record import Call, Personal, Sealed
from gatewayd.audit.sealing import Sealing
from gatewayd.audit.subjects import SubjectKeys
from tests.support.records import Segment, recorded_call

HOUR = 3600 * 10**9
ENDLESS = 10**19


def call(at: int, total: int = 0, **more) -> Call:
    return recorded_call(at=at, total=total, **more)


def found(source, since=0, until=ENDLESS):
    return [(each.chain, each.number, each.call.at) for each in recorded(source, since, until)]


def test_calls_of_all_chains_come_in_the_order_they_began(tmp_path):
    ats = list(range(1000, 3000))
    random.Random(1).shuffle(ats)
    for chain in range(4):
        segment = Segment(tmp_path, f"calls-{chain}")
        mine = sorted(ats[chain::4])
        for part in (mine[:200], mine[200:]):
            segment.opened(part[0]).append(call(at) for at in part).written()
    read = list(recorded(Source(tmp_path), 0, ENDLESS))
    assert [each.call.at for each in read] == sorted(ats)
    for chain in range(4):
        assert [each.number for each in read if each.chain == f"calls-{chain}"] == list(range(1, 501))


def test_a_long_call_that_was_written_late_comes_at_its_time(tmp_path):
    Segment(tmp_path).opened().append([call(2), call(3), call(1, total=9)]).written()
    assert [at for _, _, at in found(Source(tmp_path))] == [1, 2, 3]


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "WINDOW", 3)
    Segment(tmp_path).opened().append([call(2), call(3), call(4), call(5), call(1)]).written()
    assert [at for _, _, at in found(Source(tmp_path))] == [2, 1, 3, 4, 5]


def test_only_what_began_within_the_time(tmp_path):
    Segment(tmp_path).opened().append(call(at) for at in range(10)).written()
    assert [at for _, _, at in found(Source(tmp_path), 3, 7)] == [3, 4, 5, 6]


def test_segments_out_of_the_time_are_not_read(tmp_path, monkeypatch):
    segment = Segment(tmp_path)
    for hour in range(6):
        segment.opened(hour * HOUR).append([call(hour * HOUR + 1)]).written()
    read = []
    monkeypatch.setattr(calls, "_records", lambda source, path: read.append(path.stem) or iter(()))
    assert found(Source(tmp_path), 2 * HOUR, 3 * HOUR) == []
    assert [int(stem) for stem in read] == [2, 3, 4, 5], (
        "one before may hold a call that began then; later ones, long calls"
    )


def test_blocks_smaller_than_what_was_written_at_once(tmp_path, monkeypatch):
    segment = Segment(tmp_path).opened()
    for at in range(0, 60, 20):
        segment.append(call(each) for each in range(at, at + 20))
    segment.written()
    for block in (700, 5000, 1_000_000):
        monkeypatch.setattr(calls, "BLOCK", block)
        assert found(Source(tmp_path)) == [("calls-0", at + 1, at) for at in range(60)]


def test_a_gap_counts_in_numbers(tmp_path):
    Segment(tmp_path).opened().append([call(1)]).gap(5).append([call(2), call(3)]).written()
    assert found(Source(tmp_path)) == [("calls-0", 1, 1), ("calls-0", 7, 2), ("calls-0", 8, 3)]


def test_what_is_being_written_ends_where_it_ends(tmp_path):
    path = Segment(tmp_path).opened().append([call(1)]).append([call(2)]).written(end=False)
    path.write_bytes(path.read_bytes()[:-3])
    assert [at for _, _, at in found(Source(tmp_path))] == [1]
    Segment(tmp_path, "calls-1").opened().written(end=False).write_bytes(b"\0\0")
    assert [at for _, _, at in found(Source(tmp_path))] == [1]


def test_what_is_broken_is_told_of_and_passed_over(tmp_path):
    segment = Segment(tmp_path)
    sound = len(segment.opened().append([call(1)]).data)
    path = segment.append([call(2)]).append([call(3)]).written()
    segment.opened().append([call(4)]).written()
    data = bytearray(path.read_bytes())
    data[sound + 60] ^= 1
    path.write_bytes(data)
    told = []
    read = found(Source(tmp_path, broken=told.append))
    assert [at for _, _, at in read] == [1, 4]
    assert [(error.chain, error.segment) for error in told] == [("calls-0", 1)]


def test_what_is_no_call_is_told_of_and_passed_over(tmp_path):
    segment = Segment(tmp_path).opened()
    segment.data += segment.chain.append([b"\x01", msgspec.msgpack.encode(call(2))])
    segment.written()
    told = []
    assert found(Source(tmp_path, broken=told.append)) == [("calls-0", 2, 2)]
    assert [error.record for error in told] == [1]


def test_archives_are_read_as_well(tmp_path):
    segment = Segment(tmp_path / "state")
    path = segment.opened().append([call(1)]).written()
    (tmp_path / "archive" / "calls-0").mkdir(parents=True)
    (tmp_path / "archive" / "calls-0" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    segment.opened().append([call(2)]).written()
    source = Source(tmp_path / "state", archive=tmp_path / "archive")
    assert [at for _, _, at in found(source)] == [1, 2]
    archived = tmp_path / "archive" / "calls-0" / f"{path.name}.gz"
    archived.write_bytes(archived.read_bytes()[:-9])
    told = []
    assert [at for _, _, at in found(source._replace(broken=told.append))] in ([2], [1, 2])
    assert told


def test_sealed_data_is_opened_unless_its_key_is_destroyed(tmp_path):
    keys = SubjectKeys(tmp_path)
    personal = Personal("192.0.2.1", values=[b"12345678"])
    seal = Sealing(keys, 1e9).seal
    sealed = [Sealed(*seal(name, msgspec.msgpack.encode(personal))) for name in ("ann", "bert")]
    Segment(tmp_path).opened().append(call(at, sealed=each) for at, each in enumerate(sealed)).written()
    keys.destroy("bert")
    read = [each.call.personal for each in recorded(Source(tmp_path, SubjectKeys(tmp_path)), 0, ENDLESS)]
    assert read == [personal, None]
    closed = [each.call for each in recorded(Source(tmp_path), 0, ENDLESS)]
    assert [(each.personal, each.sealed) for each in closed] == [(None, each) for each in sealed]


def test_hashes_made_under_another_key_are_left_out(tmp_path):
    personal = Personal("192.0.2.1", values=[b"12345678"])
    Segment(tmp_path).opened().append([call(1, personal=personal)]).written()
    other = load_signer(tmp_path / "other")
    for signer, values in ((load_signer(tmp_path), [b"12345678"]), (other, []), (None, [b"12345678"])):
        ((_, _, read),) = recorded(Source(tmp_path, signer=signer), 0, ENDLESS)
        assert read.personal.values == values
        assert read.personal.client == "192.0.2.1"


@pytest.mark.parametrize("folder", ["", "audit", "audit/calls-0"])
def test_where_there_is_nothing_nothing_is_found(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert found(Source(tmp_path)) == []
