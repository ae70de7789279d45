"""authentication: instances combined, by the configuration alone."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from argon2 import PasswordHasher

from gatewayd import policies
from gatewayd.config.load import decode
from gatewayd.errors import ConfigError
from gatewayd.gateway.build import Ground, build
from tests.support.edge import EdgeThread
from tests.support.raw import Caller
from tests.support.signing import SECRET, sign

HASHER = PasswordHasher(1, 8, 1)
POLICIES = {
    "passwords": {"policy": "basic_auth"},
    "signatures": {"policy": "http_signature", "nonce": "optional", "max_age": "1000d"},
    "allowed": {"policy": "acl", "allow": [{"consumers": ["alice", "guest"]}]},
}
KEY = {"algorithm": "hmac-sha256", "key": SECRET}
CONSUMERS = {
    "alice": {
        "basic": [{"username": "alice", "hash": HASHER.hash("secret")}],
        "signatures": [{"keyid": "acme-1", **KEY}],
    },
    "bob": {"signatures": [{"keyid": "bob-1", **KEY}]},
    "guest": {},
}


def document(**options):
    return {
        "routes": {"all": {"path": "/*", "reply": {}, "policies": ["authentication", "allowed"]}},
        "policies": {**POLICIES, "authentication": options},
        "consumers": CONSUMERS,
    }


def password(text):
    return "authorization: Basic " + base64.b64encode(text.encode()).decode()


def signature(keyid="acme-1", wrong=False):
    import time

    values = {"@method": "GET", "@authority": "test", "@path": "/x" if wrong else "/", "@query": "?"}
    return [f"{name.decode()}: {value.decode()}" for name, value in sign(values, int(time.time()), keyid=keyid)]


RIGHT, WRONG = password("alice:secret"), password("alice:wrong")


def codes(options, *requests):
    """The codes of refusals, or "" where there is none."""
    with EdgeThread(document(**options)) as edge, Caller(edge.port) as caller:
        answers = [caller.ask("/", *headers) for headers in requests]
    return [answer.code for answer in answers], answers


def test_any_of():
    found, answers = codes(
        {"any_of": ["signatures", "passwords"]},
        [RIGHT],
        signature(),
        [WRONG],
        [*signature(wrong=True), RIGHT],
        [*signature(), WRONG],
        signature("bob-1"),
        [],
    )
    assert found == ["", "", "credential_invalid", "credential_invalid", "", "not_allowed", "credential_missing"]
    assert answers[-1].headers["www-authenticate"]


def test_all_of():
    found, _ = codes(
        {"all_of": ["passwords", "signatures"]},
        [RIGHT, *signature()],
        [RIGHT],
        signature(),
        [RIGHT, *signature(wrong=True)],
        [WRONG, *signature()],
        [RIGHT, *signature("bob-1")],
        [],
    )
    assert found == [
        "",
        "credential_missing",
        "credential_missing",
        "credential_invalid",
        "credential_invalid",
        "identity_conflict",
        "credential_missing",
    ]


def test_guests_show_nothing():
    found, _ = codes({"any_of": ["passwords"], "anonymous": "guest"}, [], [RIGHT], [WRONG], ["authorization: Bearer x"])
    assert found == ["", "", "credential_invalid", ""]


def test_all_challenges_are_told():
    snapshot = build(decode(checked(any_of=["passwords", "signatures"])), Ground())
    hooks = {link.instance: link.hooks for link in snapshot.chains["all"]}["authentication"]
    assert hooks.challenges == (b'Basic realm="gatewayd", charset="UTF-8"', b'Signature realm="gatewayd"')
    assert hooks.explain == "any of: passwords, signatures"
    snapshot = build(decode(checked(all_of=["passwords"], anonymous="guest")), Ground())
    assert snapshot.chains["all"][0].explain == "all of: passwords; without any: guest"


def checked(more=None, **options):
    made = document(**options)
    made["policies"] |= more or {}
    return {**made, "listeners": {"http": {"address": "127.0.0.1:0"}}}


@pytest.mark.parametrize(
    ("options", "more", "faults"),
    [
        ({}, {}, [("any_of", "either|named here")]),
        ({"any_of": ["passwords"], "all_of": ["passwords"]}, {}, [("any_of", "named here")]),
        ({"any_of": ["nobody"]}, {}, [("any_of[0]", "no such instance")]),
        ({"any_of": ["passwords", "allowed"]}, {}, [("any_of[1]", "does not find out who calls")]),
        ({"any_of": ["authentication"]}, {}, [("any_of[0]", "leads back to itself")]),
        ({"any_of": ["passwords"], "anonymous": "nobody"}, {}, [("anonymous", "no consumer")]),
    ],
)
def test_wrong_options(options, more, faults):
    with pytest.raises(ConfigError) as caught:
        build(decode(checked(more, **options)), Ground())
    found = [fault for fault in caught.value.faults if fault.path.startswith("policies.authentication")]
    assert [fault.path for fault in found] == [f"policies.authentication.{path}" for path, _ in faults]
    for fault, (_, message) in zip(found, faults, strict=True):
        assert any(part in fault.message for part in message.split("|"))


def test_a_member_that_is_wrong_itself():
    with pytest.raises(ConfigError) as caught:
        build(decode(checked({"passwords": {"policy": "basic_auth", "queue": -1}}, any_of=["passwords"])), Ground())
    assert [fault.path for fault in caught.value.faults][:2] == [
        "policies.passwords.queue",
        "policies.authentication.any_of[0]",
    ]


def test_what_a_member_tells_of_its_credential_is_told(monkeypatch):
    """Such as that a key will end."""
    real = policies.load("basic_auth")

    def build_with_reply(config, context):
        return replace(made(config, context), reply=lambda exchange, headers: headers.append((b"x-told", b"1")))

    made = real.build
    monkeypatch.setattr(real, "build", build_with_reply)
    _, answers = codes({"any_of": ["passwords", "signatures"]}, [RIGHT])
    assert answers[0].headers["x-told"] == "1"
