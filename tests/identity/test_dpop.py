"""Proofs of possession (RFC 9449): what is one, for which request, and how often."""

from __future__ import annotations

import json

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from gatewayd.config.model import Dpop, Paths
from gatewayd.core.arena import Arena
from gatewayd.core.policy import Reply
from gatewayd.identity.dpop import NONCE_PERIOD, thumbprint_of
from gatewayd.identity.jose import Refused, decode
from tests.identity.desk import Desk
from tests.support.exchanges import make_exchange
from tests.support.proofs import TOKEN, URL, proof, stated
from tests.support.tokens import NOW, key_for, segment


@pytest.fixture
def desk():
    """A worker of its own."""
    return Desk()


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "EdDSA", "PS256", "RS256"])
def test_a_proof_by_the_key_of_the_token_passes(desk, algorithm):
    key = key_for(algorithm)
    assert desk.see(proof(algorithm=algorithm), bound=key) == ""
    assert desk.see(proof(stated(jti="two"), algorithm), bound=key) == "", "its key is known by now"


def test_the_thumbprint_is_that_of_the_rfc():
    """RFC 7638 §3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn"
        "jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6q"
        "MQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awap"
        "JzKnqDKgw"
    )
    key = {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"}
    assert thumbprint_of(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    "jwk", [{}, {"kty": "oct", "k": "AAAA"}, {"kty": ["EC"]}, {"kty": "EC", "crv": "P-256"}, {"kty": 1}]
)
def test_what_is_no_public_key_has_no_thumbprint(jwk):
    with pytest.raises(Refused):
        thumbprint_of(jwk)


# -- how many -----------------------------------------------------------------------------------------------------


def test_one_proof_no_more_and_no_less(desk):
    good, other = proof(), proof(stated(jti="two"))
    assert desk.see() == "dpop_missing"
    assert desk.see(good, other) == "dpop_repeated"
    assert desk.see(good, good) == "dpop_repeated"
    assert desk.see(good + b", " + other).startswith("dpop_")
    assert desk.see(good + b"," + good).startswith("dpop_")
    assert desk.see(b"").startswith("dpop_")
    assert desk.see(good) == ""


def test_a_token_that_names_no_key_has_no_proof(desk):
    assert desk.proofs.check(make_exchange([(b"dpop", proof())]), TOKEN, {}) == "token_not_bound"


# -- replay -------------------------------------------------------------------------------------------------------


def test_a_proof_is_good_once(desk):
    assert [desk.see(proof()) for _ in range(3)] == ["", "dpop_replayed", "dpop_replayed"]


def test_it_is_good_once_on_the_whole_machine():
    arena = Arena(size=1 << 26)
    workers = [Desk(arena, number, proofs=4096) for number in range(4)]
    shown = proof()
    assert [worker.see(shown) for worker in workers] == ["", *["dpop_replayed"] * 3]


def test_an_identifier_is_good_once_whatever_else_changes(desk):
    assert desk.see(proof()) == ""
    assert desk.see(proof(stated(iat=NOW + 1))) == "dpop_replayed"
    assert desk.see(proof(stated(htm="POST")), method=b"POST") == "dpop_replayed"


def test_a_signature_written_another_way_is_no_other_proof(desk):
    """Of an ECDSA signature (r, s) anyone can make (r, n − s)."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    content, _, signature = proof().rpartition(b".")
    raw = decode(signature)
    r, s = raw[:32], int.from_bytes(raw[32:], "big")
    assert decode_dss_signature(encode_dss_signature(1, s)) == (1, s)
    assert desk.see(content + b"." + signature) == ""
    assert desk.see(content + b"." + segment(r + (order - s).to_bytes(32, "big"))) == "dpop_replayed"


def test_the_same_identifier_of_another_key_is_another(desk):
    other = key_for("ES384")
    assert desk.see(proof()) == ""
    assert desk.see(proof(algorithm="ES384"), bound=other) == ""


def test_a_proof_that_is_refused_is_not_used_up(desk):
    assert desk.see(proof(), path=b"/v1/other") == "dpop_url"
    assert desk.see(proof(signer=key_for("ES256", "another"))) == "dpop_signature"
    assert desk.see(proof()) == ""


def test_when_no_more_can_be_remembered_callers_are_told_to_wait():
    desk = Desk(proofs=1)
    verdicts = [desk.see(proof(stated(jti=str(number)))) for number in range(40)]
    assert verdicts[0] == ""
    reply = verdicts[-1]
    assert isinstance(reply, Reply)
    assert (reply.status, reply.code, dict(reply.headers)[b"retry-after"]) == (503, "proofs_full", b"5")
    assert desk.see(proof(stated(jti="0"))) == "dpop_replayed", "nothing was forgotten for it"
    desk.clock.advance(70.1)
    assert desk.see(proof(stated(jti="later", iat=NOW + 70))) == ""


# -- for which request --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "get", "GET ", "", None, 7, ["GET"]])
def test_the_method_must_be_the_requests(desk, method):
    assert desk.see(proof(stated(htm=method))) == "dpop_method"


@pytest.mark.parametrize(
    "url",
    [
        URL,
        URL + "?a=b",
        URL + "#part",
        "HTTPS://API.Example.COM:443/v1/x",
        "https://api.example.com./v1/x",
        "https://api.example.com/v1/%78",
        "https://api.example.com/v1/y/../x",
        "https://api.example.com//v1/./x?q#f",
    ],
)
def test_the_url_is_compared_in_its_one_spelling(desk, url):
    assert desk.see(proof(stated(htu=url)), query=b"c=d") == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.com/v1/x",
        "https://api.example.com:8443/v1/x",
        "https://api.example.com:80/v1/x",
        "https://other.example.com/v1/x",
        "https://api.example.com.evil.example/v1/x",
        "https://api.example.com@evil.example/v1/x",
        "https://evil.example@api.example.com/v1/x",
        "https://api.example.com/v1/x/",
        "https://api.example.com/v1/X",
        "https://api.example.com/v1",
        "https://api.example.com",
        "https://api.example.com/v1%2fx",
        "https://api.example.com/v1/x;a",
        "https://api.example.com/v1/x\\",
        "//api.example.com/v1/x",
        "/v1/x",
        "",
        "https://[::1/v1/x",
        "https://api.example.com:99999999/v1/x",
        "https://äpi.example.com/v1/x",
        " " + URL,
        URL + "\n",
        "https://api.exa\tmple.com/v1/x",
        None,
        7,
        [URL],
        {"htu": URL},
    ],
)
def test_no_other_url_will_do(desk, url):
    assert desk.see(proof(stated(htu=url))) == "dpop_url"


def test_a_request_without_a_host_has_no_url(desk):
    assert desk.see(proof(stated(htu="https:///v1/x")), host=b"") == "dpop_url"


def test_ports_that_the_scheme_has_anyway_do_not_count(desk):
    assert desk.see(proof(), host=b"api.example.com:443") == ""
    said = stated(htu="http://api.example.com:443/v1/x", jti="two")
    assert desk.see(proof(said), scheme=b"http", host=b"api.example.com:443") == ""
    said = stated(htu="http://api.example.com/v1/x", jti="three")
    assert desk.see(proof(said), scheme=b"http", host=b"api.example.com:443") == "dpop_url"


def test_the_root_has_two_spellings(desk):
    assert desk.see(proof(stated(htu="https://api.example.com")), path=b"/") == ""


def test_behind_a_trusted_proxy_the_url_is_the_one_the_caller_asked(desk):
    forwarding = b"x-forwarded-for: 192.0.2.1\r\nx-forwarded-host: shop.example\r\nforwarded: for=192.0.2.1\r\n"
    told = {"host": b"inner:8080", "forwarding": forwarding}
    said = stated(htu="https://shop.example/v1/x")
    assert desk.see(proof(said), peer_trusted=False, **told) == "dpop_url"
    assert desk.see(proof(said), peer_trusted=True, **told) == ""
    assert desk.see(proof(stated(htu="https://inner:8080/v1/x", jti="two")), peer_trusted=True, **told) == "dpop_url"


def test_paths_are_read_as_the_configuration_reads_them():
    desk = Desk(paths=Paths(semicolon="keep"))
    assert desk.see(proof(stated(htu="https://api.example.com/v1/x;%61")), path=b"/v1/x;a") == ""


@pytest.mark.parametrize("ath", [segment(b"\0" * 32).decode(), "", None, 7])
def test_a_proof_for_another_token_is_none(desk, ath):
    assert desk.see(proof(stated(ath=ath))) == "dpop_token"
    assert desk.see(proof(), token=b"another.access.token") == "dpop_token"


# -- when ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [69.5, 0, -10])
def test_in_time(desk, age):
    assert desk.see(proof(stated(iat=NOW - age))) == ""


@pytest.mark.parametrize("age", [70, 70.5, -10.5, 86_400, -86_400])
def test_too_old_or_not_made_yet(desk, age):
    assert desk.see(proof(stated(iat=NOW - age))) == "dpop_time"


@pytest.mark.parametrize("iat", [None, str(NOW), True, [NOW], -1])
def test_a_time_is_a_number(desk, iat):
    assert desk.see(proof(stated(iat=iat))) in ("dpop_time", "dpop_claim_type")


def test_a_proof_is_remembered_as_long_as_it_could_be_shown(desk):
    shown = proof(stated(iat=NOW + 10))
    assert desk.see(shown) == ""
    desk.clock.advance(79.9)
    assert desk.see(shown) == "dpop_replayed"
    desk.clock.advance(0.1)
    assert desk.see(shown) == "dpop_time"


@pytest.mark.parametrize("jti", [None, "", 7, "x" * 257, ["a"]])
def test_an_identifier_is_a_text(desk, jti):
    assert desk.see(proof(stated(jti=jti))) == "dpop_identifier"


# -- nonces -------------------------------------------------------------------------------------------------------


def nonce_of(reply):
    """The nonce that a reply asks for."""
    assert (reply.status, reply.code) == (401, "dpop_nonce_required")
    fields = dict(reply.headers)
    assert fields[b"www-authenticate"] == b'DPoP realm="gatewayd", error="use_dpop_nonce"'
    return fields[b"dpop-nonce"].decode()


def test_with_nonces_callers_learn_one_and_use_it():
    desk = Desk(nonces=True)
    nonce = nonce_of(desk.see(proof()))
    assert desk.see(proof(stated(nonce=nonce))) == "", "the proof without it was not used up"
    assert desk.see(proof(stated(nonce=nonce))) == "dpop_replayed"
    assert desk.see(proof(stated(nonce=nonce, jti="two"))) == ""


@pytest.mark.parametrize("nonce", ["", "made up", 7, ["a"], None])
def test_made_up_nonces(nonce):
    assert nonce_of(Desk(nonces=True).see(proof(stated(nonce=nonce))))


def test_nonces_are_taken_for_five_minutes_more():
    desk = Desk(nonces=True)
    nonce = nonce_of(desk.see(proof()))
    desk.clock.advance(NONCE_PERIOD)
    assert nonce_of(desk.see(proof(stated(iat=NOW + NONCE_PERIOD)))) != nonce
    assert desk.see(proof(stated(iat=NOW + NONCE_PERIOD, nonce=nonce))) == ""
    desk.clock.advance(NONCE_PERIOD)
    assert nonce_of(desk.see(proof(stated(iat=NOW + 2 * NONCE_PERIOD, nonce=nonce, jti="two")))) != nonce


def test_workers_take_each_others_nonces_and_so_do_machines_with_one_pepper():
    arena = Arena(size=1 << 26)
    one, other = Desk(arena, 0, nonces=True, proofs=64), Desk(arena, 1, nonces=True, proofs=64)
    assert one.proofs.nonces() == other.proofs.nonces()
    here, there = (Desk(Arena(size=1 << 24), pepper="p" * 32, nonces=True, proofs=64) for _ in range(2))
    assert here.proofs.nonces() == there.proofs.nonces()
    assert here.proofs.nonces() != one.proofs.nonces()
    assert Desk(Arena(size=1 << 24), nonces=True, proofs=64).proofs.nonces() != one.proofs.nonces()


def test_without_nonces_one_that_stands_there_means_nothing(desk):
    assert desk.see(proof(stated(nonce="of the authorization server"))) == ""


def test_it_tells_no_secret():
    assert repr(Desk(pepper="p" * 32).proofs).startswith("<Proofs ES256 ")


def test_options_have_sense():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"algorithms": ["HS256"]}, Dpop)
    assert json.loads(msgspec.json.encode(Dpop().algorithms))[0] == "ES256"
