"""Tokens bound to a certificate (RFC 8705)."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from gatewayd.identity.bound import check, confirmation
from tests.support.exchanges import make_exchange
from tests.support.tokens import segment

PRINT = hashlib.sha256(b"a certificate").digest()
CNF = {"cnf": {"x5t#S256": segment(PRINT).decode()}}


def asked(claims, fingerprint=PRINT):
    tls = None if fingerprint is None else SimpleNamespace(client_fingerprint=fingerprint)
    return check(make_exchange(tls=tls), b"", claims)


def test_the_certificate_it_was_issued_to_passes():
    assert asked(CNF) == ""


@pytest.mark.parametrize(
    ("fingerprint", "reason"),
    [
        (hashlib.sha256(b"another").digest(), "certificate_mismatch"),
        (b"", "certificate_missing"),
        (None, "certificate_missing"),
    ],
)
def test_no_other_does(fingerprint, reason):
    assert asked(CNF, fingerprint) == reason


@pytest.mark.parametrize(
    "claims",
    [{}, {"cnf": None}, {"cnf": "x"}, {"cnf": {}}, {"cnf": {"x5t#S256": ""}}, {"cnf": {"x5t#S256": 7}}, {"cnf": [1]}],
)
def test_a_token_that_names_none_is_not_bound(claims):
    assert asked(claims) == "token_not_bound"


@pytest.mark.parametrize("spelling", [segment(PRINT).decode() + "=", PRINT.hex(), segment(PRINT).decode().lower()])
def test_other_spellings_are_other_certificates(spelling):
    assert asked({"cnf": {"x5t#S256": spelling}}) == "certificate_mismatch"


def test_a_header_that_a_proxy_might_send_counts_for_nothing():
    exchange = make_exchange([(b"client-cert", b":AAAA:")], tls=None)
    exchange.withheld = [(b"x-forwarded-client-cert", b"Hash=" + PRINT.hex().encode())]
    assert check(exchange, b"", CNF) == "certificate_missing"


def test_members_are_texts():
    assert confirmation({"cnf": {"jkt": "a"}}, "jkt") == "a"
    assert confirmation({"cnf": {"jkt": 1}}, "jkt") == ""
