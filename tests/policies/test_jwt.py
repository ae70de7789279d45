"""jwt: who calls, by signed tokens, as callers and targets see it."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

import msgspec
import pytest

from gatewayd.config.units import from_plain
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer
from gatewayd.core.policy import BuildContext, Credential, Reply
from gatewayd.errors import ConfigError
from gatewayd.policies import jwt
from tests.support.callers import Known, outcome
from tests.support.edge import EdgeThread, proxied
from tests.support.exchanges import make_exchange
from tests.support.raw import Caller
from tests.support.sent import asked, through
from tests.support.side_server import SideServer
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
    token,
)
from tests.support.upstream import OK, ScriptedUpstream, answer

ACME = Consumer("acme")
KEY = jwk_of(key_for("RS256"), kid="k1")
NEW = jwk_of(key_for("RS256", "two"), kid="k2")


def described(url="", **more):
    usual = {
        "issuer": ISSUER,
        "jwks": f"{url or ISSUER}/jwks",
        "algorithms": ["RS256"],
        "audience": [AUDIENCE],
        "consumers": "any",
    }
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def secret(**more):
    return described(jwks=None, secret=SECRET, algorithms=["HS256"], **more)


def hooks(*issuers, consumers=None, **options):
    config = msgspec.convert({"issuers": list(issuers), **options}, jwt.Config, dec_hook=from_plain)
    return jwt.build(config, BuildContext("jwt", clock=FakeClock(), consumers=consumers or Known()))


def ask(made, text, scheme=b"Bearer"):
    """The exchange, and the code of the refusal."""
    exchange = make_exchange([(b"authorization", scheme + b" " + text)])
    found = outcome(made.access(exchange))
    return exchange, found.code if isinstance(found, Reply) else ""


def code(made, text, scheme=b"Bearer"):
    return ask(made, text, scheme)[1]


def test_who_calls():
    credential = Credential(ACME, "service")
    made = hooks(secret(consumers="known"), consumers=Known({("token", f"{ISSUER}\0acme-1".encode()): credential}))
    exchange, refused = ask(made, token(algorithm="HS256"))
    assert not refused
    found = exchange.identity
    assert (found.consumer, found.method, found.credential, found.scopes) == (ACME, "jwt", "service", {"read", "write"})
    assert found.claims["sub"] == "acme-1"
    assert exchange.headers == []
    assert code(made, token(claims(sub="other"), algorithm="HS256")) == "credential_invalid"


def test_what_is_shown_to_nobody_in_particular():
    made = hooks(secret())
    assert outcome(made.access(make_exchange())).code == "credential_missing"
    assert code(made, b"opaque") == "credential_missing", "another policy may know what to make of it"
    assert made.authenticate(make_exchange()) is None


def test_refusals():
    made = hooks(secret(), scopes=["read", "admin"])
    exchange = make_exchange([(b"authorization", b"Bearer " + token(algorithm="HS256"))])
    reply = made.access(exchange)
    assert (reply.status, reply.code) == (403, "insufficient_scope")
    told = b'Bearer realm="gatewayd", error="insufficient_scope", scope="read admin"'
    assert dict(reply.headers)[b"www-authenticate"] == told
    exchange = make_exchange([(b"authorization", b"Bearer " + token(claims(exp=1), algorithm="HS256"))])
    reply = made.access(exchange)
    assert (reply.status, reply.code) == (401, "credential_invalid")
    assert dict(reply.headers)[b"www-authenticate"] == b'Bearer realm="gatewayd", error="invalid_token"'


def test_whatever_is_wrong_the_refusal_is_the_same():
    made = hooks(secret())
    wrong = [
        token(claims(exp=1), algorithm="HS256"),
        token(claims(aud="x"), algorithm="HS256"),
        token(claims(iss="https://evil.example"), algorithm="HS256"),
        token(),
        forged({"alg": "none"}),
        b"a.b.c",
        b"..",
        b"x." + b"y" * 20_000 + b".z",
    ]
    replies = [made.access(make_exchange([(b"authorization", b"Bearer " + text)])) for text in wrong]
    assert all(reply is replies[0] for reply in replies)
    assert replies[0].code == "credential_invalid"


def test_two_credentials_at_once():
    good = token(algorithm="HS256")
    for second in (b"Bearer " + good, b"Basic x", b"Bearer x"):
        exchange = make_exchange([(b"authorization", b"Bearer " + good), (b"authorization", second)])
        assert hooks(secret()).access(exchange).code == "credential_invalid"


def test_several_issuers_do_not_stand_in_for_one_another(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(KEY)))
    other = described(
        issuer="https://other.example", jwks=None, jwks_file=str(path), consumer_claim="org", consumers=None
    )
    made = hooks(secret(), other, consumers=Known({}, ACME))
    assert code(made, token(algorithm="HS256")) == ""
    exchange, refused = ask(made, token(claims(iss="https://other.example", org="acme")))
    assert (refused, exchange.identity.consumer) == ("", ACME)
    assert code(made, token(claims(iss="https://other.example"), algorithm="HS256")) == "credential_invalid"
    assert code(made, token()) == "credential_invalid"
    exchange, _ = ask(made, token(claims(org="acme"), algorithm="HS256"))
    assert exchange.identity.consumer.id == f"{ISSUER}|acme-1", "that claim counts for the other issuer only"


@pytest.mark.parametrize("binding", ["none", "any", "dpop", "mtls"])
def test_bound_tokens_count_only_with_their_proof(binding):
    made = hooks(secret(), binding=binding)
    for confirmation, scheme in (({"jkt": "x"}, b"DPoP"), ({"x5t#S256": "x"}, b"Bearer"), ({"odd": 1}, b"Bearer")):
        for _ in range(2):
            text = token(claims(cnf=confirmation), algorithm="HS256")
            assert code(made, text, scheme) == "credential_invalid"
    assert code(made, token(algorithm="HS256")) == ("" if binding == "none" else "credential_invalid")


def test_what_would_do_is_said():
    assert hooks(secret()).challenges == (b'Bearer realm="gatewayd"',)
    assert [each[:4] for each in hooks(secret(), binding="any").challenges] == [b"Bear", b"DPoP"]
    assert hooks(secret(), scopes=["a"], binding="mtls").explain == f"{ISSUER} (HS256), scopes a, bound by mtls"


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Host", "Via", "X-Forwarded-For", "Connection", "Proxy"])
def test_some_fields_are_no_place_for_claims(name):
    with pytest.raises(ConfigError, match=r"claims_to_headers\.email"):
        hooks(secret(), claims_to_headers={"email": name})


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError) as caught:
        hooks(secret(), described(discovery=True), claims_to_headers={"email": "Host"})
    assert [fault.path for fault in caught.value.faults] == [
        "issuers[1].issuer",
        "issuers[1].issuer",
        "claims_to_headers.email",
    ]


def test_the_secret_does_not_show():
    config = msgspec.convert({"issuers": [secret()]}, jwt.Config, dec_hook=from_plain)
    assert SECRET not in repr(config)


# -- from caller to target -------------------------------------------------------------------------------------------


def document(port, url, **options):
    issuers = options.pop("issuers", None) or [described(url)]
    base = proxied(port)
    base["routes"]["all"]["policies"] = ["jwt"]
    return {**base, "policies": {"jwt": {"issuers": issuers, **options}}, "identity": {"failures_per_address": 0}}


def lines(*fields, method=b"GET"):
    return b"".join(
        [method, b" /v1/x HTTP/1.1\r\nHost: api.example\r\n", *(each + b"\r\n" for each in fields), b"\r\n"]
    )


def served(edge, text, *more):
    with Caller(edge.port) as caller:
        caller.send(lines(b"Authorization: Bearer " + text, *more))
        return caller.answer()


def test_a_token_on_its_way():
    with SideServer({"/jwks": jwks(KEY)}) as server, ScriptedUpstream(answer(OK)) as up:
        options = {"claims_to_headers": {"email": "X-User-Email"}}
        text = b"Authorization: Bearer " + token(claims(email="a@example.org"))
        with EdgeThread(document(up.port, server.url(), **options), FakeClock()) as edge, Caller(edge.port) as caller:
            caller.send(lines(text, b"X-User-Email: root@example.org", b"X_User_Email: root@example.org"))
            assert caller.answer().status == 200
        sent = asked(up)
    assert sent.values(b"x-user-email") == [b"a@example.org"]
    assert sent.values(b"authorization") == sent.values(b"x_user_email") == []


def test_a_refused_token_reaches_nobody():
    with SideServer({"/jwks": jwks(KEY)}) as server, ScriptedUpstream(answer(OK)) as up:
        with EdgeThread(document(up.port, server.url()), FakeClock()) as edge:
            replies = [served(edge, text) for text in (token(claims(exp=1)), token(key=key_for("RS256", "two")), b"x")]
        assert [reply.status for reply in replies] == [401] * 3
        assert not up.peers


def test_keys_are_there_before_the_first_caller_and_one_fetch_does_for_many():
    with SideServer({"/jwks": jwks(KEY)}) as server, ScriptedUpstream(answer(OK)) as up:
        with EdgeThread(document(up.port, server.url()), FakeClock()) as edge:
            assert [served(edge, token(claims(n=number))).status for number in range(20)] == [200] * 20
        assert server.paths() == ["/jwks"]


def test_a_rotation_at_the_issuer_goes_unnoticed_and_ends_the_old_keys_tokens():
    with SideServer({"/jwks": jwks(KEY)}) as server, ScriptedUpstream(answer(OK)) as up:
        with EdgeThread(document(up.port, server.url()), FakeClock()) as edge:
            old, new = token(), token(key=key_for("RS256", "two"), kid="k2")
            assert served(edge, old).status == 200
            server.answers["/jwks"] = jwks(NEW)
            assert served(edge, old).status == 200, "nobody knows yet"
            assert served(edge, new).status == 200
            assert served(edge, old).status == 401, "though it was remembered"
        assert len(server.asked) == 3, "at the start, for the new key, and for the old one, which might have come back"


def test_a_flood_of_made_up_keys_leaves_the_issuer_alone():
    with SideServer({"/jwks": jwks(KEY)}) as server, ScriptedUpstream(answer(OK)) as up:
        with EdgeThread(document(up.port, server.url()), FakeClock()) as edge, Caller(edge.port) as caller:
            for number in range(200):
                caller.send(lines(b"Authorization: Bearer " + token(kid=f"made-up-{number}")))
                assert caller.answer().status == 401
            assert served(edge, token()).status == 200
        assert len(server.asked) == 6


def test_an_issuer_that_is_down():
    with SideServer({"/jwks": (500, {}, b"")}) as server, ScriptedUpstream(answer(OK)) as up:
        clock = FakeClock()
        with EdgeThread(document(up.port, server.url()), clock) as edge:
            reply = served(edge, token())
            assert (reply.status, reply.code) == (503, "issuer_unavailable")
            server.answers["/jwks"] = jwks(KEY)
            edge.call(clock.advance, 2)
            assert served(edge, token()).status == 200
            server.answers["/jwks"] = (500, {}, b"")
            edge.call(clock.advance, 305)
            assert served(edge, token(claims(n=1))).status == 200, "by the keys at hand"


def test_many_who_wait_for_the_first_keys_wait_for_one_fetch():
    with SideServer({"/jwks": jwks(KEY)}) as server, ScriptedUpstream(answer(OK)) as up:
        server.gate.clear()
        with EdgeThread(document(up.port, server.url()), FakeClock()) as edge, ExitStack() as stack:
            callers = [stack.enter_context(Caller(edge.port)) for _ in range(20)]
            for number, caller in enumerate(callers):
                caller.send(lines(b"Authorization: Bearer " + token(claims(n=number))))
            edge.until(lambda: edge.call(waiting) >= len(callers))
            server.gate.set()
            assert [caller.answer().status for caller in callers] == [200] * 20
        assert len(server.asked) == 1


def waiting():
    return sum(each.get_name() == "policy jwt" for each in asyncio.all_tasks())


def test_tokens_from_a_cookie_leave_the_other_cookies():
    options = {"issuers": [secret()], "place": "cookie:session"}
    with ScriptedUpstream(answer(OK)) as up:
        text = (
            b"Cookie: a=1; session="
            + token(claims(exp=9_999_999_999, iat=NOW - 100_000_000), algorithm="HS256")
            + b"; b=2"
        )
        sent, reply = through(document(up.port, "", **options), up, lines(text))
    assert (reply.status, sent.values(b"cookie")) == (200, [b"a=1; b=2"])


def test_a_caller_who_leaves_while_keys_are_fetched_takes_nothing_along():
    with SideServer({"/jwks": jwks(KEY)}) as server, ScriptedUpstream(answer(OK)) as up:
        server.gate.clear()
        with EdgeThread(document(up.port, server.url()), FakeClock()) as edge:
            with Caller(edge.port) as leaver:
                leaver.send(lines(b"Authorization: Bearer " + token()))
                edge.until(lambda: edge.call(waiting))
            with Caller(edge.port) as caller:
                caller.send(lines(b"Authorization: Bearer " + token()))
                server.gate.set()
                assert caller.answer().status == 200


def test_names_of_headers_are_matched_in_any_case():
    made = hooks(secret(), claims_to_headers={"sub": "X-USER"})
    exchange = make_exchange([(b"x-user", b"root"), (b"authorization", b"Bearer " + token(algorithm="HS256"))])
    assert made.access(exchange) is None
    assert exchange.headers == [(b"x-user", b"acme-1")]


@pytest.mark.parametrize("key", ["any_of", "all_of"])
def test_where_several_are_asked_nobodys_forged_field_comes_through(key):
    """The first of them finds the caller, so the second, which tells targets by X-User, is perhaps not asked."""
    with ScriptedUpstream(answer(OK)) as up:
        base = proxied(up.port)
        base["routes"]["all"]["policies"] = ["who"]
        base["policies"] = {
            "who": {"policy": "authentication", key: ["first", "second"]},
            "first": {"policy": "jwt", "issuers": [secret()]},
            "second": {
                "policy": "jwt",
                "issuers": [secret()],
                "place": "header:X-Second",
                "claims_to_headers": {"email": "X-User"},
            },
        }
        text = token(algorithm="HS256")
        fields = [b"Authorization: Bearer " + text, b"X-User: root"] + [b"X-Second: " + text] * (key == "all_of")
        with EdgeThread(base, FakeClock()) as edge, Caller(edge.port) as caller:
            caller.send(lines(*fields))
            assert caller.answer().status == 200
        sent = asked(up)
    assert sent.values(b"x-user") == sent.values(b"authorization") == []
