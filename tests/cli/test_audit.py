"""`gatewayd audit`: exit codes, what is printed, and that every part does what it says on real chains."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import msgspec
import pytest
from click.testing import CliRunner

from gatewayd.audit.actions import act, decode_action, user
from gatewayd.audit.keys import FOLDER, load_signer, pem_of
from gatewayd.audit.record import Personal, Sealed, decode_call
from gatewayd.audit.retention import go
from gatewayd.audit.sealing import Sealing
from gatewayd.audit.segments import ACTIONS
from gatewayd.audit.subjects import SubjectKeys, subject_of
from gatewayd.cli.commands import cli
from gatewayd.config.model import Audit
from gatewayd.config.units import Duration
from gatewayd.errors import GatewaydError
from tests.support.evidence import BEGAN, Bench, call
from tests.support.records import bodies_in

CONF = """\
[gateway]
state_dir = "state"
[listeners.http]
address = "127.0.0.1:0"
[audit]
enabled = true
"""


class Desk:
    """A configuration, a state directory with chains, and `gatewayd audit` on them."""

    def __init__(self, folder):
        self.folder = folder
        self.conf = folder / "conf.toml"
        self.conf.write_text(CONF)
        self.bench = Bench(folder / "state")
        self.bench.write([[3, 2], [4]])

    def run(self, *words, code=0):
        result = CliRunner().invoke(cli, ["-c", str(self.conf), "audit", *map(str, words)])
        if isinstance(result.exception, GatewaydError):
            return f"error: {result.exception}"
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    def break_record(self, number):
        self.bench.rewrite(1, lambda pieces: [piece.replace(b"req-%d" % number, b"req-X") for piece in pieces])

    def actions(self):
        folder = self.bench.folder(ACTIONS)
        return [decode_action(body) for body in bodies_in(folder, self.bench.state)]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_scripts_are_told_by_the_exit_status(desk):
    command = [sys.executable, "-m", "gatewayd", "-c", str(desk.conf), "audit", "verify"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    desk.break_record(4)
    assert subprocess.run(command, capture_output=True).returncode == 1


def test_what_is_fine(desk):
    said = desk.run("verify")
    assert "calls-0: 9 records, segments 1 to 2, proven up to 9" in said
    assert "fine: no record was changed" in said
    assert "note: the keys are those of the state directory" in said


def test_what_is_broken_is_named_and_exits_with_1(desk):
    desk.break_record(2)
    said = desk.run("verify", code=1)
    assert said.splitlines()[-1] == (
        "BROKEN. The first record in doubt is calls-0, segment 1, record 2 (2027-01-15T08:00:02.000000Z, request req-X)"
    )


def test_the_same_as_json(desk):
    desk.break_record(2)
    found = json.loads(desk.run("verify", "--json", code=1))
    assert found["fine"] is False
    finding = found["chains"][1]["findings"][0]
    assert (finding["segment"], finding["record"], finding["kind"]) == (1, 2, "changed")


def test_only_a_time_of_it(desk, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: BEGAN + 86_406.0)
    desk.break_record(2)
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(BEGAN + 6))
    said = desk.run("verify", "--from", since, "--to", "2100-01-01")
    assert "4 records read" in said
    desk.run("verify", "--to", since, code=1)
    assert "0 records read" in desk.run("verify", "--to", "2020-01-01")
    assert "4 records read" in desk.run("verify", "--from", "24h")
    desk.run("verify", "--from", "25h", code=1)
    desk.run("verify", "--from", "soon", code=2)


def test_with_a_key_from_elsewhere(desk, tmp_path):
    pem = tmp_path / "key.pem"
    pem.write_text(desk.run("key"))
    assert pem.read_bytes() == pem_of(desk.bench.signer.public)
    said = desk.run("verify", "--key", pem)
    assert "note:" not in said
    other = tmp_path / "other.pem"
    other.write_bytes(pem_of(load_signer(tmp_path / "elsewhere").public))
    assert "forged" in desk.run("verify", "--key", other, code=1)
    pem.write_text("nothing")
    assert desk.run("verify", "--key", pem) == f"error: {pem}: this is no public key in PEM"


def test_an_anchor_from_outside_shows_what_was_cut_off(desk, tmp_path):
    anchor = tmp_path / "anchor.json"
    anchor.write_text(desk.run("export"))
    assert "fine" in desk.run("verify", "--anchor", anchor)
    desk.bench.path(2).unlink()
    assert "fine" in desk.run("verify")
    assert "segment removed: calls-0, segment 2, record 6 (up to 9)" in desk.run("verify", "--anchor", anchor, code=1)
    anchor.write_text("{}")
    assert "this is no anchor" in desk.run("verify", "--anchor", anchor)


def test_a_copy_elsewhere_needs_no_configuration(desk, tmp_path):
    desk.conf.unlink()
    assert "fine" in desk.run("verify", "--state", desk.bench.state)
    assert "nothing is on record there" in desk.run("verify", "--state", tmp_path / "none")
    assert "nothing is on record there" in desk.run("export", "--state", tmp_path / "none")
    assert "not there, or not readable" in desk.run("key", "--state", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_retention_archived_is_verified_with_the_rest(desk, tmp_path):
    archive = tmp_path / "old"
    go(Audit(enabled=True, retention=Duration(1), archive=str(archive)), desk.bench.state, BEGAN + 10_000)
    said = desk.run("verify")
    assert "retired: 1 segments before them" in said
    assert "10 records read" in desk.run("verify", "--archive", archive)


def test_a_new_signing_key(desk):
    before = desk.bench.signer.id
    desk.run("rotate", "--reason", "yearly")
    assert load_signer(desk.bench.state).id != before
    (action,) = desk.actions()
    assert (action.action, action.actor, action.before, action.reason) == ("audit.key", user(), before, "yearly")
    desk.run("rotate", code=2)


def sealed(desk, number, consumer):
    made = Sealing(SubjectKeys(desk.bench.state), 0.0).seal(consumer, msgspec.msgpack.encode(Personal("192.0.2.7")))
    return msgspec.msgpack.encode(msgspec.structs.replace(decode_call(call(number)), sealed=Sealed(*made)))


def test_erasing_a_person_leaves_the_chain_as_valid_as_before(desk):
    chain, before = desk.bench.chain()
    data = (
        chain.open(desk.bench.at(9), before) + chain.append([sealed(desk, 10, "acme")]) + chain.head(desk.bench.at(10))
    )
    desk.bench.path(3).write_bytes(data)
    line = json.loads(desk.run("show", "calls-0", 3))
    assert (line["number"], line["personal"]["client"], line["sealed"]["opened"]) == (10, "192.0.2.7", True)
    subject = subject_of("acme", 0.0).hex()
    said = desk.run("erase", "acme", "--reason", "asked for it")
    assert said == f"what is sealed of acme (subject {subject}) can no longer be read\n"
    line = json.loads(desk.run("show", "calls-0", 3))
    assert (line["personal"], line["sealed"]) == (None, {"subject": subject, "opened": False})
    (action,) = desk.actions()
    assert (action.action, action.target, action.after) == ("audit.erase", "acme", {"subject": subject})
    assert "fine" in desk.run("verify")
    desk.run("erase", "acme", code=2)


def test_nobody_is_erased_where_that_cannot_be_recorded(desk):
    (desk.bench.state / FOLDER / "signing.key").write_text("nothing")
    assert "not done, for it cannot be put on record" in desk.run("erase", "acme", "--reason", "asked for it")
    assert not (desk.bench.state / FOLDER / "erased").exists()


def test_records_as_lines(desk, tmp_path):
    lines = [json.loads(line) for line in desk.run("show", "calls-0").splitlines()]
    assert [line["number"] for line in lines] == list(range(1, 10))
    assert (lines[5]["segment"], lines[5]["request_id"]) == (2, "req-6")
    act(desk.bench.state, "reload", actor="me", after={"generation": 2})
    (line,) = desk.run("show", "actions", 1).splitlines()
    assert (json.loads(line)["action"], json.loads(line)["after"]) == ("reload", {"generation": 2})
    archive = tmp_path / "old"
    go(Audit(enabled=True, retention=Duration(1), archive=str(archive)), desk.bench.state, BEGAN + 10_000)
    assert len(desk.run("show", "calls-0", "--archive", archive).splitlines()) == 9
    assert len(desk.run("show", "calls-0").splitlines()) == 4


@pytest.mark.parametrize("words", [["calls-7"], ["calls-0", 9]])
def test_what_is_not_there_cannot_be_shown(desk, words):
    assert "there is no such segment" in desk.run("show", *words)


def test_verifying_writes_nothing(desk):
    before = {path: path.stat().st_mtime_ns for path in desk.bench.state.rglob("*")}
    for command in ("verify", "export", "key"):
        desk.run(command)
    assert {path: path.stat().st_mtime_ns for path in desk.bench.state.rglob("*")} == before
