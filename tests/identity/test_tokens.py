"""tokens: whose they are, whether they hold, and for how long they may be believed."""

from __future__ import annotations

import asyncio
import hmac
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import Undecided
from gatewayd.identity.fetch import FetchError
from gatewayd.identity.jose import Refused
from gatewayd.identity.jwk import KeySet, key_set, secret_key
from gatewayd.identity.jwks import KeySource, Timing
from gatewayd.identity.tokens import Rules, Tokens, check_claims, is_meant_for
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    NOW,
    SECRET,
    claims,
    forged,
    jwk_of,
    jwks,
    key_for,
    segment,
    token,
)

TIMING = Timing()
OTHER = "https://other.example"
KEYS = [jwk_of(key_for("RS256"), kid="k1"), jwk_of(key_for("ES256"), kid="k2")]


def source_of(clock, *entries, secret=b""):
    source = KeySource(ISSUER, None, TIMING, clock.monotonic)
    source.take(KeySet([secret_key(secret)]) if secret else key_set(jwks(*entries)))
    return source


def rules(clock=None, **more):
    clock = clock or FakeClock()
    usual = {
        "issuer": ISSUER,
        "source": source_of(clock, *KEYS),
        "algorithms": frozenset({"RS256", "ES256"}),
        "audiences": frozenset({AUDIENCE, "https://second.example"}),
    }
    return Rules(**{**usual, **more})


def tokens(*more, clock=None):
    clock = clock or FakeClock()
    return Tokens(more or [rules(clock)], clock)


def reason(text, verifier=None):
    """Why it is refused; "" if it is not; None if it is no token of this kind."""

    async def ask():
        found = (verifier or tokens()).verify(text)
        return await found if asyncio.iscoroutine(found) else found

    try:
        return None if asyncio.run(ask()) is None else ""
    except Refused as error:
        return error.reason
    except Undecided as error:
        return error.reply.code


def test_a_token_that_holds():
    clock = FakeClock()
    found = tokens(clock=clock).verify(token())
    assert (found.claims, found.issuer, found.expires, found.due) == (claims(), ISSUER, NOW + 600, math.inf)
    assert found.key.kid == "k1"


@pytest.mark.parametrize("text", [b"", b"opaque", b"a.b", b"a.b.c.d", b"a.b.c.d.e"])
def test_what_is_no_jws_is_somebody_elses(text):
    assert reason(text) is None


# -- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, ""),
        ({"exp": NOW - 29}, ""),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": NOW - 29.5}, ""),
        ({"exp": None}, "claim_missing"),
        ({"nbf": NOW + 30}, ""),
        ({"nbf": NOW + 31}, "not_yet"),
        ({"iat": NOW + 30}, ""),
        ({"iat": NOW + 31}, "issued_later"),
        ({"iat": None}, ""),
        ({"iss": None}, "issuer"),
        ({"iss": OTHER}, "issuer"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": ISSUER.upper()}, "issuer"),
        ({"iss": [ISSUER]}, "issuer"),
        ({"aud": [OTHER, AUDIENCE]}, ""),
        ({"aud": "https://second.example"}, ""),
        ({"aud": None}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": OTHER}, "audience"),
        ({"aud": AUDIENCE + "x"}, "audience"),
        ({"aud": AUDIENCE[:-1]}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"aud": [[AUDIENCE]]}, "audience"),
        ({"sub": 1}, "claim_type"),
        ({"jti": 1}, "claim_type"),
    ],
)
def test_what_the_claims_have_to_be(changed, why):
    assert reason(token(claims(**changed))) == why


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", [f'"{NOW + 60}"', "true", "null", "[1900000000]", "{}", "1e400", "-1", "-1e400", "1e30", f"{10**400}"]
)
def test_dates_are_numbers(name, value):
    usual = "".join(f',"{each}":{NOW}' for each in {"exp", "nbf", "iat"} - {name})
    said = f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}"{usual},"{name}":{value}}}'.encode()
    assert reason(token(said)) in ("claim_type", "json")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "0x7fffffff", "1_900_000_000", "01900000000"])
def test_dates_are_numbers_of_json(value):
    assert reason(token(f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}","exp":{value}}}'.encode())) == "json"


def test_a_claim_that_stands_twice():
    for twice in (f'"exp":{NOW - 900},"exp":{NOW + 900}', f'"exp":{NOW + 900},"ex\\u0070":{NOW + 900}'):
        assert reason(token(f'{{"iss":"{ISSUER}","aud":"{AUDIENCE}",{twice}}}'.encode())) == "json"


def test_claims_that_must_be_there():
    strict = tokens(rules(required=frozenset({"exp", "jti"})))
    assert reason(token(), strict) == "claim_missing"
    assert reason(token(claims(jti="1")), strict) == ""
    lax = tokens(rules(required=frozenset()))
    assert lax.verify(token(claims(exp=None))).expires == math.inf


def test_any_audience():
    for audience in (None, OTHER, 1):
        assert reason(token(claims(aud=audience)), tokens(rules(audiences=None))) == ""


@given(
    st.none() | st.integers() | st.text() | st.lists(st.text() | st.integers()), st.frozensets(st.text(), min_size=1)
)
def test_an_audience_is_one_of_ours_or_not(audience, ours):
    expected = set(audience) & ours if isinstance(audience, list) else audience in ours
    assert is_meant_for(audience, ours) is bool(expected)


@given(
    st.dictionaries(
        st.sampled_from(["exp", "nbf", "iat", "sub", "jti", "aud", "scope"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.none(), max_size=2),
    )
)
def test_whatever_claims_are_they_hold_or_are_refused(found):
    try:
        until = check_claims(found, rules(), NOW)
    except Refused:
        return
    assert until > NOW - 30
    assert found.get("nbf", 0) <= NOW + 30


# -- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelling", ["none", "None", "NONE", "nOnE", "", "null", " none", "none\x00", "HS256", "rs256"]
)
@pytest.mark.parametrize("signature", [b"", b"x" * 256])
def test_no_signature_is_no_token(spelling, signature):
    assert reason(forged({"alg": spelling, "kid": "k1"}, signature=signature)) == "algorithm"
    assert reason(forged({"alg": spelling}, signature=signature)) == "algorithm"


@pytest.mark.parametrize("header", [{}, {"alg": None}, {"alg": False}, {"alg": []}, {"alg": {"RS256": 1}}])
def test_a_header_without_algorithm(header):
    assert reason(forged(header)) == "header"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret(algorithm):
    """The confusion that makes whoever knows the public key an issuer."""
    public = key_for("RS256")
    content = forged({"alg": algorithm, "kid": "k1"}).rpartition(b".")[0]
    everything = tokens(rules(algorithms=frozenset({"RS256", algorithm})))
    for secret in (
        public.as_pem(private=False),
        public.as_der(private=False),
        public.as_dict(private=False)["n"].encode(),
    ):
        text = content + b"." + segment(hmac.digest(secret, content, f"sha{algorithm[2:]}"))
        assert reason(text) == "algorithm"
        assert reason(text, everything) == "signature", "even where somebody allowed both"


def test_a_secret_is_no_public_key():
    clock = FakeClock()
    shared = tokens(rules(clock, source=source_of(clock, secret=SECRET.encode()), algorithms=frozenset({"HS256"})))
    assert reason(token(algorithm="HS256"), shared) == ""
    assert reason(token(algorithm="HS512"), shared) == "algorithm"
    assert reason(token(), shared) == "algorithm"


@pytest.mark.parametrize(
    "kid", ["k2", "../k1", "/dev/null", "k1\x00", "' OR 1=1 --", "http://evil.example/jwks", "", "K1", "k" * 8_000]
)
def test_a_name_of_a_key_is_a_name(kid):
    assert reason(token(kid=kid)) == "signature"


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": jwk_of(key_for("RS256", "evil"))},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/chain"},
        {"x5c": ["AAAA"]},
    ],
)
@pytest.mark.parametrize("kid", ["k1", None])
def test_a_token_brings_no_key(header, kid):
    assert reason(token(key=key_for("RS256", "evil"), kid=kid, **header)) == "signature"
    assert reason(token(kid=kid, **header)) == "", "ignored, not refused"


def test_a_token_of_one_issuer_signed_by_another():
    clock = FakeClock()
    theirs = source_of(clock, jwk_of(key_for("RS256", "two"), kid="k1"))
    both = tokens(rules(clock), rules(clock, issuer=OTHER, source=theirs), clock=clock)
    assert reason(token(), both) == ""
    assert reason(token(claims(iss=OTHER), key=key_for("RS256", "two")), both) == ""
    assert reason(token(claims(iss=OTHER)), both) == "signature"
    assert reason(token(key=key_for("RS256", "two")), both) == "signature"


@pytest.mark.parametrize(
    ("kind", "why"),
    [(None, ""), ("JWT", ""), ("at+jwt", ""), ("application/at+JWT", ""), ("dpop+jwt", "type"), ("logout+jwt", "type")],
)
def test_other_kinds_of_token_are_no_access_tokens(kind, why):
    assert reason(token(typ=kind)) == why


def test_one_kind_of_token():
    only = tokens(rules(types=frozenset({"at+jwt"})))
    assert [reason(token(typ=kind), only) for kind in (None, "JWT", "at+jwt")] == ["type", "type", ""]


@pytest.mark.parametrize(
    "header", [{"crit": ["x"], "x": 1}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"b64": True}]
)
def test_what_must_be_understood_is_not(header):
    assert reason(token(**header)) == "extension"


def test_a_token_within_a_token():
    assert reason(token(token())) == "json"
    assert reason(token(b'"' + token() + b'"')) == "json"


def test_huge_tokens_are_not_read():
    assert reason(token(claims(x="x" * 16_000))) == "too_large"
    assert reason(b"." * 100_000) is None
    assert reason(b"a.b." + b"c" * 100_000) == "too_large"


@pytest.mark.parametrize("more", [b" ", b"=", b"\n", b"A", b"AAAA", b"\x00"])
def test_nothing_may_follow(more):
    assert reason(token() + more) in ("encoding", "signature")


# -- keys ------------------------------------------------------------------------------------------------------------


class Fetched:
    """An issuer's keys as they are fetched."""

    def __init__(self, *entries):
        self.clock = FakeClock()
        self.entries = entries
        self.error = None
        self.fetches = 0
        source = KeySource(ISSUER, self.read, TIMING, self.clock.monotonic)
        self.tokens = tokens(rules(self.clock, source=source), clock=self.clock)

    async def read(self):
        self.fetches += 1
        if self.error is not None:
            raise self.error
        return key_set(jwks(*self.entries))


def test_the_first_token_waits_for_the_keys_and_the_next_does_not():
    issuer = Fetched(*KEYS)
    assert reason(token(), issuer.tokens) == ""
    assert issuer.tokens.verify(token()).due == issuer.clock.now + TIMING.refresh
    assert issuer.fetches == 1


def test_who_is_refused_anyway_has_nothing_fetched():
    issuer = Fetched(*KEYS)
    for text in (token(claims(exp=1)), token(claims(aud="x")), token(typ="x"), forged({"alg": "none"}), b"a.b.c"):
        assert reason(text, issuer.tokens)
    assert issuer.fetches == 0


def test_without_keys_nobody_can_say():
    issuer = Fetched()
    issuer.error = FetchError("timeout")
    assert reason(token(), issuer.tokens) == "issuer_unavailable"


def test_a_new_key_is_fetched_when_a_token_names_it():
    issuer = Fetched(KEYS[1])
    assert reason(token(algorithm="ES256", kid="k2"), issuer.tokens) == ""
    assert reason(token(), issuer.tokens) == "signature"
    assert reason(token(), issuer.tokens) == "signature"
    assert issuer.fetches == 2, "the second time it is known not to be there"
    issuer.entries = tuple(KEYS)
    assert reason(token(kid="another"), issuer.tokens) == "signature"
    assert reason(token(), issuer.tokens) == "", "another name's fetch has brought it"
    assert issuer.fetches == 3


def test_a_wrong_signature_of_a_known_key_fetches_nothing():
    issuer = Fetched(*KEYS)
    reason(token(), issuer.tokens)
    for number in range(10):
        assert reason(token(claims(n=number), key=key_for("RS256", "two")), issuer.tokens) == "signature"
    assert issuer.fetches == 1
