"""Rules and policies that can never take effect where they stand."""

from __future__ import annotations

import json

import pytest

from gatewayd.config.idle import idle
from gatewayd.config.load import decode

TLS = {"certificates": [{"cert": "c", "key": "k"}], "client_ca": "ca"}
PARTNERS = {"address": "127.0.0.1:1", "tls": {**TLS, "client_auth": "optional"}}
PLAIN = {"address": "127.0.0.1:2"}


def said(**document):
    """Key and what was found of each warning; routes lead nowhere, for nobody looks there."""
    routes = {"one": {"path": "/a/{id}"}, "two": {"path": "/b/{day}/{rest*}"}}
    routes = {name: {**route, **document.pop(name, {})} for name, route in routes.items()}
    return idle(decode({"listeners": {"http": PLAIN}, "routes": routes, **document}))


def ruled(*deny, **document):
    return said(policies={"rules": {"policy": "acl", "deny": list(deny)}}, **document)


def paths(found):
    return [each.path for each in found]


def test_consumers_that_nobody_is(tmp_path):
    file = tmp_path / "consumers.jsonl"
    file.write_text(json.dumps({"id": "bert"}) + "\n")
    found = ruled(
        {"consumers": ["*", "anna", "bert", "ana", "https://issuer|anna"]},
        {"consumers": ["ana"]},
        consumers={"anna": {}},
        identity={"consumers_file": f"{file}"},
    )
    assert paths(found) == ["policies.rules.deny[0].consumers[3]", "policies.rules.deny[1].consumers[0]"]
    assert found[0].hint == 'did you mean "anna"?'


def test_a_consumers_file_that_is_another_one_by_now(tmp_path):
    assert paths(ruled({"consumers": ["anna"]}, identity={"consumers_file": f"{tmp_path}/none"}))


BOTH = {"policies": ["rules"]}


@pytest.mark.parametrize(
    ("rule", "document", "told"),
    [
        ({"params": {"id": ["7"]}}, {"one": BOTH}, False),
        ({"params": {"id": ["7"]}}, {"two": BOTH}, True),
        ({"params": {"id": ["7"]}}, {"one": BOTH, "two": BOTH}, False),
        ({"params": {"id": ["7"]}, "routes": ["two"]}, {"one": BOTH, "two": BOTH}, True),
        ({"params": {"rest": ["7"], "day": ["1"]}}, {"two": BOTH}, False),
        ({"params": {"di": ["7"]}}, {"gateway": BOTH}, True),
        ({"params": {"id": ["7"]}}, {"gateway": BOTH}, False),
        ({"params": {"di": ["7"]}}, {"plans": {"gold": BOTH}}, True),
        ({"params": {"di": ["7"]}}, {"services": {"s": {"upstream": "u", **BOTH}}, "one": {"service": "s"}}, True),
        ({"params": {"di": ["7"]}}, {}, False),
    ],
)
def test_parameters_that_no_route_has(rule, document, told):
    (key,) = rule["params"].keys() & {"id", "di"} or ("",)
    assert paths(ruled(rule, **document)) == ([f"policies.rules.deny[0].params.{key}"] if told else [])


def test_rules_that_allow_are_looked_at_too():
    policies = {"acl": {"allow": [{"groups": ["g"]}, {"consumers": ["x"]}]}}
    assert paths(said(policies=policies)) == ["policies.acl.allow[1].consumers[0]"]


@pytest.mark.parametrize(
    ("listeners", "route", "told"),
    [
        ({"http": PLAIN}, {"policies": ["mtls"]}, True),
        ({"http": PLAIN}, {"policies": ["outer"]}, True),
        ({"http": PLAIN}, {}, False),
        ({"http": PLAIN, "partners": PARTNERS}, {"policies": ["outer"]}, False),
        ({"http": PLAIN, "partners": PARTNERS}, {"policies": ["mtls"], "listeners": ["http"]}, True),
        ({"http": PLAIN, "partners": {**PARTNERS, "tls": TLS}}, {"policies": ["mtls"]}, True),
    ],
)
def test_certificates_that_nobody_asks_for(listeners, route, told):
    policies = {
        "mtls": {},
        "outer": {"policy": "authentication", "all_of": ["inner"]},
        "inner": {"policy": "authentication", "any_of": ["mtls", "outer"]},
    }
    assert paths(said(listeners=listeners, policies=policies, one=route)) == (["policies.mtls"] if told else [])


def test_what_cannot_be_read_is_told_of_elsewhere():
    assert ruled({"consumers": "anna"}) == []
