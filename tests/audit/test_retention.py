"""Retention: which segments go, what is put on record of them, and that all of it can still be proven."""

from __future__ import annotations

import fcntl
import gzip
import os

import pytest

from gatewayd.audit import retention as module
from gatewayd.audit.actions import Retired, decode_action
from gatewayd.audit.frames import RECORD, frames
from gatewayd.audit.keys import FOLDER
from gatewayd.audit.retention import Outcome, go
from gatewayd.audit.segments import ACTIONS
from gatewayd.config.model import Audit
from gatewayd.config.units import Duration
from tests.support.evidence import BEGAN, Bench, only_files
from tests.support.records import bodies_in

DAY = 86_400


@pytest.fixture
def bench(tmp_path):
    """Records 1 to 4, 5 to 8 … 17 to 20, one a second; the last segment has no end."""
    made = Bench(tmp_path / "state")
    made.write([[4]] * 5, end=False)
    return made


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "old"


def config(archive="", retention=DAY):
    return Audit(enabled=True, retention=Duration(retention), archive=str(archive))


def numbers(bench, name="calls-0"):
    return sorted(int(path.stem) for path in bench.folder(name).glob("*.seg"))


def acted(bench):
    return [decode_action(body) for body in bodies_in(bench.folder(ACTIONS), bench.state)]


def test_what_is_old_goes_and_what_remains_is_proven(bench):
    assert go(config(), bench.state, BEGAN + 9 + DAY) == Outcome(2)
    assert numbers(bench) == [3, 4, 5]
    (action,) = acted(bench)
    first, second = (Retired(*each) for each in action.after)
    assert (action.target, action.actor) == ("calls-0", "gatewayd")
    assert (first.segment, first.first, first.last, first.previous) == (1, 1, 4, bytes(32))
    assert (second.segment, second.first, second.last, second.previous) == (2, 5, 8, first.digest)
    report = bench.verify(keys=only_files(bench))
    found = report.chains[-1]
    assert report.fine
    assert (found.first_segment, found.records, found.checked, found.retired) == (3, 20, 12, 2)


def test_the_last_segment_stays_however_old_it_is(bench):
    assert go(config(), bench.state, BEGAN + 100 * DAY).retired == 4
    assert numbers(bench) == [5]
    assert bench.verify().fine
    assert go(config(), bench.state, BEGAN + 200 * DAY) == Outcome()
    assert len(acted(bench)) == 1


def test_nothing_goes_that_is_young_or_without_retention(bench):
    assert go(config(), bench.state, BEGAN + DAY) == Outcome()
    assert go(config(retention=0), bench.state, BEGAN + 100 * DAY) == Outcome()
    assert numbers(bench) == [1, 2, 3, 4, 5]


def test_what_is_not_ingested_yet_stays(bench):
    asked = []
    assert go(config(), bench.state, BEGAN + 100 * DAY, lambda chain: asked.append(chain) or 3).retired == 2
    assert (numbers(bench), asked) == ([3, 4, 5], ["calls-0"])


def test_what_was_archived_is_proven_with_the_rest(bench, archive):
    whole = bench.path(1).read_bytes()
    go(config(archive), bench.state, BEGAN + 100 * DAY)
    packed = archive / "calls-0" / "0000000001.seg.gz"
    assert gzip.decompress(packed.read_bytes()) == whole
    assert (packed.stat().st_mode & 0o777, list(packed.parent.glob(".*"))) == (0o600, [])
    assert bench.verify().chains[-1].checked == 4
    report = bench.verify(archive=archive)
    assert report.fine
    assert (report.chains[-1].checked, report.chains[-1].retired) == (20, 0)
    assert report.chains[-1].segments == 5


def test_a_change_in_the_archive_is_found(bench, archive):
    go(config(archive), bench.state, BEGAN + 100 * DAY)
    packed = archive / "calls-0" / "0000000002.seg.gz"
    content = packed.read_bytes()
    data = bytearray(gzip.decompress(content))
    data[bench_record(data, 2)] ^= 1
    packed.write_bytes(gzip.compress(bytes(data)))
    found = bench.first(archive=archive)
    assert (found.segment, found.record, found.kind) == (2, 6, "changed")
    packed.write_bytes(content[:-100])
    assert bench.first(archive=archive).kind == "truncated"
    packed.unlink()
    report = bench.verify(archive=archive)  # it was retired: it need not be there
    assert report.fine
    assert report.chains[-1].retired == 1


def bench_record(data, number):
    """Where the last byte of a record stands in a segment."""
    return [each.end - 1 for each in frames(bytes(data)) if each.kind == RECORD][number - 1]


def test_more_than_was_retired_is_missing(bench):
    go(config(), bench.state, BEGAN + 9 + DAY)
    bench.path(3).unlink()
    found = bench.first()
    assert (found.segment, found.record, found.last, found.kind) == (1, 1, 12, "segment removed")


def test_a_retirement_that_stopped_midway_is_finished(bench, monkeypatch):
    real = module.Path.unlink

    def unlink(path, *arguments):
        if path.name == "0000000002.seg":
            raise OSError(5, "Input/output error")
        real(path, *arguments)

    monkeypatch.setattr(module.Path, "unlink", unlink)
    with pytest.raises(OSError, match="Input"):
        go(config(), bench.state, BEGAN + 100 * DAY)
    monkeypatch.undo()
    assert numbers(bench) == [2, 3, 4, 5]
    assert bench.verify().fine
    go(config(), bench.state, BEGAN + 100 * DAY)
    assert numbers(bench) == [5]
    assert bench.verify().fine


def test_a_broken_segment_stays_for_it_is_the_proof(bench):
    data = bytearray(bench.path(2).read_bytes())
    data[bench_record(data, 3)] ^= 1
    bench.path(2).write_bytes(data)
    outcome = go(config(), bench.state, BEGAN + 100 * DAY)
    assert outcome.retired == 1
    assert outcome.broken == ("calls-0: segment 2 stays: record 7: this record, or what stands behind it, was changed",)
    assert numbers(bench) == [2, 3, 4, 5]
    assert bench.first().record == 7


def test_a_segment_with_an_opening_by_somebody_else_stays(bench):
    data = bytearray(bench.path(2).read_bytes())
    data[40] ^= 1
    bench.path(2).write_bytes(data)
    assert go(config(), bench.state, BEGAN + 100 * DAY).broken == (
        "calls-0: segment 1 stays: the signature of its opening is not right",
    )


def test_what_crashes_left_goes_like_the_rest(tmp_path):
    bench = Bench(tmp_path)
    chain = bench.write([[2]], end=False)
    bench.more(chain, 2)
    bench.path(1).write_bytes(bench.path(1).read_bytes() + bytes(9))
    bench.path(2).write_bytes(b"")
    bench.write([[3]], restart=True)
    bench.write([[1]])
    assert numbers(bench) == [1, 2, 3, 4]
    assert go(config(), bench.state, BEGAN + 100 * DAY) == Outcome(3)
    assert bench.verify().fine
    taken = [Retired(*each) for each in acted(bench)[0].after]
    assert [(each.first, each.last) for each in taken] == [(1, 4), (5, 4), (5, 7)]


def test_what_administrators_did_stays(bench):
    for _ in range(3):
        bench.write([[1], [1]], ACTIONS)
    go(config(), bench.state, BEGAN + 10_000 * DAY)
    assert numbers(bench, ACTIONS)[:6] == [1, 2, 3, 4, 5, 6]
    assert bench.verify().fine


def test_while_somebody_verifies_nothing_goes(bench):
    reading = os.open(bench.state / FOLDER, os.O_RDONLY)
    fcntl.flock(reading, fcntl.LOCK_SH)
    assert go(config(), bench.state, BEGAN + 100 * DAY) == Outcome()
    os.close(reading)
    assert go(config(), bench.state, BEGAN + 100 * DAY).retired == 4


def test_many_go_on_record_in_pieces(bench, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 3)
    go(config(), bench.state, BEGAN + 100 * DAY)
    assert [len(each.after) for each in acted(bench)] == [3, 1]
    assert bench.verify().fine


def test_without_anything_on_record_there_is_nothing_to_do(tmp_path):
    assert go(config(), tmp_path, 0.0) == Outcome()
