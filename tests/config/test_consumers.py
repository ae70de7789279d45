"""Consumers as they are written down."""

from __future__ import annotations

import msgspec
import pytest

from gatewayd.config.consumers import ApiKey, CertificateName, Consumer, ListedConsumer, Login, SignatureKey
from gatewayd.config.convert import convert_table
from gatewayd.config.units import from_plain, to_plain

HASH = "hmac-sha256:" + "0a" * 32
ARGON = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b7dWRWJTmaaJObG"


def faults(kind, **table):
    return [(fault.path, fault.message) for fault in convert_table(kind, table, "it")[1]]


def test_a_line_is_a_table_with_its_id():
    line = b'{"id":"acme","groups":["gold"],"keys":[{"id":"k","hash":"%s","expires":"2027-01-31"}]}' % HASH.encode()
    found = msgspec.json.decode(line, type=ListedConsumer, dec_hook=from_plain)
    assert (found.id, found.groups, found.keys[0].expires) == ("acme", ["gold"], 1801353600.0)
    assert msgspec.json.decode(msgspec.json.encode(found, enc_hook=to_plain))["keys"] == [
        {"id": "k", "hash": HASH, "expires": "2027-01-31T00:00:00Z"}
    ]


@pytest.mark.parametrize(
    ("kind", "table", "path"),
    [
        (ApiKey, {"id": "k"}, "it.hash"),
        (ApiKey, {"id": "k", "hash": "gw_live_key"}, "it.hash"),
        (ApiKey, {"id": "k", "hash": HASH.upper()}, "it.hash"),
        (ApiKey, {"id": "k k", "hash": HASH}, "it.id"),
        (ApiKey, {"id": "k", "hash": HASH, "hint": "12345"}, "it.hint"),
        (ApiKey, {"id": "k", "hash": HASH, "expries": "2027-01-31"}, "it.expries"),
        (ApiKey, {"id": "k", "hash": HASH, "expires": "soon"}, "it.expires"),
        (Login, {"username": "a:b", "hash": ARGON}, "it.username"),
        (Login, {"username": "a", "hash": "secret"}, "it.hash"),
        (CertificateName, {"fingerprint": "AB"}, "it.fingerprint"),
        (CertificateName, {"san": "a.example"}, "it.san"),
        (SignatureKey, {"keyid": "a", "algorithm": "ed25519", "key": ""}, "it.key"),
        (SignatureKey, {"keyid": "a", "algorithm": "hmac-sha1", "key": "k"}, "it.algorithm"),
        (Consumer, {"groups": "gold"}, "it.groups"),
        (Consumer, {"labels": {"a": "b\n"}}, "it.labels.a"),
        (ListedConsumer, {}, "it.id"),
    ],
)
def test_what_is_wrong_is_named(kind, table, path):
    assert [where for where, _ in faults(kind, **table)] == [path]


def test_what_is_right_is_taken():
    assert faults(Login, username="anna", hash=ARGON) == []
    assert faults(CertificateName, san="uri:spiffe://a/b") == []
    assert faults(ApiKey, id="k", hash=HASH, expires="2027-01-31T00:00:00+01:00", scopes=["a b"]) == []


def test_nothing_secret_is_shown():
    shown = repr(
        Consumer(name="Acme", keys=[ApiKey("k", HASH)], signatures=[SignatureKey("i", "hmac-sha256", "geheim")])
    )
    assert "Acme" in shown
    assert "0a0a" not in shown
    assert "geheim" not in shown
