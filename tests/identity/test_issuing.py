"""Tokens issued: what they say, that they can be checked by others, and for how long one is sent."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwk

from gatewayd.core.clock import FakeClock
from gatewayd.errors import ConfigError
from gatewayd.identity import issuing
from gatewayd.identity.issuing import REMEMBERED, Issuer, load_keys
from gatewayd.identity.jose import members, take_apart
from gatewayd.identity.jwk import key_set
from tests.support.callers import known

KINDS = {"EdDSA": ed25519.Ed25519PrivateKey.generate, "ES256": lambda: ec.generate_private_key(ec.SECP256R1())}
ALL = ["name", "groups", "plan", "labels", "scope", "method", "credential"]


def pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def write(tmp_path):
    """A function that writes a file and gives its path."""
    counter = iter(range(100))

    def write(data):
        path = tmp_path / f"{next(counter)}.pem"
        path.write_bytes(data)
        return str(path)

    return write


def issuer(paths, clock=None, told=ALL, lifetime=60.0):
    return Issuer(load_keys(paths), "gw", lifetime, told, clock or FakeClock())


@pytest.mark.parametrize("algorithm", KINDS)
def test_a_token_is_checked_with_what_is_published(write, algorithm):
    made = issuer([write(pem(KINDS[algorithm]()))])
    token = take_apart(made.token(known("alice"), "claims"))
    keys = key_set(json.loads(made.key_set))
    assert (token.header.algorithm, token.header.type) == (algorithm, "jwt")
    assert keys.signer(token.header.kid, algorithm, token.signature, token.content) is not None
    assert keys.signer(token.header.kid, algorithm, token.signature, token.content + b"x") is None


@pytest.mark.parametrize("algorithm", KINDS)
def test_keys_are_called_by_their_thumbprint(write, algorithm):
    (key,) = json.loads(issuer([write(pem(KINDS[algorithm]()))]).key_set)["keys"]
    assert key["kid"] == jwk.JWKRegistry.import_key(key).thumbprint()
    assert not {"d", "k"} & key.keys()
    assert (key["alg"], key["use"]) == (algorithm, "sig")


def test_what_a_token_says(write):
    clock = FakeClock(wall=1_800_000_000.7)
    alice = known("alice", name="Ä", groups=["b", "a"], labels={"x": "y"}, scopes=["w", "r"], credential="k1")
    path = write(pem(KINDS["EdDSA"]()))
    said = members(take_apart(issuer([path], clock).token(alice, "claims")).payload)
    assert said == {
        "iss": "gw",
        "sub": "alice",
        "aud": "claims",
        "iat": 1_800_000_000,
        "exp": 1_800_000_060,
        "name": "Ä",
        "groups": ["a", "b"],
        "labels": {"x": "y"},
        "scope": "r w",
        "method": "api_key",
        "credential": "k1",
    }
    bare = members(take_apart(issuer([path], clock, told=[]).token(alice, "claims")).payload)
    assert bare.keys() == {"iss", "sub", "aud", "iat", "exp"}


def test_a_token_is_sent_for_half_its_life(write):
    clock = FakeClock()
    made = issuer([write(pem(KINDS["EdDSA"]()))], clock)
    first = made.token(known(), "claims")
    clock.advance(29.9)
    assert made.token(known(), "claims") is first
    clock.advance(0.1)
    assert made.token(known(), "claims") != first


def test_nobody_gets_the_token_of_another(write):
    made = issuer([write(pem(KINDS["EdDSA"]()))])
    asked = [
        (known("a"), "x"),
        (known("a"), "y"),
        (known("b"), "x"),
        (known("a", scopes=["r"]), "x"),
        (known("a", credential="k"), "x"),
        (known("a", method="jwt"), "x"),
        (known("a", groups=["g"]), "x"),
        (known("a", name="N"), "x"),
    ]
    said = [take_apart(made.token(*each)).payload for each in asked]
    assert len(set(said)) == len(said)
    again = [take_apart(made.token(*each)).payload for each in asked]
    assert again == said


def test_tokens_at_hand_are_bounded(write, monkeypatch):
    monkeypatch.setattr(issuing, "REMEMBERED", 16)
    made = issuer([write(pem(KINDS["EdDSA"]()))])
    for number in range(40):
        made.token(known(f"c{number}"), "x")
    assert len(made._tokens) == 16
    assert REMEMBERED > 16


def test_rotation(write):
    old, new = KINDS["ES256"](), KINDS["EdDSA"]()
    before = issuer([write(pem(old)), write(pem(new))])
    after = issuer([write(pem(new)), write(public_pem(old))])
    for made in (before, after):
        published = key_set(json.loads(made.key_set))
        for issued in (before, after):
            token = take_apart(issued.token(known(), "x"))
            assert published.signer(token.header.kid, token.header.algorithm, token.signature, token.content)
    assert take_apart(before.token(known(), "x")).header.algorithm == "ES256"
    assert take_apart(after.token(known(), "x")).header.algorithm == "EdDSA"


def test_keys_that_cannot_be_used(write, tmp_path):
    secret = pem(KINDS["EdDSA"](), BestAvailableEncryption(b"x"))
    wrong = [secret, b"-----BEGIN PRIVATE KEY-----\nnonsense\n", pem(rsa.generate_private_key(65537, 2048)), b""]
    wrong.append(pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(ConfigError) as caught:
        load_keys([*(write(each) for each in wrong), str(tmp_path / "none.pem")])
    assert [fault.path for fault in caught.value.faults] == [f"keys[{at}]" for at in range(6)]
    assert all("openssl genpkey" in fault.hint for fault in caught.value.faults)
    assert "nonsense" not in str(caught.value)


def test_which_keys_may_stand_together(write):
    key = KINDS["EdDSA"]()
    for paths, message in (
        ([], "no key to sign with"),
        ([write(public_pem(key))], "a public key cannot sign"),
        ([write(pem(key)), write(public_pem(key))], "twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_keys(paths)
