"""Keys for request signatures: the vectors of RFC 9421, and keys that are not what they should be."""

from __future__ import annotations

import base64
import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gatewayd.identity.signature_keys import ALGORITHMS, check_of
from tests.identity import rfc9421


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_the_signed_reply_of_the_rfc():
    check = check_of("ecdsa-p256-sha256", rfc9421.P256)
    signature = base64.b64decode(rfc9421.REPLY_SIGNATURE)
    assert check(signature, rfc9421.REPLY_BASE)
    assert not check(signature, rfc9421.REPLY_BASE + b" ")
    assert not check(signature[:-1], rfc9421.REPLY_BASE)
    assert not check(bytes(64), rfc9421.REPLY_BASE)
    assert not check(b"", rfc9421.REPLY_BASE)


def test_an_ecdsa_signature_has_one_form():
    key = ec.generate_private_key(ec.SECP256R1())
    assert not check_of("ecdsa-p256-sha256", pem(key))(key.sign(b"x", ec.ECDSA(hashes.SHA256())), b"x")


def test_both_kinds_of_rsa():
    key = rsa.generate_private_key(65537, 2048)
    old, new = check_of("rsa-v1_5-sha256", pem(key)), check_of("rsa-pss-sha512", pem(key))
    first = key.sign(b"x", padding.PKCS1v15(), hashes.SHA256())
    second = key.sign(b"x", padding.PSS(padding.MGF1(hashes.SHA512()), 64), hashes.SHA512())
    short = key.sign(b"x", padding.PSS(padding.MGF1(hashes.SHA512()), 20), hashes.SHA512())
    assert [check(each, b"x") for each in (first, second, short) for check in (old, new)] == [
        *(True, False),
        *(False, True),
        *(False, False),
    ]


def test_secrets_as_they_are_and_in_base64():
    secret = "0123456789abcdef0123456789abcdef"
    made = hmac.digest(secret.encode(), b"x", "sha256")
    for text in (secret, "base64:" + base64.b64encode(secret.encode()).decode()):
        assert check_of("hmac-sha256", text)(made, b"x")
        assert not check_of("hmac-sha256", text)(made, b"y")
        assert not check_of("hmac-sha256", text)(made[:16], b"x")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("key", ["RSA", "P256", "ED25519", "ED25519_PRIVATE"])
def test_a_key_is_for_its_own_algorithms(algorithm, key):
    fitting = {"rsa-v1_5-sha256": "RSA", "rsa-pss-sha512": "RSA", "ecdsa-p256-sha256": "P256", "ed25519": "ED25519"}
    if fitting.get(algorithm) == key:
        check_of(algorithm, getattr(rfc9421, key))
    elif algorithm != "hmac-sha256":
        with pytest.raises(ValueError):
            check_of(algorithm, getattr(rfc9421, key))


def test_a_public_key_is_no_secret():
    """Or whoever knows it could sign: the oldest confusion of all."""
    with pytest.raises(ValueError, match="public"):
        check_of("hmac-sha256", rfc9421.RSA)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("hmac-sha256", "too-short"),
        ("hmac-sha256", "base64:" + "A" * 20),
        ("hmac-sha256", "base64:!!!"),
        ("hmac-sha1", "x" * 40),
        ("none", ""),
        ("ed25519", "not a key at all"),
        ("ed25519", ""),
        ("rsa-pss-sha512", pem(rsa.generate_private_key(65537, 1024))),
        ("ecdsa-p256-sha256", pem(ec.generate_private_key(ec.SECP384R1()))),
    ],
)
def test_weak_or_wrong_keys(algorithm, key):
    with pytest.raises(ValueError) as caught:
        check_of(algorithm, key)
    assert not key or key not in str(caught.value)
