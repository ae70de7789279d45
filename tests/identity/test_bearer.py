"""bearer: where tokens stand, and what is remembered of those met before."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Reply, Undecided
from gatewayd.core.problem import problem
from gatewayd.identity.bearer import Admitted, Bearer, Recent, Replies, apart, place
from gatewayd.identity.jose import Refused
from gatewayd.identity.jwk import Key
from gatewayd.identity.tokens import UNAVAILABLE, Verified
from tests.support.callers import outcome
from tests.support.exchanges import make_exchange

ACME = Identity(Consumer("acme"), "jwt")
NONCE = problem(401, "dpop_nonce_required", "")


class Scene:
    """A `Bearer` whose tokens are what the scene says; counts how often it was asked."""

    def __init__(self, where="authorization", remembered=100, later=False, **more):
        self.clock = FakeClock()
        self.asked = []
        self.admissions = 0
        self.key = Key("RSA", "k1", {})
        self.expires, self.due, self.until = math.inf, math.inf, math.inf
        self.error = None
        self.outcome = ACME
        self.fields = []
        self.proofs = ()
        self.later = later
        self.bearer = Bearer(
            place(where),
            self.verify,
            self.admit,
            lambda claims, scheme: self.proofs,
            Replies("here"),
            self.clock,
            remembered,
            **more,
        )

    def verify(self, token):
        self.asked.append(token)
        if self.later:
            return self.wait()
        return self.verdict()

    async def wait(self):
        await asyncio.sleep(0)
        return self.verdict()

    def verdict(self):
        if self.error is not None:
            raise self.error
        return Verified({"sub": "a"}, "issuer", self.expires, self.due, self.key)

    def admit(self, verified):
        self.admissions += 1
        return Admitted(self.outcome, self.fields, self.until)

    def ask(self, *values, name=b"authorization", more=()):
        self.exchange = make_exchange([(b"host", b"x"), *((name, value) for value in values), *more])
        found = outcome(self.bearer.authenticate(self.exchange))
        return found.code if isinstance(found, Reply) else found


both = pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])


@both
def test_who_calls(later):
    scene = Scene(later=later)
    assert scene.ask(b"Bearer abc") is ACME
    assert scene.asked == [b"abc"]
    assert scene.exchange.headers == [(b"host", b"x")]


@both
@pytest.mark.parametrize("error", [Refused("signature"), Undecided(UNAVAILABLE)])
def test_who_does_not(later, error, caplog):
    caplog.set_level(logging.DEBUG)
    scene = Scene(later=later)
    scene.error = error
    if isinstance(error, Undecided):
        with pytest.raises(Undecided):
            scene.ask(b"Bearer abc")
    else:
        assert scene.ask(b"Bearer abc") == "credential_invalid"
        assert "signature" in caplog.text
    assert "abc" not in caplog.text
    assert scene.exchange.headers[1] == (b"authorization", b"Bearer abc")


@pytest.mark.parametrize("value", [b"bearer abc", b"BEARER abc", b"Bearer   abc", b"DPoP abc", b"dpop abc"])
def test_schemes_are_not_case_sensitive(value):
    scene = Scene()
    assert scene.ask(value) is ACME
    assert scene.asked == [b"abc"]


@pytest.mark.parametrize("value", [b"Basic abc", b"Bearer", b"Bearer\tabc", b"", b"abc", b"Bearerabc", b"BearerX abc"])
def test_other_schemes_are_somebody_elses(value):
    scene = Scene()
    assert scene.ask(value) is None
    assert not scene.asked


def test_nothing_shown():
    assert Scene().ask() is None


def test_what_stands_there_twice_is_refused():
    scene = Scene()
    for values in ((b"Bearer a", b"Bearer a"), (b"Bearer a", b"Basic b"), (b"Basic b", b"Bearer a")):
        assert scene.ask(*values) == "credential_invalid"
    assert not scene.asked


def test_in_a_field_of_its_own():
    scene = Scene("header:X-Token")
    assert scene.ask(b"abc", name=b"x-token", more=[(b"authorization", b"Basic x")]) is ACME
    assert scene.exchange.headers == [(b"host", b"x"), (b"authorization", b"Basic x")]
    assert scene.asked == [b"abc"]
    assert scene.ask(b"a", b"b", name=b"x-token") == "credential_invalid"
    assert scene.ask(b"Bearer abc") is None


@pytest.mark.parametrize(
    ("cookies", "left"),
    [
        ([b"session=abc"], []),
        ([b"a=1; session=abc;b=2"], [b"a=1; b=2"]),
        ([b"a=1", b"session=abc; session=other", b"c=3; session=more"], [b"a=1", b"c=3"]),
    ],
)
def test_in_a_cookie(cookies, left):
    scene = Scene("cookie:session")
    assert scene.ask(*cookies, name=b"cookie") is ACME
    assert scene.asked == [b"abc"]
    assert [value for name, value in scene.exchange.headers if name == b"cookie"] == left


def test_cookies_of_other_names():
    scene = Scene("cookie:session")
    for value in (b"Session=abc", b"xsession=abc", b"session_=abc", b"a=session=abc"):
        assert scene.ask(value, name=b"cookie") is None


def test_passed_on():
    scene = Scene(pass_on=True)
    scene.ask(b"Bearer abc")
    assert scene.exchange.headers == [(b"host", b"x"), (b"authorization", b"Bearer abc")]


@pytest.mark.parametrize("shown", [[b"Bearer abc"], [], [b"Basic x"]])
def test_targets_are_told_by_the_gateway_alone(shown):
    scene = Scene(fields=frozenset({b"x-user", b"x-role"}))
    scene.fields = [(b"x-user", b"a")]
    for _ in range(2):  # met before, too
        scene.ask(*shown, more=[(b"x-user", b"root"), (b"x-role", b"admin"), (b"x-user", b"b")])
        told = [pair for pair in scene.exchange.headers if pair[0].startswith(b"x-")]
        assert told == ([(b"x-user", b"a")] if shown == [b"Bearer abc"] else [])
    assert scene.fields == [(b"x-user", b"a")]


def test_a_refusal_takes_forged_fields_out_too():
    scene = Scene(fields=frozenset({b"x-user"}))
    scene.error = Refused("signature")
    scene.ask(b"Bearer abc", more=[(b"x-user", b"root")])
    assert (b"x-user", b"root") not in scene.exchange.headers


# -- remembered ------------------------------------------------------------------------------------------------------


def test_a_token_met_before_is_not_verified_again():
    scene = Scene()
    assert [scene.ask(b"Bearer abc") for _ in range(3)] == [ACME] * 3
    assert (len(scene.asked), scene.admissions) == (1, 1)
    scene.ask(b"Bearer abd")
    assert len(scene.asked) == 2


def test_refusals_of_good_tokens_are_remembered_too():
    scene = Scene()
    scene.outcome = Replies("here", ("read",)).scope
    assert [scene.ask(b"Bearer abc") for _ in range(3)] == ["insufficient_scope"] * 3
    assert len(scene.asked) == 1
    assert (b"authorization", b"Bearer abc") in scene.exchange.headers


@both
def test_bad_tokens_are_not_remembered(later):
    scene = Scene(later=later)
    scene.error = Refused("signature")
    scene.ask(b"Bearer abc")
    scene.error = None
    assert scene.ask(b"Bearer abc") is ACME


@pytest.mark.parametrize("what", ["expires", "until"])
def test_nothing_is_remembered_beyond_its_end(what):
    scene = Scene()
    setattr(scene, what, scene.clock.wall_now + 10)
    scene.ask(b"Bearer abc")
    scene.clock.wall_now += 9.9
    scene.ask(b"Bearer abc")
    assert len(scene.asked) == 1
    scene.clock.wall_now += 0.1
    scene.error = Refused("expired")
    assert scene.ask(b"Bearer abc") == "credential_invalid"


def test_a_clock_that_is_set_back_does_not_make_it_last_longer_than_the_other_clock_says():
    scene = Scene()
    scene.due = scene.clock.now + 300
    scene.ask(b"Bearer abc")
    scene.clock.wall_now -= 86_400
    scene.clock.now += 300
    scene.ask(b"Bearer abc")
    assert len(scene.asked) == 2


def test_a_key_that_is_gone_takes_its_tokens_along():
    scene = Scene()
    scene.ask(b"Bearer abc")
    scene.key.live = False
    scene.error = Refused("signature")
    assert scene.ask(b"Bearer abc") == "credential_invalid"


def test_only_digests_are_remembered():
    scene = Scene()
    scene.ask(b"Bearer abcdefgh")
    (digest,) = scene.bearer._recent.young
    assert len(digest) == 32


def test_what_is_remembered_is_bounded_and_what_is_in_use_stays():
    scene = Scene(remembered=10)
    scene.ask(b"Bearer used")
    for number in range(100):
        scene.ask(b"Bearer %d" % number)
        scene.ask(b"Bearer used")
        assert len(scene.bearer._recent) <= 10
    assert scene.asked.count(b"used") == 1


def test_halves():
    recent = Recent(4)
    young = recent.young
    for number in range(4):
        recent.put(b"%d" % number, number)
    assert (recent.young, len(recent)) == ({b"2": 2, b"3": 3}, 4)
    assert recent.again(b"1") == 1
    assert (recent.young, len(recent)) == ({b"1": 1}, 3), (
        "the younger half has become the older, whose rest is forgotten"
    )
    assert recent.again(b"0") is None
    recent.put(b"1", 5)
    assert recent.young == {b"1": 5}
    assert recent.young is young


# -- proofs ----------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(("says", "found"), [("", ACME), ("dpop_missing", "credential_invalid"), (NONCE, NONCE.code)])
def test_proofs_are_asked_for_every_time(later, says, found):
    scene = Scene(later=later)
    asked = []

    def proof(exchange, token, claims):
        asked.append((exchange, token, claims))
        return says

    scene.proofs = (proof,)
    for _ in range(2):
        assert scene.ask(b"DPoP abc") == found
        assert asked.pop() == (scene.exchange, b"abc", {"sub": "a"})
    assert len(scene.asked) == 1


def test_all_proofs_are_asked_for():
    scene = Scene()
    scene.proofs = (lambda *_: "", lambda *_: "missing")
    assert scene.ask(b"DPoP abc") == "credential_invalid"


def test_the_scheme_and_the_token():
    assert apart(b"DPoP  a.b.c", True) == (b"dpop", b"a.b.c")
    assert apart(b"Basic abc", True) == (b"basic", None)
    assert apart(b"a.b.c", False) == (None, b"a.b.c")


def test_refusals_say_what_would_do_and_nothing_of_what_was_wrong():
    replies = Replies('say "hi"', ("a", "b"), ("Bearer", "DPoP"))
    assert replies.challenges == (b'Bearer realm="say \\"hi\\""', b'DPoP realm="say \\"hi\\""')
    shown = [value for name, value in replies.invalid.headers if name == b"www-authenticate"]
    assert shown == [each + b', error="invalid_token"' for each in replies.challenges]
    assert b"signature" not in replies.invalid.body
