"""admission: from what a token says to who calls."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Credential
from gatewayd.identity.admission import Finding, admission, always, field_value, proofs_by, scopes_of
from gatewayd.identity.bearer import Replies
from gatewayd.identity.jose import Refused
from gatewayd.identity.tokens import Verified
from gatewayd.rfc.headers import is_field_value
from tests.support.callers import Known
from tests.support.tokens import ISSUER, NOW, claims

ACME = Consumer("acme")
CREDENTIAL = Credential(ACME, "t1")
REPLIES = Replies("gatewayd", ("read",))


def known(**times):
    return Known({("token", f"{ISSUER}\0acme-1".encode()): Credential(ACME, "t1", **times)})


def finding(consumers=None, **more):
    return Finding(ISSUER, consumers or known(), FakeClock().wall, **more)


def why_not(find, said):
    with pytest.raises(Refused) as caught:
        find(said)
    return caught.value.reason


def test_by_issuer_and_subject():
    assert finding().find(claims()) == (ACME, "t1", math.inf)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("acme-2", "consumer"),
        (None, "subject"),
        ("", "subject"),
        ("acme-1\n", "subject"),
        ("acme-1\0", "subject"),
        ("a" * 256, "subject"),
        (["acme-1"], "subject"),
    ],
)
def test_other_subjects_are_not_known(subject, why):
    assert why_not(finding().find, claims(sub=subject)) == why
    if why == "subject":
        assert why_not(finding(strangers=True).find, claims(sub=subject)) == "subject"


def test_the_subject_of_another_issuer_is_somebody_else():
    other = Finding("https://other.example", known(), FakeClock().wall)
    assert why_not(other.find, claims()) == "consumer"


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ({"not_before": NOW + 1}, None),
        ({"not_before": NOW}, math.inf),
        ({"expires": NOW}, None),
        ({"expires": NOW + 1}, NOW + 1),
    ],
)
def test_what_is_configured_of_a_subject_has_its_time(times, found):
    find = finding(known(**times)).find
    if found is None:
        assert why_not(find, claims()) == "credential"
    else:
        assert find(claims())[2] == found


def test_by_a_claim():
    find = finding(claim="org").find
    assert find(claims(org="acme", jti="j-1")) == (ACME, "j-1", math.inf)
    for said in ("other", None, ["acme"], 1, ""):
        assert why_not(find, claims(org=said)) == "consumer"


def test_strangers_are_consumers_that_nobody_else_can_be():
    consumer, credential, _ = finding(strangers=True).find(claims(sub="acme", jti="x" * 65))
    assert (consumer, credential) == (Consumer(f"{ISSUER}|acme"), "")
    assert finding(strangers=True).find(claims())[0] is ACME, "who is known stays who it is"


def test_one_consumer_for_all():
    assert always(ACME)(claims(sub=None, jti="j\n")) == (ACME, "", math.inf)


# -- scopes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"scope": "read write"}, {"read", "write"}),
        ({"scope": " read  write "}, {"read", "write"}),
        ({"scope": ["read", "a b", 1, ""]}, {"read", "a b"}),
        ({"scp": ["read"]}, {"read"}),
        ({"scp": "read"}, {"read"}),
        ({"scope": "", "scp": ["read"]}, set()),
        ({"scope": {"read": True}}, set()),
        ({"scope": None}, set()),
        ({}, set()),
    ],
)
def test_scopes(said, found):
    assert scopes_of(said) == found


def admitted(said, scopes=("read",), fields=None):
    admit = admission({ISSUER: always(ACME)}, "jwt", scopes, REPLIES, fields or {})
    return admit(Verified(said, ISSUER, math.inf, math.inf))


def test_who_is_admitted():
    said = claims(jti="j-1")
    found = admitted(said)
    assert found.outcome == Identity(ACME, "jwt", "j-1", frozenset({"read", "write"}), said)
    assert (found.fields, found.expires) == ([], math.inf)


def test_scopes_must_all_be_there():
    for scope in ("", "write", "rea", "read2", "READ"):
        found = admitted(claims(scope=scope)).outcome
        assert (found.status, found.code) == (403, "insufficient_scope")
    assert (
        dict(found.headers)[b"www-authenticate"] == b'Bearer realm="gatewayd", error="insufficient_scope", scope="read"'
    )
    assert isinstance(admitted(claims(scope=""), scopes=()).outcome, Identity)


# -- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("a@example.org", b"a@example.org"),
        ("Zoë", "Zoë".encode()),
        (" a\r\nX-Admin: 1 ", b"aX-Admin: 1"),
        ("\0\t", b""),
        (1, b"1"),
        (1.5, b"1.5"),
        (True, b"true"),
        (False, b"false"),
        (None, b""),
        ({"a": 1}, b""),
        (["a", "b"], b"a,b"),
        (["a", "b,admin", 1, None, ["x"], ""], b"a,1"),
        ([], b""),
    ],
)
def test_claims_as_headers_hold_them(claim, value):
    assert field_value(claim) == value


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_a_claim_is_one_value_of_a_field(claim):
    assert is_field_value(field_value(claim))


def test_targets_are_told_what_the_token_says():
    fields = {"email": "X-User-Email", "roles": "X-Roles", "none": "X-None"}
    assert admitted(claims(email="a@example.org", roles=["a", "b"]), fields=fields).fields == [
        (b"x-user-email", b"a@example.org"),
        (b"x-roles", b"a,b"),
    ]


# -- proofs ----------------------------------------------------------------------------------------------------------

KEY, CERTIFICATE, BOTH = {"jkt": "x"}, {"x5t#S256": "x"}, {"jkt": "x", "x5t#S256": "x"}


def dpop(exchange, token, claims):
    return "no dpop"


def mtls(exchange, token, claims):
    return "no mtls"


@pytest.mark.parametrize(
    ("binding", "scheme", "confirmation", "found"),
    [
        ("none", b"bearer", None, ()),
        ("none", None, None, ()),
        ("none", b"bearer", CERTIFICATE, (mtls,)),
        ("none", b"dpop", KEY, (dpop,)),
        ("none", None, KEY, (dpop,)),
        ("none", b"dpop", BOTH, (mtls, dpop)),
        ("none", b"bearer", KEY, "scheme"),
        ("none", b"bearer", BOTH, "scheme"),
        ("none", b"dpop", None, "scheme"),
        ("none", b"dpop", CERTIFICATE, "scheme"),
        ("none", b"bearer", {}, "confirmation"),
        ("none", b"bearer", {"jwk": {}}, "confirmation"),
        ("none", b"bearer", "x", "confirmation"),
        ("none", b"bearer", [], "confirmation"),
        ("dpop", b"dpop", KEY, (dpop,)),
        ("dpop", b"bearer", None, "not_bound"),
        ("dpop", b"bearer", CERTIFICATE, "not_bound"),
        ("mtls", b"bearer", CERTIFICATE, (mtls,)),
        ("mtls", b"bearer", None, "not_bound"),
        ("mtls", b"dpop", KEY, "not_bound"),
        ("any", b"bearer", CERTIFICATE, (mtls,)),
        ("any", b"dpop", KEY, (dpop,)),
        ("any", b"bearer", None, "not_bound"),
    ],
)
def test_which_proofs_a_token_asks_for(binding, scheme, confirmation, found):
    said = claims() if confirmation is None else {**claims(), "cnf": confirmation}
    proofs = proofs_by(binding, dpop, mtls)
    if isinstance(found, str):
        with pytest.raises(Refused, match=found):
            proofs(said, scheme)
    else:
        assert proofs(said, scheme) == found


def test_a_confirmation_that_is_null_is_none_to_go_by():
    with pytest.raises(Refused, match="confirmation"):
        proofs_by("none", dpop, mtls)({**claims(), "cnf": None}, b"bearer")
