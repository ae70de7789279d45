"""introspection: access tokens that their issuer is asked about, on a whole edge."""

from __future__ import annotations

import hashlib
import http.client
import json
from typing import Any

import msgspec
import pytest
from cryptography import x509

from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.identity import fetch
from gatewayd.policies import introspection
from gatewayd.policies.introspection import Config
from tests.support.callers import Known
from tests.support.edge import EdgeThread, proxied
from tests.support.holders import caller, certificate, fingerprint
from tests.support.proofs import proof, stated, thumbprint
from tests.support.side_server import SideServer
from tests.support.tokens import NOW, key_for, segment
from tests.support.upstream import ScriptedUpstream
from tests.wire.certificates import Authority

ISSUER = "https://login.example"
TOKEN = "opaque-7f3a"
PATH = "/introspect"


def active(**more: Any) -> tuple[int, dict[str, str], bytes]:
    """An answer that says yes."""
    return answer({"active": True, "sub": "desk-1", "exp": NOW + 600, **more})


def answer(said: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    """An answer of the issuer's."""
    return status, {"Content-Type": "application/json"}, json.dumps(said).encode()


class House:
    """An issuer, a target, and a gateway between; `acme` has the subject desk-1."""

    def __init__(self, said: Any, common: Any = None, listener: Any = None, **options: Any) -> None:
        self.issuer = SideServer({PATH: said})
        self.upstream = ScriptedUpstream()
        self.clock = FakeClock()
        self.options = {"issuer": ISSUER, "client_id": "gw", "client_secret": "s3cret", **options}
        self.common = common or {}
        self.listener = listener

    def __enter__(self) -> House:
        self.issuer.__enter__()
        self.upstream.__enter__()
        document = {
            **proxied(self.upstream.port),
            "policies": {"introspection": {"url": self.issuer.url(PATH), **self.options, **self.common}},
            "consumers": {"acme": {"tokens": [{"issuer": ISSUER, "subject": "desk-1"}]}},
            "identity": {"failures_per_address": "0/m"},
        }
        document["routes"]["all"]["policies"] = ["introspection"]
        if self.listener:
            document["listeners"] = {"http": self.listener}
        self.edge = EdgeThread(document, self.clock)
        self.edge.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.edge.call(fetch.close)
        self.edge.__exit__(*error)
        self.upstream.__exit__(*error)
        self.issuer.__exit__(*error)

    def ask(self, token: str = TOKEN, scheme: str = "Bearer", tls: Any = None, **headers: str) -> tuple[int, str]:
        """Status and code of a reply."""
        kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
        connection = kind("127.0.0.1", self.edge.port, timeout=20, **({"context": tls} if tls else {}))
        connection.request(
            "GET", "/v1/x", headers={"Host": "api.example.com", "Authorization": f"{scheme} {token}"} | headers
        )
        reply = connection.getresponse()
        body = reply.read()
        self.told = reply.headers
        connection.close()
        return reply.status, json.loads(body)["code"] if reply.status != 200 else ""


def test_a_token_is_asked_about_once_and_lets_in():
    with House(active(scope="read"), scopes=["read"], claims_to_headers={"sub": "X-Subject"}) as house:
        assert [house.ask() for _ in range(3)] == [(200, "")] * 3
        assert len(house.issuer.asked) == 1
        sent = house.upstream.received
        assert sent.count(b"x-subject: desk-1\r\n") == 3
        assert b"authorization" not in sent
        assert TOKEN.encode() not in sent


def test_it_is_asked_again_when_it_may_have_been_taken_back():
    with House(active(), max_age="1m") as house:
        assert house.ask() == (200, "")
        house.issuer.answers[PATH] = answer({"active": False})
        house.clock.advance(59)
        assert house.ask() == (200, "")
        house.clock.advance(1)
        assert house.ask() == (401, "credential_invalid")
        assert house.told["www-authenticate"] == 'Bearer realm="gatewayd", error="invalid_token"'
        assert house.ask() == (401, "credential_invalid")
        assert len(house.issuer.asked) == 2


def test_it_is_never_believed_longer_than_it_lasts():
    with House(active(exp=NOW + 5), max_age="1h") as house:
        assert house.ask() == (200, "")
        house.clock.advance(5)
        assert house.ask() == (401, "credential_invalid")
        assert len(house.issuer.asked) == 2


def test_with_a_max_age_of_nothing_it_is_asked_each_time():
    with House(active(), max_age=0) as house:
        assert [house.ask() for _ in range(3)] == [(200, "")] * 3
        assert len(house.issuer.asked) == 3


@pytest.mark.parametrize(
    ("said", "options", "outcome"),
    [
        (active(sub="nobody"), {}, (401, "credential_invalid")),
        (active(sub=None), {}, (401, "credential_invalid")),
        (active(sub="nobody"), {"consumers": "any"}, (200, "")),
        (active(sub="nobody"), {"consumer": "acme"}, (200, "")),
        (active(client_id="acme"), {"consumer_claim": "client_id"}, (200, "")),
        (active(client_id="other"), {"consumer_claim": "client_id"}, (401, "credential_invalid")),
        (active(iss="https://evil.example"), {}, (401, "credential_invalid")),
        (active(aud="us"), {"audience": ["us"]}, (200, "")),
        (active(), {"audience": ["us"]}, (401, "credential_invalid")),
        (active(scope="write"), {"scopes": ["read"]}, (403, "insufficient_scope")),
        (active(), {"binding": "any"}, (401, "credential_invalid")),
    ],
)
def test_whose_tokens_are_let_in(said, options, outcome):
    with House(said, **options) as house:
        assert house.ask() == outcome


def test_who_may_not_come_in_cannot_have_the_issuer_asked_all_the_time():
    with House(active(sub="nobody")) as house:
        assert [house.ask() for _ in range(5)] == [(401, "credential_invalid")] * 5
        assert len(house.issuer.asked) == 1


def test_without_a_token():
    with House(active()) as house:
        assert house.ask(scheme="Basic", token="YTpi") == (401, "credential_missing")
        assert house.told["www-authenticate"] == 'Bearer realm="gatewayd"'
        assert not house.issuer.asked


def test_while_the_issuer_is_out_of_order_nobody_is_let_in():
    with House(answer({}, 500)) as house:
        assert [house.ask(f"token{number}") for number in range(6)] == [(503, "issuer_unavailable")] * 6
        assert house.told["retry-after"] == "5"
        assert len(house.issuer.asked) == 3, "it is left alone"
        assert b"GET" not in house.upstream.received


def test_unless_the_policy_fails_open():
    with House(answer({}, 500), common={"failure": "open"}) as house:
        assert house.ask() == (200, "")
        house.issuer.answers[PATH] = answer({"active": False})
        assert house.ask() == (401, "credential_invalid"), "a no is no failure"


def test_who_was_let_in_before_is_while_it_may_be_believed():
    with House(active(), max_age="1m") as house:
        assert house.ask() == (200, "")
        house.issuer.answers[PATH] = answer({}, 500)
        house.clock.advance(59)
        assert house.ask() == (200, "")
        house.clock.advance(2)
        assert house.ask() == (503, "issuer_unavailable")


def test_a_token_bound_to_a_key():
    key = key_for("ES256")
    with House(active(cnf={"jkt": thumbprint(key)})) as house:
        ath = segment(hashlib.sha256(TOKEN.encode()).digest()).decode()
        first = proof(stated(ath=ath, htu="http://api.example.com/v1/x", jti="edge")).decode()
        assert house.ask() == (401, "credential_invalid")
        assert house.ask(scheme="DPoP") == (401, "credential_invalid")
        assert house.ask(scheme="DPoP", DPoP=first) == (200, "")
        assert house.ask(scheme="DPoP", DPoP=first) == (401, "credential_invalid"), "a proof is good once"
        assert b"dpop" not in house.upstream.received.lower()


def test_a_token_bound_to_a_certificate(tmp_path):
    authority = Authority(tmp_path)
    server = authority.issue("gateway.test")
    mine, other = (certificate(authority, x509.DNSName(name)) for name in ("mine.example", "other.example"))
    cnf = {"x5t#S256": segment(bytes.fromhex(fingerprint(mine))).decode()}
    pair = {"cert": server.cert, "key": server.key}
    tls = {"certificates": [pair], "client_auth": "optional", "client_ca": authority.file}
    with House(active(cnf=cnf), listener={"tls": tls}) as house:
        assert house.ask(tls=caller(authority, tmp_path, mine)) == (200, "")
        assert house.ask(tls=caller(authority, tmp_path, other)) == (401, "credential_invalid")
        assert house.ask(tls=caller(authority, tmp_path)) == (401, "credential_invalid")


# -- configuration ----------------------------------------------------------------------------------------------------


def build(**options: Any) -> Any:
    """The hooks of an instance."""
    options = {"url": "https://login.example/introspect", "issuer": ISSUER, **options}
    context = BuildContext("i", clock=FakeClock(), arena=Arena(size=1 << 26), consumers=Known({}, Consumer("acme")))
    return introspection.build(Config(**options), context)


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"url": "login.example"}, ["url"]),
        ({"url": "https://user@login.example/"}, ["url"]),
        ({"issuer": ""}, ["issuer"]),
        ({"client_secret": "x"}, ["client_id"]),
        ({"consumer": "nobody"}, ["consumer"]),
        ({"consumer": "acme", "consumer_claim": "sub"}, ["consumers"]),
        ({"claims_to_headers": {"sub": "Host"}}, ["claims_to_headers.sub"]),
    ],
)
def test_what_makes_no_sense_is_a_fault(options, paths):
    with pytest.raises(ConfigError) as caught:
        build(**options)
    assert [fault.path for fault in caught.value.faults] == paths


def test_the_secret_is_nowhere_to_be_seen():
    config = Config(url="https://login.example/", client_id="gw", client_secret="s3cret", issuer=ISSUER)
    assert "s3cret" not in repr(config)
    assert "s3cret" not in build(client_id="gw", client_secret="s3cret").explain
    with pytest.raises(ConfigError) as caught:
        build(client_secret="s3cret")
    assert "s3cret" not in str(caught.value)


def test_it_is_explained():
    assert build(scopes=["a"]).explain == "asks https://login.example/introspect, scopes a"


def test_how_we_say_who_we_are_is_one_of_two():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"url": "x", "auth": "tls"}, Config)
