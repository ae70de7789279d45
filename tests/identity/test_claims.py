"""What policies that take tokens have in common: options, challenges, and the proofs that bound tokens ask for."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import msgspec
import pytest

from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import BuildContext
from gatewayd.identity.admission import always
from gatewayd.identity.claims import Bearing, hooks
from gatewayd.identity.tokens import Verified
from tests.support.exchanges import make_exchange
from tests.support.proofs import TOKEN, proof, stated, thumbprint
from tests.support.tokens import NOW, key_for, segment

ACME = Consumer("acme")
PRINT = hashlib.sha256(b"a certificate").digest()
BY_KEY = {"jkt": thumbprint(key_for("ES256"))}
BY_CERTIFICATE = {"x5t#S256": segment(PRINT).decode()}
MINE = SimpleNamespace(client_fingerprint=PRINT)
ARENA = Arena(size=1 << 28)


def made(claims=None, **options):
    """The hooks of a policy whose tokens all hold, and say `claims`."""
    context = BuildContext("t", clock=FakeClock(), arena=ARENA, workers=8)

    def verify(token):
        return Verified(claims or {}, "us", NOW + 600, 1e9)

    return hooks(Bearing(**options), "test", verify, {"us": always(ACME)}, context, "explained")


def shown(hooks, scheme=b"Bearer", dpop=None, tls=None):
    """What comes of a request with the token, and the names of the fields sent on."""
    headers = [(b"accept", b"*/*"), (b"authorization", scheme + b" " + TOKEN)]
    headers += [(b"dpop", dpop)] if dpop else []
    exchange = make_exchange(headers, tls=tls)
    found = hooks.access(exchange)
    return found, exchange


def let_in(hooks, **more):
    """Whether a request is let in."""
    found, exchange = shown(hooks, **more)
    assert (found is None) == isinstance(exchange.identity, Identity)
    return found is None


def test_a_token_lets_in_and_stays_here():
    found, exchange = shown(made({"jti": "t1", "scope": "a b"}))
    assert found is None
    assert exchange.identity == Identity(ACME, "test", "t1", frozenset("ab"), {"jti": "t1", "scope": "a b"})
    assert exchange.headers == [(b"accept", b"*/*")]


def test_targets_get_the_token_if_they_are_to():
    _, exchange = shown(made(pass_on=True), dpop=b"whatever")
    assert [name for name, _ in exchange.headers] == [b"accept", b"authorization", b"dpop"]


def test_proofs_are_not_sent_on():
    hooks = made({"cnf": BY_KEY})
    found, exchange = shown(hooks, b"DPoP", proof(stated(jti="sent on")))
    assert found is None
    assert exchange.headers == [(b"accept", b"*/*")]
    _, exchange = shown(made(), dpop=b"of no use here")
    assert exchange.headers == [(b"accept", b"*/*")]


@pytest.mark.parametrize("binding", ["none", "dpop", "any"])
def test_a_token_bound_to_a_key_needs_the_proof_whatever_is_configured(binding):
    hooks = made({"cnf": BY_KEY}, binding=binding)
    assert not let_in(hooks, scheme=b"DPoP")
    assert not let_in(hooks, scheme=b"DPoP", dpop=proof(stated(jti=binding), signer=key_for("ES256", "thief")))
    assert let_in(hooks, scheme=b"DPoP", dpop=proof(stated(jti=binding)))
    assert not let_in(hooks, scheme=b"DPoP", dpop=proof(stated(jti=binding))), "twice"


def test_it_does_not_pass_for_a_token_that_is_not_bound():
    """RFC 9449 §7.2: not with the scheme Bearer, even with the proof."""
    assert not let_in(made({"cnf": BY_KEY}), scheme=b"Bearer", dpop=proof(stated(jti="as a bearer")))
    assert not let_in(made({}), scheme=b"DPoP", dpop=proof(stated(jti="as bound")))


@pytest.mark.parametrize("binding", ["none", "mtls", "any"])
def test_a_token_bound_to_a_certificate_needs_it_whatever_is_configured(binding):
    hooks = made({"cnf": BY_CERTIFICATE}, binding=binding)
    assert let_in(hooks, tls=MINE)
    assert not let_in(hooks, tls=SimpleNamespace(client_fingerprint=hashlib.sha256(b"thief").digest()))
    assert not let_in(hooks, tls=SimpleNamespace(client_fingerprint=b""))
    assert not let_in(hooks, tls=None)
    assert let_in(hooks, tls=MINE), "on the right connection it goes on to hold"


def test_a_token_bound_to_both_needs_both():
    hooks = made({"cnf": {**BY_KEY, **BY_CERTIFICATE}})
    assert not let_in(hooks, scheme=b"DPoP", tls=MINE)
    assert not let_in(hooks, scheme=b"DPoP", dpop=proof(stated(jti="both 1")))
    assert let_in(hooks, scheme=b"DPoP", dpop=proof(stated(jti="both 2")), tls=MINE)


@pytest.mark.parametrize("binding", ["dpop", "mtls", "any"])
def test_tokens_that_are_not_bound_can_be_refused(binding):
    assert let_in(made(), tls=MINE)
    assert not let_in(made(binding=binding), tls=MINE)


def test_a_binding_that_nobody_understands_binds():
    assert not let_in(made({"cnf": {"kid": "somewhere"}}), tls=MINE)
    assert not let_in(made({"cnf": []}), tls=MINE)


@pytest.mark.parametrize(
    ("binding", "challenges"),
    [
        ("none", (b'Bearer realm="gatewayd"',)),
        ("mtls", (b'Bearer realm="gatewayd"',)),
        ("dpop", (b'DPoP realm="gatewayd"',)),
        ("any", (b'Bearer realm="gatewayd"', b'DPoP realm="gatewayd"')),
    ],
)
def test_callers_are_told_by_which_scheme(binding, challenges):
    assert made(binding=binding).challenges == challenges


def test_it_is_explained():
    assert made().explain == "explained"
    assert made(scopes=["a", "b"], binding="dpop").explain == "explained, scopes a b, bound by dpop"


def test_claims_cannot_take_the_gateways_own_headers():
    config = Bearing(claims_to_headers={"a": "X-Forwarded-For", "b": "X-Fine", "c": "Authorization", "d": "Host"})
    assert [fault.path for fault in config.wrong_headers()] == [f"claims_to_headers.{name}" for name in "acd"]


@pytest.mark.parametrize("place", ["", "header:", "header:a b", "query:token", "cookie:"])
def test_places_there_are_none(place):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"place": place}, Bearing)
