"""Keys of persons: made once, shared by processes, destroyed for good."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.audit.record import Personal, Sealed
from gatewayd.audit.sealing import Sealing
from gatewayd.audit.subjects import SubjectKeys, _slot, subject_of
from tests.support.forked import forked

PERSONAL = Personal("192.0.2.1", "", [b"12345678"], "curl")


def sealed(state, consumer="anna", wall=0.0):
    seal = Sealing(SubjectKeys(state), wall).seal
    return Sealed(*seal(consumer, msgspec.msgpack.encode(PERSONAL)))


def test_what_is_sealed_is_opened_by_any_process(tmp_path):
    found = sealed(tmp_path)
    assert found.subject == subject_of("anna", 0.0)
    assert b"192.0.2.1" not in found.text
    assert SubjectKeys(tmp_path).open(found) == PERSONAL


def test_nothing_sealed_is_readable_once_the_key_is_destroyed(tmp_path):
    keys = SubjectKeys(tmp_path)
    one, other = sealed(tmp_path), sealed(tmp_path, "bert")
    assert keys.open(one) == PERSONAL
    assert keys.destroy("anna") == one.subject
    for each in (keys, SubjectKeys(tmp_path)):
        assert each.open(one) is None
        assert each.open(other) == PERSONAL
    assert (tmp_path / "audit" / "erased" / one.subject.hex()).exists()
    later = sealed(tmp_path)
    assert SubjectKeys(tmp_path).open(later) == PERSONAL  # under a key of its own …
    assert SubjectKeys(tmp_path).open(one) is None  # … which does not bring back the old


def test_destroying_takes_the_key_off_the_file(tmp_path):
    found = sealed(tmp_path)
    path = tmp_path / "audit" / "subjects" / found.subject[:1].hex()
    assert found.subject in path.read_bytes()
    SubjectKeys(tmp_path).destroy("anna")
    assert path.read_bytes() == bytes(48)


def test_each_destruction_has_a_time_of_its_own(tmp_path):
    """By that others notice; the kernel's clock stands still for some milliseconds."""
    keys = SubjectKeys(tmp_path)
    erased = tmp_path / "audit" / "erased"
    seen = set()
    for _ in range(5):
        mark = erased / keys.destroy("anna").hex()
        seen |= {erased.stat().st_mtime_ns, mark.stat().st_mtime_ns}
    assert len(seen) == 5


def test_destroying_what_was_never_there_only_leaves_the_mark(tmp_path):
    subject = SubjectKeys(tmp_path).destroy("nobody")
    assert (tmp_path / "audit" / "erased" / subject.hex()).exists()


def test_other_processes_notice(tmp_path):
    wall = 1_000_000.0
    elsewhere = SubjectKeys(tmp_path)
    sealing = Sealing(elsewhere, wall)
    first = Sealed(*sealing.seal("anna", msgspec.msgpack.encode(PERSONAL)))
    SubjectKeys(tmp_path).destroy("anna")
    assert SubjectKeys(tmp_path).open(first) is None
    sealing.tick(wall)
    second = Sealed(*sealing.seal("anna", msgspec.msgpack.encode(PERSONAL)))
    assert SubjectKeys(tmp_path).open(second) == PERSONAL


def test_processes_that_come_at_once_agree_on_the_key(tmp_path):
    def work(name):
        def run():
            (tmp_path / name).write_bytes(msgspec.msgpack.encode([sealed(tmp_path, f"c{n}") for n in range(50)]))

        return run

    children = [forked(work(name)) for name in ("a", "b")]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    keys = SubjectKeys(tmp_path)
    for name in ("a", "b"):
        for each in msgspec.msgpack.decode((tmp_path / name).read_bytes(), type=list[Sealed]):
            assert keys.open(each) == PERSONAL


def test_a_key_cut_off_by_a_crash_is_no_key(tmp_path):
    found = sealed(tmp_path)
    path = tmp_path / "audit" / "subjects" / found.subject[:1].hex()
    os.truncate(path, 40)
    assert SubjectKeys(tmp_path).open(found) is None
    assert SubjectKeys(tmp_path).open(sealed(tmp_path)) == PERSONAL
    assert path.stat().st_size == 48


def test_memory_is_bounded(tmp_path):
    keys = SubjectKeys(tmp_path, limit=2)
    found = [sealed(tmp_path, f"c{number}") for number in range(4)]
    assert [keys.open(each) for each in found * 2] == [PERSONAL] * 8
    assert len(keys._ciphers) == 2


def test_strangers_have_a_key_for_each_day():
    assert subject_of("", 0.0) == subject_of("", 86_399.0) != subject_of("", 86_400.0)
    assert subject_of("day:1970-01-01", 0.0) != subject_of("", 0.0)


@given(st.lists(st.binary(min_size=48, max_size=48), max_size=6), st.integers(0, 5), st.binary(max_size=47))
def test_slots_are_found_only_where_slots_begin(slots, which, rest):
    content = b"".join(slots) + rest
    subject = slots[which % len(slots)][:16] if slots else bytes(16)
    expected = next((48 * n for n, slot in enumerate(slots) if slot.startswith(subject)), -1)
    assert _slot(content, subject) == expected


@pytest.mark.parametrize("changed", [0, 12, -1])
def test_what_was_changed_is_not_opened(tmp_path, changed):
    found = sealed(tmp_path)
    text = bytearray(found.text)
    text[changed] ^= 1
    assert SubjectKeys(tmp_path).open(Sealed(found.subject, bytes(text))) is None
