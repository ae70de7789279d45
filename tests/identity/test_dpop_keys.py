"""Whose proofs of possession are, and what is one at all."""

from __future__ import annotations

import pytest

from gatewayd.identity import dpop
from gatewayd.identity.dpop import thumbprint_of
from tests.identity.desk import KEY, Desk
from tests.support.proofs import proof, stated, thumbprint
from tests.support.tokens import SECRET, forged, jwk_of, key_for, segment


@pytest.fixture
def desk():
    """A worker of its own."""
    return Desk()


# -- whose --------------------------------------------------------------------------------------------------------


def _other():
    return key_for("ES256", "another")


def test_signed_by_another_key(desk):
    assert desk.see(proof(signer=_other())) == "dpop_signature"
    assert desk.see(proof(key=_other())) == "dpop_key", "the whole proof is somebody else's"
    assert desk.see(proof()[:-2] + b"AA").startswith("dpop_")


def test_a_known_header_helps_nobody_with_another_token(desk):
    assert desk.see(proof()) == ""
    assert desk.see(proof(stated(jti="two")), bound=thumbprint(_other())) == "dpop_key"


def test_a_key_that_shows_its_private_part(desk):
    assert desk.see(proof(jwk=KEY.as_dict(private=True))) == "dpop_key_kind"


def test_symmetric_algorithms(desk):
    """With the public key as a secret, which everybody knows; and with a secret that the proof brings along."""
    secret = key_for("HS256")
    shared = {"kty": "oct", "k": segment(SECRET.encode()).decode()}
    assert desk.see(proof(algorithm="HS256", key=secret, jwk=jwk_of(KEY))) == "dpop_algorithm"
    assert desk.see(proof(algorithm="HS256", key=secret, jwk=shared)) == "dpop_algorithm"
    assert desk.see(proof(signer=KEY, jwk=shared)) == "dpop_key"


@pytest.mark.parametrize("algorithm", ["none", "NONE", "", "ES256K", "es256", None, 7, "HS512"])
def test_other_algorithms(desk, algorithm):
    header = {"typ": "dpop+jwt", "alg": algorithm, "jwk": jwk_of(KEY)}
    header = {name: value for name, value in header.items() if value is not None}
    assert desk.see(forged(header, stated())) in ("dpop_algorithm", "dpop_header")


def test_an_algorithm_of_another_kind_of_key(desk):
    rsa = key_for("RS256")
    assert desk.see(proof(algorithm="RS256", key=rsa, jwk=jwk_of(KEY))) == "dpop_algorithm"
    assert desk.see(proof(jwk=jwk_of(rsa)), bound=rsa) == "dpop_algorithm"


def test_only_algorithms_of_the_configuration():
    desk = Desk(algorithms=["EdDSA"])
    assert desk.see(proof()) == "dpop_algorithm"
    assert desk.see(proof(algorithm="EdDSA"), bound=key_for("EdDSA")) == ""


@pytest.mark.parametrize("jwk", [None, {}, [], "key", {"kty": "EC"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": 7}])
def test_a_header_without_a_key(desk, jwk):
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
    assert desk.see(forged(header, stated())) == "dpop_key"


def test_a_key_that_is_not_on_its_curve(desk):
    wrong = {**jwk_of(KEY), "y": segment(b"\1" * 32).decode()}
    jkt = thumbprint_of(wrong)
    assert (
        desk.see(forged({"typ": "dpop+jwt", "alg": "ES256", "jwk": wrong}, stated()), bound=jkt) == "dpop_key_malformed"
    )


def test_a_key_is_not_read_before_it_is_known_to_be_the_right_one(desk, monkeypatch):
    monkeypatch.setattr(dpop, "key_of", lambda jwk: pytest.fail("read"))
    assert desk.see(proof(key=_other())) == "dpop_key"


# -- what it is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "JWT", "at+jwt", "dpop", "", 7])
def test_another_kind_of_token_is_no_proof(desk, kind):
    assert desk.see(proof(typ=kind)) in ("dpop_type", "dpop_header")


def test_its_type_may_be_written_in_full(desk):
    assert desk.see(proof(typ="application/DPoP+JWT")) == ""


@pytest.mark.parametrize("more", [{"crit": ["exp"], "exp": 1}, {"b64": False}])
def test_extensions_are_not_understood(desk, more):
    assert desk.see(proof(**more)) == "dpop_extension"


@pytest.mark.parametrize(
    "shown",
    [
        b"a.b.c",
        b"..",
        b"...",
        b"\xff\xfe.e30.AA",
        forged({"typ": "dpop+jwt"}, b"[]"),
        proof(b"[1]"),
        proof(b'{"jti":"a","jti":"b"}'),
        proof(b"not json"),
        proof() + b".more",
        proof().replace(b".", b"=.", 1),
        b"x" * 20_000,
        proof(stated(more="x" * 20_000)),
        proof(b"[" * 5000 + b"]" * 5000),
    ],
)
def test_what_cannot_be_read(desk, shown):
    assert desk.see(shown).startswith("dpop_")


def test_keys_remembered_are_bounded(desk, monkeypatch):
    monkeypatch.setattr(dpop, "KEYS", 3)
    for number in range(6):
        assert desk.see(proof(stated(jti=str(number)), kid=str(number))) == ""
    assert len(desk.proofs._signers) == 3
    assert desk.see(proof(stated(jti="x"), kid="k" * 3000)) == ""
    assert len(desk.proofs._signers) == 3, "a long header is not worth remembering"
