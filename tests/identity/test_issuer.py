"""issuer: a description becomes keys, rules and consumers; what is wrong with it is said at once."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from gatewayd.config.model import Document, Gateway, Route
from gatewayd.config.units import Duration, from_plain
from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer
from gatewayd.core.policy import BuildContext
from gatewayd.identity.fetch import close
from gatewayd.identity.issuer import Issuer, check, find, in_use, rules
from gatewayd.identity.tokens import TYPES
from tests.support.callers import Known
from tests.support.side_server import SideServer
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, claims, jwk_of, jwks, key_for

ACME = Consumer("acme")
ONE, TWO = (jwk_of(key_for("ES256", name), kid=name) for name in ("one", "two"))


def issuer(**more):
    usual = {"issuer": ISSUER, "jwks": f"{ISSUER}/jwks", "algorithms": ["ES256"], "audience": [AUDIENCE]}
    options = {name: value for name, value in {**usual, **more}.items() if value is not None}
    return msgspec.convert(options, Issuer, dec_hook=from_plain)


def context(**more):
    return BuildContext("jwt", clock=FakeClock(), consumers=Known({}, ACME), **more)


def faults(*issuers):
    return [(fault.path, fault.message) for fault in check(issuers, context())]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(jwks(ONE)))
    return path


def test_nothing_wrong(file):
    assert not faults(
        issuer(),
        issuer(issuer="a", jwks=None, jwks_file=str(file), consumer="acme"),
        issuer(issuer="https://b.example", jwks=None, discovery=True, consumer_claim="org"),
        issuer(issuer="c", jwks=None, secret=SECRET, algorithms=["HS512"], audience="any", consumers="any"),
    )


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"jwks": None}, "issuer", "its keys must come from one place"),
        ({"discovery": True}, "issuer", "its keys must come from one place"),
        ({"jwks": "file:///etc/passwd"}, "jwks", "is no http or https URL"),
        ({"jwks": None, "discovery": True, "issuer": "login"}, "issuer", "is no http or https URL, so"),
        ({"algorithms": ["ES256", "HS256"]}, "algorithms[1]", "goes with a secret"),
        ({"jwks": None, "secret": SECRET}, "algorithms[0]", "goes with public keys"),
        ({"jwks": None, "secret": "x" * 47, "algorithms": ["HS256", "HS384"]}, "secret", "is too short for HS384"),
        ({"jwks": None, "jwks_file": "/none/jwks.json"}, "jwks_file", "cannot be read: No such file"),
        ({"audience": []}, "audience", "nobody is named"),
        ({"consumer": "nobody"}, "consumer", "no consumer of this id"),
        ({"consumer": "acme", "consumer_claim": "org"}, "consumers", "tokens can be assigned"),
        ({"consumer_claim": "org", "consumers": "any"}, "consumers", "tokens can be assigned"),
    ],
)
def test_what_is_wrong(options, path, message):
    ((found, said),) = faults(issuer(issuer="https://first.example"), issuer(**options))
    assert found == f"issuers[1].{path}"
    assert said.startswith(message)


def test_two_of_one_name():
    assert faults(issuer(), issuer()) == [("issuers[1].issuer", "stands there twice")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no key set (json)"),
        ("{}", "is no key set (key_set)"),
        ('{"keys":[{}]}', "has no key that can be used"),
    ],
)
def test_files_of_something_else(file, text, message):
    file.write_text(text)
    assert faults(issuer(jwks=None, jwks_file=str(file))) == [("issuers[0].jwks_file", message)]


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": "a|b"},
        {"issuer": "a b"},
        {"issuer": ""},
        {"algorithms": []},
        {"algorithms": ["none"]},
        {"audience": None},
    ],
)
def test_what_the_types_refuse(options):
    with pytest.raises(msgspec.ValidationError):
        issuer(**options)


def test_secrets_do_not_show():
    shown = issuer(jwks=None, secret=SECRET, algorithms=["HS256"])
    assert SECRET not in repr(shown)
    (fault,) = check([issuer(jwks=None, secret="tiny secret", algorithms=["HS256"])], context())
    assert "tiny" not in str(fault)


def test_rules():
    found = rules(issuer(type="application/AT+jwt", leeway="5s", required=["exp", "jti"]), context())
    assert (found.issuer, found.algorithms, found.audiences) == (ISSUER, {"ES256"}, {AUDIENCE})
    assert (found.types, found.required, found.leeway) == ({"at+jwt"}, {"exp", "jti"}, 5.0)
    assert not isinstance(found.leeway, Duration)
    lax = rules(issuer(audience="any"), context())
    assert (lax.audiences, lax.types) == (None, TYPES)


def test_consumers():
    assert find(issuer(consumer="acme"), context())(claims())[0] is ACME
    assert find(issuer(consumer_claim="org"), context())(claims(org="acme"))[0] is ACME
    assert find(issuer(consumers="any"), context())(claims())[0].id == f"{ISSUER}|acme-1"


def test_keys_are_one_for_all_that_ask_for_the_same_and_outlive_a_reload():
    ground = context()
    first = rules(issuer(), ground).source
    assert rules(issuer(audience="any", algorithms=["RS256"]), ground).source is first
    assert rules(issuer(refresh="1m"), ground).source is not first
    assert rules(issuer(ca="/ca.pem"), ground).source is not first
    assert rules(issuer(), context()).source is not first


def test_a_reload_reads_the_file_anew(file):
    ground = context()
    description = issuer(jwks=None, jwks_file=str(file))
    source = rules(description, ground).source
    (key,) = source.keys.keys
    file.write_text(json.dumps(jwks(TWO)))
    assert rules(description, ground).source is source
    assert ([each.kid for each in source.keys.keys], key.live) == (["two"], False)


def test_a_secret_is_there_at_once():
    source = rules(issuer(jwks=None, secret=SECRET, algorithms=["HS256"]), context()).source
    assert (source.usable, len(source.keys)) == (True, 1)


# -- before the first request ----------------------------------------------------------------------------------------

ROUTE, ASKING = Route(path="/"), Route(path="/", policies=["who"])
BOTH = {"policy": "authentication", "all_of": ["x"]}


@pytest.mark.parametrize(
    ("document", "used"),
    [
        (Document(), False),
        (Document(gateway=Gateway(policies=["jwt"])), False),
        (Document(gateway=Gateway(policies=["jwt"]), routes={"a": ROUTE}), True),
        (Document(routes={"a": Route(path="/", policies=["x", "jwt"])}), True),
        (
            Document(routes={"a": ROUTE}, policies={"jwt": {}, "who": {"policy": "authentication", "any_of": ["jwt"]}}),
            False,
        ),
        (
            Document(
                routes={"a": ASKING}, policies={"jwt": {}, "who": {"policy": "authentication", "any_of": ["jwt"]}}
            ),
            True,
        ),
        (
            Document(
                routes={"a": ASKING},
                policies={"jwt": {}, "who": BOTH, "x": {"policy": "authentication", "any_of": ["jwt"]}},
            ),
            True,
        ),
        (
            Document(
                routes={"a": ASKING}, policies={"jwt": {}, "who": {"policy": "authentication", "any_of": ["jwt2"]}}
            ),
            False,
        ),
    ],
)
def test_whether_anybody_asks(document, used):
    assert in_use(context(document=document)) is used


@pytest.mark.parametrize("used", [True, False])
def test_keys_are_fetched_before_the_first_request_comes(used):
    document = Document(gateway=Gateway(policies=["jwt"] if used else []), routes={"a": ROUTE})

    async def build():
        source = rules(issuer(jwks=server.url("/jwks")), context(document=document, arena=Arena())).source
        if used:
            await source.wait(0)  # joins the fetch that is under way
        await close()
        return source.usable, len(server.asked)

    with SideServer({"/jwks": jwks(ONE)}) as server:
        assert asyncio.run(build()) == (used, int(used))


def test_where_nothing_is_served_nothing_is_fetched():
    document = Document(gateway=Gateway(policies=["jwt"]), routes={"a": ROUTE})
    with SideServer({"/jwks": jwks(ONE)}) as server:
        rules(issuer(jwks=server.url("/jwks")), context(document=document))
        rules(issuer(jwks=server.url("/jwks")), context(document=document, arena=Arena()))  # no loop runs
        assert not server.asked
