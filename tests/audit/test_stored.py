"""Where a chain's segments are read from: the state directory, an archive, or both."""

from __future__ import annotations

import gzip

import pytest

from gatewayd.audit.stored import Stored, archived, names, unpacked
from tests.support.evidence import Bench


@pytest.fixture
def both(tmp_path):
    """A chain of three segments, of which one is archived packed and one as it is."""
    bench = Bench(tmp_path / "state")
    bench.write([[2], [3], [1]])
    archive = tmp_path / "old"
    folder = archive / "calls-0"
    folder.mkdir(parents=True)
    (folder / "0000000001.seg.gz").write_bytes(gzip.compress(bench.path(1).read_bytes()))
    whole = bench.path(1).read_bytes()
    bench.path(1).unlink()
    bench.path(2).rename(folder / "0000000002.seg")
    return bench, archive, whole


def test_segments_of_both_places(both):
    bench, archive, whole = both
    stored = Stored("calls-0", bench.state, archive)
    assert stored.numbers == [1, 2, 3]
    assert stored.read(1) == whole
    assert stored.read(3) == bench.path(3).read_bytes()
    assert Stored("calls-0", bench.state).numbers == [3]
    assert [archived(archive / "calls-0")[number].name for number in (1, 2)] == ["0000000001.seg.gz", "0000000002.seg"]


def test_the_first_and_the_last_bytes(both):
    bench, archive, whole = both
    stored = Stored("calls-0", bench.state, archive)
    assert stored.peek(1) == (whole[:4096], -1)
    size = bench.path(3).stat().st_size
    assert stored.peek(3) == (bench.path(3).read_bytes(), size)
    last = bench.path(3).read_bytes()
    for most, limit in ((10, None), (10, 50), (10_000, None)):
        assert stored.end(1, most, limit) == whole[:limit][-most:]
        assert stored.end(3, most, limit) == last[:limit][-most:]


def test_a_packed_segment_is_read_as_far_as_it_is_whole(tmp_path):
    path = tmp_path / "a.gz"
    packed = gzip.compress(b"a" * 100_000 + bytes(range(256)) * 400)
    path.write_bytes(packed)
    assert len(unpacked(path)) == 100_000 + 256 * 400
    assert unpacked(path, 10) == b"a" * 10
    path.write_bytes(packed[:-20])
    assert unpacked(path).startswith(b"a" * 50_000)
    path.write_bytes(b"nothing packed")
    assert unpacked(path) == b""


def test_what_administrators_did_is_first_among_the_names(both):
    bench, archive, _ = both
    for name in ("calls-10", "calls-2", "actions"):
        bench.folder(name).mkdir()
    (archive / "calls-7").mkdir()
    (archive / "notes").mkdir()
    assert names(bench.state) == ["actions", "calls-0", "calls-2", "calls-10"]
    assert names(bench.state, archive) == ["actions", "calls-0", "calls-2", "calls-7", "calls-10"]
