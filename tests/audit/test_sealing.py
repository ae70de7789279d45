"""Sealing for records: by consumer and day, never twice under one nonce."""

from __future__ import annotations

from gatewayd.audit.record import Sealed
from gatewayd.audit.sealing import Sealing
from gatewayd.audit.subjects import SubjectKeys, subject_of

DAY = 86_400.0


def test_consumers_and_strangers_have_keys_of_their_own(tmp_path):
    sealing = Sealing(SubjectKeys(tmp_path), DAY)
    subjects = [sealing.seal(consumer, b"x")[0] for consumer in ("anna", "bert", "")]
    assert subjects == [subject_of("anna", 0.0), subject_of("bert", 0.0), subject_of("", DAY)]


def test_strangers_get_another_key_the_next_day(tmp_path):
    sealing = Sealing(SubjectKeys(tmp_path), DAY - 1)
    first = sealing.seal("", b"x")[0]
    sealing.tick(DAY - 0.5)
    assert sealing.seal("", b"x")[0] == first
    sealing.tick(DAY)
    assert sealing.seal("", b"x")[0] == subject_of("", DAY) != first


def test_no_nonce_comes_twice(tmp_path):
    keys = SubjectKeys(tmp_path)
    nonces = {Sealing(keys, 0.0).seal("anna", b"x")[1][:12] for _ in range(50)}
    one = Sealing(keys, 0.0)
    nonces |= {one.seal("anna", b"x")[1][:12] for _ in range(50)}
    assert len(nonces) == 100


def test_memory_is_bounded(tmp_path):
    keys = SubjectKeys(tmp_path)
    sealing = Sealing(keys, 0.0, limit=2)
    for number in range(5):
        subject, _ = sealing.seal(f"c{number}", b"x")
        assert isinstance(Sealed(subject, b""), Sealed)
    assert len(sealing._known) == 2
