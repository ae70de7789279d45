"""`gatewayd keys`: what it prints, what it stores, and that what it stores is what workers take."""

from __future__ import annotations

import json
import re
import time

import pytest
from click.testing import CliRunner

from gatewayd.audit.actions import decode_action, user
from gatewayd.cli.commands import cli
from gatewayd.config.load import load
from gatewayd.config.units import Moment
from gatewayd.errors import GatewaydError
from gatewayd.identity import api_keys, last_use
from gatewayd.identity.consumer_source import open_consumers
from tests.support.records import bodies_in

PEPPER = "p" * 32
CONF = """\
[gateway]
state_dir = "state"
[identity]
pepper = "{pepper}"
consumers_file = "{file}"
[listeners.http]
address = "127.0.0.1:0"
[consumers.own]
keys = [{{ id = "mine", hash = "hmac-sha256:{hash}", expires = 2020-01-01 }}]
"""
FORM = re.compile(r"gw_live_[0-9A-Za-z]{32}_[0-9a-f]{8}")


class Desk:
    """A configuration, and `gatewayd keys` on it."""

    def __init__(self, folder):
        self.folder = folder
        self.write()

    def write(self, pepper=PEPPER, file="consumers.jsonl"):
        (self.folder / "conf.toml").write_text(CONF.format(pepper=pepper, file=file, hash="0b" * 32))

    def run(self, *words, stdin="", code=0):
        result = CliRunner().invoke(cli, ["-c", f"{self.folder}/conf.toml", "keys", *words], input=stdin)
        if isinstance(result.exception, GatewaydError):
            return f"error: {result.exception}"
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout

    def new(self, *words):
        return self.run("new", *words).strip()

    def file(self):
        return (self.folder / "consumers.jsonl").read_text()

    def keys(self, consumer="acme"):
        tables = [json.loads(line) for line in self.file().splitlines()]
        return next(table for table in tables if table["id"] == consumer)["keys"]

    def found(self, key):
        """The credential that workers find for a key."""
        document = load(f"{self.folder}/conf.toml").document
        return open_consumers(document, None).by_credential("key", api_keys.hasher(PEPPER)(key.encode()))

    def rows(self, *words):
        lines = [line.split() for line in self.run("list", *words).splitlines()]
        return [line for line in lines if line and line[0] not in ("consumer",) and "─" not in line[0]]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def near(text, seconds):
    return abs(Moment.parse(text) - time.time() - seconds) < 60


def test_a_new_key_is_printed_once_and_never_stored(desk):
    key = desk.new("acme", "--create")
    assert FORM.fullmatch(key)
    (stored,) = desk.keys()
    assert stored["hint"] == key[-4:]
    assert near(stored["created"], 0)
    assert key not in desk.file()
    assert key[8:40] not in desk.file() + desk.run("list")
    assert desk.found(key).consumer.id == "acme"


def test_what_a_key_may_and_how_long(desk):
    desk.new("acme", "--create", "--id", "first", "--scope", "a", "--scope", "b", "--expires", "90d")
    desk.new("acme", "--not-before", "2031-01-01", "--expires", "2032-01-31T12:00:00+01:00")
    first, second = desk.keys()
    assert (first["id"], first["scopes"]) == ("first", ["a", "b"])
    assert near(first["expires"], 90 * 86_400)
    assert (second["not_before"], second["expires"]) == ("2031-01-01T00:00:00Z", "2032-01-31T11:00:00Z")


def test_what_cannot_be_is_said_and_changes_nothing(desk):
    desk.new("acme", "--create", "--id", "k")
    before = desk.file()
    assert "there is no consumer bert; --create makes one" in desk.run("new", "bert")
    assert "has a key called k already" in desk.run("new", "acme", "--id", "k")
    assert "not a valid value" in desk.run("new", "acme", "--id", "k k")
    assert desk.run("new", "acme", "--expires", "soon", code=2) == ""
    assert "allowed: 1 to 64 letters" in desk.run("new", "no id", "--create")
    assert "allowed: 1 to 64 letters" in desk.run("import", "no id", "--create", stdin="elsewhere-0123456789")
    assert "would have expired 2020-01-01" in desk.run("new", "acme", "--expires", "2020-01-01")
    assert "has no key called x" in desk.run("revoke", "acme", "x")
    assert "there is no consumer bert" in desk.run("rotate", "bert", "x")
    assert desk.file() == before


def test_a_revoked_key_is_found_no_more_and_stays_on_the_list(desk):
    key = desk.new("acme", "--create", "--id", "k")
    desk.run("revoke", "acme", "k")
    assert desk.found(key) is None
    assert near(desk.keys()[0]["revoked"], 0)
    assert "was revoked" in desk.run("revoke", "acme", "k")
    assert "is revoked already" in desk.run("rotate", "acme", "k")


def test_rotation_leaves_two_live_keys_for_a_while(desk):
    old = desk.new("acme", "--create", "--id", "k", "--scope", "a", "--expires", "30d")
    fresh = desk.run("rotate", "acme", "k", "--grace", "7d").strip()
    first, second = desk.keys()
    assert FORM.fullmatch(fresh)
    assert near(first["grace_until"], 7 * 86_400)
    assert second["scopes"] == ["a"]
    assert near(second["expires"], 30 * 86_400)
    assert "grace_until" not in second
    assert (desk.found(old).id, desk.found(fresh).id) == ("k", second["id"])
    assert desk.found(old).data["grace_until"] == Moment.parse(first["grace_until"])
    assert "is replaced already" in desk.run("rotate", "acme", "k")


def test_keys_that_exist_are_taken_in(desk):
    ours, hashed = api_keys.new_key("live"), api_keys.stored(api_keys.hasher(PEPPER)(b"hashed-0123456789"))
    desk.run("import", "--create", stdin=f"acme elsewhere-0123456789\nbert {ours}\n\n")
    desk.run("import", "bert", stdin=f"{hashed}\n")
    assert desk.found("elsewhere-0123456789").consumer.id == "acme"
    assert desk.found(ours).consumer.id == "bert"
    assert desk.found("hashed-0123456789").consumer.id == "bert"
    assert "elsewhere" not in desk.file()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("acme elsewhere-0123456789\nacme short", "line 2: no key"),
        ("acme gw_live_0123456789abcdef", "line 1: no key"),
        ("acme hmac-sha256:12", 'line 1".hash: not a valid value'),
        ("elsewhere-0123456789", "line 1: a consumer and a key is wanted"),
        ("acme elsewhere-0123456789\nacme elsewhere-0123456789", "line 2: this key is known already"),
    ],
)
def test_an_import_is_whole_or_not_at_all_and_shows_no_key(desk, lines, message):
    said = desk.run("import", "--create", stdin=lines)
    assert message in said
    assert "elsewhere" not in said
    assert "0123456789abcdef" not in said
    assert desk.file() == ""


def test_the_list_says_how_each_key_is(desk):
    for name in ("fine", "later", "old", "gone"):
        desk.new("acme", "--create", "--id", name, *(["--not-before", "1d"] if name == "later" else []))
    desk.run("revoke", "acme", "gone")
    desk.run("rotate", "acme", "old", "--grace", "1d")
    rows = {row[1]: row for row in desk.rows()}
    assert [rows[name][3] for name in ("fine", "gone", "old")] == ["valid", "revoked", "replaced,"]
    assert rows["mine"] == ["own", "mine", "expired", "2020-01-01T00:00:00Z"]
    assert rows["later"][3:5] == ["valid", "from"]
    assert {row[0] for row in desk.rows("acme")} == {"acme"}


def test_an_empty_list_says_so(desk):
    result = CliRunner().invoke(cli, ["-c", f"{desk.folder}/conf.toml", "keys", "list", "nobody"])
    assert (result.stdout, result.stderr) == ("", "there is no key of nobody\n")


def test_a_time_that_is_none_is_told_both_ways_to_say_one(desk):
    result = CliRunner().invoke(cli, ["-c", f"{desk.folder}/conf.toml", "keys", "new", "acme", "--expires", "soon"])
    assert "a time with its zone" in result.stderr
    assert "a duration" in result.stderr


def test_the_list_knows_the_last_use(desk, monkeypatch):
    key = desk.new("acme", "--create")
    digest = api_keys.hasher(PEPPER)(key.encode())
    monkeypatch.setattr(last_use, "read", lambda folder: {digest[:12]: 500_000} if folder.name == "state" else {})
    assert desk.rows("acme")[0][-1] == "2027-01-15T08:00"


def test_keys_of_the_configuration_itself_have_to_be_edited_there(desk):
    result = CliRunner().invoke(cli, ["-c", f"{desk.folder}/conf.toml", "keys", "new", "own", "--id", "k"])
    assert FORM.fullmatch(result.stdout.strip())
    assert "[[consumers.own.keys]]" in result.stderr
    assert result.stdout.strip() not in result.stderr
    assert "edit [consumers.own] there" in desk.run("revoke", "own", "mine")
    assert not (desk.folder / "consumers.jsonl").exists()


def test_without_a_file_or_a_pepper_there_is_nothing_to_do(desk):
    desk.write(file="")
    assert "names no identity.consumers_file" in desk.run("new", "acme")
    desk.write(pepper="short")
    assert "identity.pepper is missing" in desk.run("new", "acme")


def test_what_comes_next_is_said(desk):
    result = CliRunner().invoke(cli, ["-c", f"{desk.folder}/conf.toml", "keys", "new", "acme", "--create"])
    assert "gatewayd reload" in result.stderr
    assert "shown this once" in result.stderr


@pytest.fixture
def recorded(desk):
    """A desk whose configuration has the audit on."""
    conf = desk.folder / "conf.toml"
    conf.write_text(conf.read_text() + "[audit]\nenabled = true\n")
    return desk


def acted(desk):
    state = desk.folder / "state"
    return [decode_action(body) for body in bodies_in(state / "audit" / "actions", state)]


def test_what_is_done_to_keys_goes_on_record(recorded):
    recorded.new("acme", "--create", "--id", "one", "--reason", "first partner")
    recorded.run("rotate", "acme", "one", "--reason", "yearly")
    recorded.run("revoke", "acme", "one", "--reason", "leaked")
    recorded.run("import", "acme", stdin="hmac-sha256:" + "1c" * 32 + "\n")
    made, rotated, revoked, imported = acted(recorded)
    two, three = (key["id"] for key in recorded.keys()[1:])
    assert [(each.action, each.reason) for each in (made, rotated, revoked, imported)] == [
        ("keys.new", "first partner"),
        ("keys.rotate", "yearly"),
        ("keys.revoke", "leaked"),
        ("keys.import", ""),
    ]
    assert {each.target for each in acted(recorded)} == {"acme"}
    assert {each.actor for each in acted(recorded)} == {user()}
    assert (made.after["id"], rotated.before["id"], rotated.after["id"]) == ("one", "one", two)
    assert ("revoked" in revoked.before, "revoked" in revoked.after) == (False, True)
    assert (imported.after["count"], imported.after["first"][0]["id"]) == (1, three)


def test_no_key_and_no_hash_goes_on_record(recorded):
    key = recorded.new("acme", "--create")
    (segment,) = (recorded.folder / "state" / "audit" / "actions").glob("*.seg")
    stored = recorded.keys()[0]["hash"].removeprefix("hmac-sha256:")
    assert not [secret for secret in (key, stored, PEPPER) if secret.encode() in segment.read_bytes()]


@pytest.mark.parametrize("words", [["new", "acme", "--create"], ["revoke", "acme", "one"], ["rotate", "acme", "one"]])
def test_nothing_is_done_to_keys_that_cannot_be_recorded(recorded, words):
    recorded.new("acme", "--create", "--id", "one")
    before = recorded.file()
    (recorded.folder / "state" / "audit" / "signing.key").write_text("nothing")
    assert "not done, for it cannot be put on record" in recorded.run(*words)
    assert recorded.file() == before
