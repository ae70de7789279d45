"""What administrators do: one record each, durable, signed, in one chain that several processes share."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from gatewayd.audit import actions as module
from gatewayd.audit.actions import (
    Action,
    ActionError,
    Mark,
    Retired,
    act,
    anchor,
    change_key,
    decode_action,
    redacted,
    retire,
    user,
)
from gatewayd.audit.anchors import heads
from gatewayd.audit.frames import END, HEAD, OPENING, RECORD, TIP
from gatewayd.audit.keys import FOLDER, load_signer
from gatewayd.audit.segments import ACTIONS, hold
from tests.support.evidence import Bench
from tests.support.records import bodies_in


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def acted(bench):
    return [decode_action(body) for body in bodies_in(bench.folder(ACTIONS), bench.state)]


def kinds(bench, number):
    return [each.kind for each in bench.frames(number, ACTIONS)]


def test_an_action_is_signed_and_on_the_disk_when_it_returns(bench, monkeypatch):
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(
        os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size) or real(descriptor)
    )
    told = {"actor": "anna (1000)", "target": "acme", "before": {"id": "k1"}, "after": {"id": "k2"}, "reason": "leaked"}
    assert act(bench.state, "keys.rotate", **told, generation=7, wall=lambda: 1.5) == 1
    assert acted(bench) == [
        Action(1_500_000_000, "keys.rotate", "anna (1000)", "acme", {"id": "k1"}, {"id": "k2"}, "leaked", 7)
    ]
    assert synced[-1] == bench.path(1, ACTIONS).stat().st_size
    assert kinds(bench, 1) == [OPENING, RECORD, TIP, HEAD]
    assert bench.verify().fine


def test_actions_go_on_in_the_same_segment(bench):
    assert [act(bench.state, "one", actor="me") for _ in range(3)] == [1, 2, 3]
    assert kinds(bench, 1) == [OPENING, *[RECORD, TIP, HEAD] * 3]
    assert bench.verify().chains[0].signed == 3


def test_a_segment_ends_once_it_is_large(bench, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_SIZE", 300)
    for _ in range(3):
        act(bench.state, "one", actor="me", reason="r" * 300)
    assert [kinds(bench, number)[-1] for number in (1, 2, 3)] == [END, END, HEAD]
    assert bench.verify().fine


def test_what_a_crash_cut_off_stays_behind(bench):
    act(bench.state, "one", actor="me")
    path = bench.path(1, ACTIONS)
    path.write_bytes(path.read_bytes() + b"\0\0\0")
    act(bench.state, "two", actor="me")
    assert [each.action for each in acted(bench)] == ["one", "two"]
    report = bench.verify()
    assert (report.fine, report.chains[0].segments, report.chains[0].leftover) == (True, 2, 3)


def test_a_segment_that_somebody_changed_is_left_and_gone_on_from(bench):
    for _ in range(3):
        act(bench.state, "one", actor="me")
    data = bytearray(bench.path(1, ACTIONS).read_bytes())
    data[bench.frames(1, ACTIONS)[4].end - 1] ^= 1  # of the second record
    bench.path(1, ACTIONS).write_bytes(data)
    assert act(bench.state, "two", actor="me") == 2
    found = bench.first()
    assert (found.chain, found.segment, found.record, found.kind) == (ACTIONS, 1, 2, "changed")


def test_several_processes_share_the_chain(bench):
    script = (
        "import sys; from pathlib import Path; from gatewayd.audit.actions import act\n"
        "for number in range(5): act(Path(sys.argv[1]), f'{sys.argv[2]}.{number}', actor='me')"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(bench.state), name], stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    for each in started:
        assert each.communicate(timeout=60)[1] == b""
    names = [each.action for each in acted(bench)]
    assert sorted(names) == sorted(f"{name}.{number}" for name in ("one", "two") for number in range(5))
    assert bench.verify().fine


def test_whoever_keeps_it_locked_is_not_waited_for_for_ever(bench):
    lock = hold(bench.folder(ACTIONS), wait=True)
    with pytest.raises(ActionError, match=r"the action one cannot be put on record in .*: another process"):
        act(bench.state, "one", actor="me", patience=0.0)
    os.close(lock)
    act(bench.state, "one", actor="me", patience=0.0)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("short", [True, False])
def test_a_full_disk_leaves_the_chain_as_it_was(bench, monkeypatch, first, short):
    if not first:
        act(bench.state, "one", actor="me")
    before = sorted((path, path.read_bytes()) for path in bench.folder(ACTIONS).glob("*.seg"))
    real = os.write

    def full(descriptor, data):
        if short:
            return real(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    load_signer(bench.state)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ActionError, match="No space left"):
        act(bench.state, "two", actor="me")
    monkeypatch.undo()
    assert sorted((path, path.read_bytes()) for path in bench.folder(ACTIONS).glob("*.seg")) == before
    act(bench.state, "two", actor="me")
    assert bench.verify().fine


def test_a_key_that_cannot_be_read(bench):
    (bench.state / FOLDER / "signing.key").write_text("nothing")
    with pytest.raises(ActionError, match="no private key in PEM"):
        act(bench.state, "one", actor="me")


def test_nothing_secret_is_told():
    told = {"id": "k1", "hash": "h", "more": [{"pepper": "p", "scopes": ["a"]}], "key": b"k"}
    assert redacted(told) == {
        "id": "k1",
        "hash": "(redacted)",
        "more": [{"pepper": "(redacted)", "scopes": ["a"]}],
        "key": "(redacted)",
    }
    assert redacted(None) is None


def test_anchors_on_record(bench):
    bench.write([[3]])
    (head,) = heads(bench.state)
    anchor(bench.state, [head], actor="gatewayd")
    (action,) = acted(bench)
    assert (action.action, action.actor) == ("audit.anchor", "gatewayd")
    assert action.after == [["calls-0", 1, 3, bytes.fromhex(head.digest)]]
    assert Mark(*action.after[0]).records == 3


def test_retirements_on_record(bench):
    going = Retired(1, 1, 5, bytes(32), b"d" * 32)
    retire(bench.state, "calls-0", [going], actor="gatewayd", to="old")
    (action,) = acted(bench)
    assert (action.action, action.target, action.before) == ("audit.retire", "calls-0", "old")
    assert action.after == [[1, 1, 5, bytes(32), b"d" * 32]]


def test_a_new_signing_key_is_signed_for_by_the_old(bench):
    name = change_key(bench.state, actor="anna (1000)", reason="yearly")
    after = load_signer(bench.state)
    assert after.id == name != bench.signer.id
    assert {path.stem for path in (bench.state / FOLDER / "keys").iterdir()} == {name, bench.signer.id}
    act(bench.state, "one", actor="me")
    made, one = acted(bench)
    assert (made.target, made.before, made.after) == (name, bench.signer.id, after.public.public_bytes_raw())
    assert one.action == "one"


def test_a_key_that_nobody_can_sign_for_stays_out(bench):
    lock = hold(bench.folder(ACTIONS), wait=True)
    (bench.folder(ACTIONS) / "lock").chmod(0o600)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ActionError):
        patch.setattr(module, "_hold", lambda folder, patience: (_ for _ in ()).throw(OSError(1, "no")))
        change_key(bench.state, actor="me", reason="r")
    os.close(lock)
    assert load_signer(bench.state).id == bench.signer.id
    assert not list((bench.state / FOLDER).glob(".signing*"))


def test_users_of_the_system():
    assert user().endswith(f" ({os.getuid()})")
    assert user(0) == "root (0)"
    assert user(4_000_000_000) == "unknown (4000000000)"
