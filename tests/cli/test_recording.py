"""What commands put on record, and what they refuse if they cannot."""

from __future__ import annotations

import pytest

from gatewayd.audit.actions import decode_action, user
from gatewayd.audit.keys import FOLDER
from gatewayd.audit.segments import ACTIONS
from gatewayd.cli.recording import of_key, record
from gatewayd.config.model import Audit, Document, Gateway
from gatewayd.errors import GatewaydError
from tests.support.records import bodies_in


def document(state, **audit):
    return Document(gateway=Gateway(state_dir=str(state)), audit=Audit(**{"enabled": True, **audit}))


def acted(state):
    return [decode_action(body) for body in bodies_in(state / FOLDER / ACTIONS, state)]


def test_who_did_what_and_why(tmp_path):
    record(document(tmp_path), "keys.revoke", "acme", {"id": "k1"}, {"id": "k1", "revoked": "now"}, "leaked")
    (action,) = acted(tmp_path)
    assert (action.action, action.actor, action.target, action.reason) == ("keys.revoke", user(), "acme", "leaked")
    assert (action.before, action.after) == ({"id": "k1"}, {"id": "k1", "revoked": "now"})


def test_nothing_where_nothing_is_recorded(tmp_path):
    record(document(tmp_path, enabled=False), "keys.revoke", "acme")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_recorded_is_refused_or_warned_of(tmp_path, capsys):
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(GatewaydError, match=r"not done, for it cannot be put on record: the action keys\.new"):
        record(document(tmp_path), "keys.new", "acme")
    record(document(tmp_path, on_full="drop"), "keys.new", "acme")
    assert capsys.readouterr().err.startswith("warning: the action keys.new cannot be put on record")


def test_of_a_key_nothing_is_told_that_opens_anything():
    table = {"id": "k1", "hash": "hmac-sha256:00", "hint": "gw_live_ab", "scopes": [], "expires": "2027-01-01"}
    assert of_key(table) == {"id": "k1", "hint": "gw_live_ab", "expires": "2027-01-01"}
