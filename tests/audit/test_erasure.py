"""Erasing a person from a chain that stays as provable as it was."""

from __future__ import annotations

import msgspec
import pytest

from gatewayd.audit import erasure
from gatewayd.audit.erasure import erase
from gatewayd.audit.keys import FOLDER
from gatewayd.audit.record import Personal, Sealed, decode_call
from gatewayd.audit.sealing import Sealing
from gatewayd.audit.subjects import SubjectKeys, subject_of
from tests.support.evidence import Bench, call, only_files
from tests.support.records import calls_in


@pytest.fixture
def bench(tmp_path):
    """A chain with a call of acme, and one of another consumer."""
    made = Bench(tmp_path)
    sealing = Sealing(SubjectKeys(tmp_path), 0.0)
    chain, _ = made.chain()
    bodies = []
    for number, consumer in enumerate(("acme", "other"), 1):
        sealed = sealing.seal(consumer, msgspec.msgpack.encode(Personal(f"192.0.2.{number}")))
        whole = msgspec.structs.replace(decode_call(call(number)), sealed=Sealed(*sealed))
        bodies.append(msgspec.msgpack.encode(whole))
    data = chain.open(1) + chain.append(bodies) + chain.head(2, end=True)
    made.path(1).write_bytes(data)
    return made


def opened(bench):
    keys = SubjectKeys(bench.state)
    return [keys.open(each.sealed) for each in calls_in(bench.state)]


def test_what_was_sealed_is_noise_and_the_chain_as_valid_as_before(bench):
    assert [each.client for each in opened(bench)] == ["192.0.2.1", "192.0.2.2"]
    before = bench.path(1).read_bytes()
    assert erase(bench.state, "acme") == subject_of("acme", 0.0)
    assert opened(bench) == [None, Personal("192.0.2.2")]
    assert bench.path(1).read_bytes() == before
    report = bench.verify(keys=only_files(bench), signer=bench.signer)
    assert (report.fine, report.chains[-1].signed) == (True, 2)


def test_it_leaves_a_mark_and_may_be_done_again(bench):
    for _ in range(2):
        subject = erase(bench.state, "acme")
    assert [path.name for path in (bench.state / FOLDER / "erased").iterdir()] == [subject.hex()]


def test_a_consumer_nobody_has_heard_of(tmp_path):
    (tmp_path / FOLDER).mkdir()
    erase(tmp_path, "nobody")
    assert len(list((tmp_path / FOLDER / "erased").iterdir())) == 1


def test_what_root_makes_is_the_daemons(bench, monkeypatch):
    given = []
    monkeypatch.setattr(erasure, "give_to_owner", lambda path: given.append(path.name))
    subject = erase(bench.state, "acme")
    assert given == ["subjects", subject[:1].hex(), "erased", subject.hex()]
