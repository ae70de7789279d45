"""Records as JSON has them."""

from __future__ import annotations

import os

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gatewayd.audit.actions import Action
from gatewayd.audit.plain import moment, plain, told
from gatewayd.audit.record import Captured, Personal, Sealed, decode_call
from gatewayd.audit.subjects import SubjectKeys, subject_of
from tests.support.evidence import BEGAN, call


def test_times_are_rfc_3339():
    assert moment(BEGAN * 10**9 + 123_456_000) == "2027-01-15T08:00:00.123456Z"
    assert moment(0) == ""


def test_bytes_are_text_where_they_are():
    found = plain({"a": [b"text", b"\xff\0", b"a\nb"], 3: (1, None)})
    assert found == {"a": ["text", "ff00", "610a62"], "3": [1, None]}


def test_a_call():
    found = told("calls-0", call(3))
    assert (found["at"], found["request_id"], found["status"]) == ("2027-01-15T08:00:03.000000Z", "req-3", 200)
    assert found["operation"]["template"] == "/v1/policies/{id}"
    assert (found["personal"], found["sealed"]) == (None, None)
    msgspec.json.encode(found)


def test_what_is_sealed_is_opened_where_its_key_is(tmp_path):
    keys = SubjectKeys(tmp_path)
    subject = subject_of("acme", 0.0)
    personal = Personal("192.0.2.1", "", [b"12345678"], "agent", Captured([(b"a", b"b")]))
    nonce = os.urandom(12)
    sealed = nonce + keys.cipher(subject).encrypt(nonce, msgspec.msgpack.encode(personal), None)
    body = msgspec.msgpack.encode(msgspec.structs.replace(decode_call(call(1)), sealed=Sealed(subject, sealed)))
    found = told("calls-0", body, keys)
    assert found["personal"]["client"] == "192.0.2.1"
    assert found["personal"]["captured"]["request_headers"] == [["a", "b"]]
    assert found["sealed"] == {"subject": subject.hex(), "opened": True}
    assert told("calls-0", body)["personal"] is None
    keys.destroy("acme")
    assert told("calls-0", body, keys)["sealed"]["opened"] is False
    assert isinstance(keys.cipher(subject), AESGCM)


def test_an_action():
    found = told("actions", msgspec.msgpack.encode(Action(10**9, "reload", "anna (1)", after={"generation": 2})))
    assert (found["at"], found["action"]) == ("1970-01-01T00:00:01.000000Z", "reload")
    assert found["after"] == {"generation": 2}


def test_what_cannot_be_read():
    assert "unreadable" in told("calls-0", b"?")
    assert "unreadable" in told("actions", b"\xff")
