"""jwk: keys check what they are for, and nothing else."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, OKPKey

from gatewayd.identity.jose import Refused, take_apart
from gatewayd.identity.jwk import (
    ALGORITHMS,
    CANDIDATES,
    KEYS,
    PUBLIC,
    SECRET,
    KeySet,
    key_of,
    key_set,
    load_library,
    secret_key,
)
from tests.support.tokens import SECRET as SHARED
from tests.support.tokens import jwk_of, jwks, key_for, segment, token


def reason(function, *arguments):
    """Why it is refused, "" if it is not."""
    try:
        function(*arguments)
    except Refused as error:
        return error.reason
    return ""


def signer(keys, text):
    found = take_apart(text)
    return keys.signer(found.header.kid, found.header.algorithm, found.signature, found.content)


def published(algorithm, name="one", **members):
    return jwk_of(key_for(algorithm, name), kid="k1", **members)


@pytest.mark.parametrize("algorithm", PUBLIC)
@pytest.mark.parametrize("members", [{}, {"use": "sig"}, {"key_ops": ["verify"]}, {"use": "sig", "alg": "its own"}])
def test_a_key_checks_signatures_of_its_algorithm(algorithm, members):
    members = {name: algorithm if value == "its own" else value for name, value in members.items()}
    keys = key_set(jwks(published(algorithm, **members)))
    made = token(algorithm=algorithm)
    assert signer(keys, made) is keys.keys[0]
    content, _, signature = made.rpartition(b".")
    for wrong in (b"AAAA" + signature[4:], signature[:-4], b"", signature[4:] + b"AAAA"):
        assert reason(signer, keys, content + b"." + wrong) == "encoding" or not signer(keys, content + b"." + wrong)
    head, _, payload = content.partition(b".")
    assert signer(keys, head + b".AAAA" + payload + b"." + signature) is None


@pytest.mark.parametrize("algorithm", SECRET)
def test_a_secret_checks_what_is_signed_with_it(algorithm):
    keys = KeySet([secret_key(SHARED.encode())])
    for kid in (None, "whatever"):
        made = token(algorithm=algorithm, kid=kid)
        assert signer(keys, made) is keys.keys[0]
        assert signer(keys, made[:-4] + b"AAAA") is None


def test_another_curve_of_edwards():
    keys = key_set(jwks(jwk_of(key_for("EdDSA", "Ed448"), kid="k1")))
    assert signer(keys, token(algorithm="EdDSA", key=key_for("EdDSA", "Ed448")))
    assert not signer(keys, token(algorithm="EdDSA"))


@pytest.mark.parametrize("algorithm", PUBLIC)
def test_a_key_of_another_kind_or_curve_has_no_say(algorithm):
    for other in PUBLIC:
        keys = key_set(jwks(published(other)))
        fits = algorithm == other or {algorithm[:2], other[:2]} <= {"RS", "PS"}
        assert bool(keys.candidates("k1", algorithm)) is fits


@pytest.mark.parametrize(
    ("key", "said"), [("RS256", "PS256"), ("RS256", "RS384"), ("ES256", "ES384"), ("EdDSA", "ES256")]
)
def test_the_keys_own_algorithm_counts(key, said):
    jwk = published(key, alg=said)
    usable = reason(key_of, jwk) == ""
    assert usable is (key == "RS256")
    assert not key_set(jwks(jwk)).candidates("k1", key)


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"use": "enc"}, "key_use"),
        ({"use": None}, "key_use"),
        ({"key_ops": ["encrypt"]}, "key_use"),
        ({"key_ops": []}, "key_use"),
        ({"key_ops": "verify"}, "key_use"),
        ({"kid": 1}, "key_use"),
        ({"alg": "none"}, "key_algorithm"),
        ({"alg": None}, "key_algorithm"),
        ({"kty": "rsa"}, "key_kind"),
        ({"kty": None}, "key_kind"),
        ({"d": "AQAB"}, "key_kind"),
        ({"n": 1}, "key_kind"),
        ({"n": "ü"}, "key_kind"),
        ({"n": "A"}, "encoding"),
        ({"n": "AQAB"}, "key_weak"),
        ({"e": "AQ"}, "key_malformed"),
        ({"e": "Ag"}, "key_malformed"),
    ],
)
def test_keys_that_are_refused(members, why):
    assert reason(key_of, {**published("RS256"), **members}) == why


def test_weak_keys_are_refused():
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers().n
    assert reason(key_of, {**published("RS256"), "n": segment(small.to_bytes(128, "big")).decode()}) == "key_weak"
    for bits in (256, 384, 512):
        assert f"HS{bits}" in secret_key(b"x" * (bits // 8)).checks
        if bits > 256:
            assert f"HS{bits}" not in secret_key(b"x" * (bits // 8 - 1)).checks
    assert reason(secret_key, b"x" * 31) == "key_algorithm"


def test_points_beside_the_curve_and_unknown_curves_are_refused():
    point = jwk_of(key_for("ES256"))
    assert reason(key_of, {**point, "y": point["x"]}) == "key_malformed"
    assert reason(key_of, {**point, "crv": "P-384"}) == "key_malformed"
    assert reason(key_of, {**point, "crv": "P-1"}) == "key_malformed"
    assert reason(key_of, jwk_of(ECKey.generate_key("secp256k1"))) == "key_kind"
    assert reason(key_of, jwk_of(OKPKey.generate_key("X25519"))) == "key_kind"


def test_a_public_key_is_never_a_secret():
    """HS256 keyed with the public key's own bytes: the oldest confusion of all."""
    keys = key_set(jwks(published("RS256")))
    public = key_for("RS256").as_pem(private=False)
    made = token(algorithm="RS256").rpartition(b".")[0]
    head = segment(b'{"alg":"HS256","kid":"k1"}') + b"." + made.partition(b".")[2]
    for secret in (public, public.strip(), key_for("RS256").as_dict(private=False)["n"].encode()):
        forged = head + b"." + segment(hmac.digest(secret, head, "sha256"))
        assert signer(keys, forged) is None
    assert all(algorithm not in keys.keys[0].checks for algorithm in SECRET)
    assert not set(secret_key(SHARED.encode()).checks) & set(PUBLIC)
    assert set(ALGORITHMS) == {*PUBLIC, *SECRET}


# -- sets ------------------------------------------------------------------------------------------------------------


def test_what_is_of_no_use_in_a_set_is_left_out():
    entries = [published("RS256", use="enc"), {}, "x", {"kty": "weird"}, published("ES256")]
    (key,) = key_set(jwks(*entries)).keys
    assert key.kind == "EC"


@pytest.mark.parametrize("document", [{}, {"keys": {}}, {"keys": None}, jwks({"kty": "oct", "k": "AAAA"})])
def test_what_is_no_set_of_public_keys(document):
    assert reason(key_set, document) == "key_set"


def test_a_published_secret_spoils_the_set():
    assert reason(key_set, jwks(published("RS256"), {"kty": "oct", "k": segment(b"x" * 64).decode()})) == "key_set"


def test_sets_are_bounded():
    entries = [jwk_of(key_for("ES256"), kid=str(number)) for number in range(KEYS + 5)]
    assert len(key_set(jwks(*entries))) == KEYS


def test_two_keys_of_one_name_and_kind_are_both_left_out():
    both = key_set(jwks(published("RS256"), published("RS256", "two"), published("ES256")))
    assert [key.kind for key in both.keys] == ["EC"]
    assert not both.candidates("k1", "RS256")
    assert both.candidates("k1", "ES256")


def test_a_token_without_a_name_is_tried_with_a_few_keys():
    entries = [jwk_of(key_for("ES256", str(number)), kid=str(number)) for number in range(CANDIDATES + 2)]
    keys = key_set(jwks(*entries))
    assert len(keys.candidates(None, "ES256")) == CANDIDATES
    last = token(algorithm="ES256", key=key_for("ES256", str(CANDIDATES - 1)), kid=None)
    assert signer(keys, last) is keys.keys[CANDIDATES - 1]
    assert signer(keys, token(algorithm="ES256", key=key_for("ES256", str(CANDIDATES)), kid=None)) is None


def test_a_named_key_is_the_only_one_asked():
    keys = key_set(jwks(jwk_of(key_for("ES256"), kid="a"), jwk_of(key_for("ES256", "two"), kid="b")))
    assert signer(keys, token(algorithm="ES256", kid="a"))
    for kid in ("b", "", "../a", "a\x00", "A"):
        assert signer(keys, token(algorithm="ES256", kid=kid)) is None
    assert keys.names("a")
    assert not keys.names("c")
    assert not keys.names(None)


def test_a_key_without_a_name_is_asked_where_no_other_has_the_name():
    keys = key_set(jwks(jwk_of(key_for("ES256")), jwk_of(key_for("ES256", "two"), kid="b")))
    assert signer(keys, token(algorithm="ES256", kid="a")) is keys.keys[0]
    assert signer(keys, token(algorithm="ES256", kid="b")) is None
    assert not keys.names("a")


def test_keys_that_stay_are_the_same_and_those_that_go_are_dead():
    old = key_set(jwks(jwk_of(key_for("ES256"), kid="a"), jwk_of(key_for("ES256", "two"), kid="b")))
    first, second = old.keys
    new = old.followed_by(key_set(jwks(jwk_of(key_for("ES256"), kid="a"), jwk_of(key_for("ES256", "three"), kid="b"))))
    assert new.keys[0] is first
    assert (first.live, second.live, new.keys[1].live) == (True, False, True)
    renamed = new.followed_by(key_set(jwks(jwk_of(key_for("ES256"), kid="a", alg="ES256"))))
    assert (first.live, renamed.keys[0].live) == (False, True), "another use is another key"


def test_keys_do_not_show_themselves():
    assert SHARED not in repr(secret_key(SHARED.encode()))
    assert hashlib.sha256(SHARED.encode()).hexdigest() not in repr(secret_key(SHARED.encode()))


def test_the_library_can_be_loaded_early():
    load_library()
