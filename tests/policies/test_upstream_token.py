"""upstream_token: whom targets are told of, and where its keys are published."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gatewayd.config.model import Document, Gateway
from gatewayd.core.policy import BuildContext, Route
from gatewayd.errors import ConfigError
from gatewayd.identity.jose import members, take_apart
from gatewayd.identity.jwk import key_set
from gatewayd.policies import upstream_token
from gatewayd.policies.upstream_token import Config
from tests.support.callers import known
from tests.support.edge import EdgeThread
from tests.support.exchanges import make_exchange
from tests.support.raw import Caller


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "token.pem"
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(path)


def hooks(key, **options):
    context = BuildContext("token", document=Document(gateway=Gateway(name="gw-1")))
    return upstream_token.build(Config(keys=[key], **options), context)


def route(service="claims"):
    found = Route("claim", None)
    found.service = service
    return found


def sent(hooks, identity, headers=(), **attributes):
    exchange = make_exchange([*headers], identity=identity, **{"route": route(), **attributes})
    assert hooks.access(exchange) is None
    return exchange.headers


def test_the_callers_own_authorization_makes_way(key):
    ((name, value),) = sent(hooks(key), known("alice"), [(b"authorization", b"Bearer x"), (b"authorization", b"y")])
    assert name == b"authorization"
    claims = members(take_apart(value.removeprefix(b"Bearer ")).payload)
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("gw-1", "alice", "claims")
    assert claims["exp"] - claims["iat"] == 60


def test_nobody_has_no_token_and_cannot_bring_one(key):
    assert sent(hooks(key), None, [(b"authorization", b"Bearer forged"), (b"accept", b"*/*")]) == [(b"accept", b"*/*")]
    assert sent(hooks(key, header="X-Identity"), None, [(b"x-identity", b"forged")]) == []


def test_another_field_holds_the_token_alone(key):
    headers = sent(hooks(key, header="X-Gateway-Token"), known(), [(b"authorization", b"mine")])
    assert headers[0] == (b"authorization", b"mine")
    assert headers[1][0] == b"x-gateway-token"
    assert take_apart(headers[1][1]).header.algorithm == "EdDSA"


@pytest.mark.parametrize(
    ("options", "service", "audience"),
    [({}, "claims", "claims"), ({}, "", "claim"), ({"audience": "https://claims"}, "claims", "https://claims")],
)
def test_for_whom_it_is(key, options, service, audience):
    ((_, value),) = sent(hooks(key, issuer="me", **options), known(), route=route(service))
    claims = members(take_apart(value.removeprefix(b"Bearer ")).payload)
    assert (claims["iss"], claims["aud"]) == ("me", audience)


def test_keys_are_published_on_its_routes_to_those_who_read(key):
    document = {
        "routes": {
            "keys": {"path": "/.well-known/jwks.json", "reply": {}, "policies": ["token"]},
            "other": {"path": "/*", "reply": {"body": "other"}, "policies": ["token"]},
        },
        "policies": {"token": {"policy": "upstream_token", "keys": [key]}},
    }
    with EdgeThread(document) as edge, Caller(edge.port) as caller:
        answer = caller.ask("/.well-known/jwks.json")
        assert answer.headers["content-type"] == "application/json"
        assert "max-age" in answer.headers["cache-control"]
        assert len(key_set(json.loads(answer.body))) == 1
        assert caller.ask("/.well-known/jwks.json", method="HEAD").status == 200
        assert caller.ask("/.well-known/jwks.json", method="POST").body == b""
        assert caller.ask("/.well-known/jwks.json/x").body == b"other"


def test_nothing_is_published_if_not_wanted(key):
    quiet = hooks(key, publish="")
    assert sent(quiet, None, path=b"/.well-known/jwks.json") == []
    assert "keys at" not in quiet.explain
    assert hooks(key).explain.endswith("keys at /.well-known/jwks.json")


def test_wrong_options(key):
    with pytest.raises(ConfigError) as caught:
        hooks(key, header="Via", lifetime=1)
    assert [fault.path for fault in caught.value.faults] == ["header", "lifetime"]
    with pytest.raises(ConfigError, match=r"openssl genpkey"):
        upstream_token.build(Config(keys=[]), BuildContext("token"))
