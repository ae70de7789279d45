"""Rules: each condition by itself, all of them together, and what is not the same though it looks it."""

from __future__ import annotations

import pytest

from gatewayd.core.policy import Route
from gatewayd.identity.rules import Rule, condition
from tests.support.callers import known
from tests.support.exchanges import make_exchange

MALLORY = known("mallory")


def holds(rule, identity=MALLORY, **attributes):
    return condition(Rule(**rule))(make_exchange(**attributes), identity)


@pytest.mark.parametrize(
    ("rule", "identity", "expected"),
    [
        ({"consumers": ["acme", "x"]}, known("acme"), True),
        ({"consumers": ["acme"]}, known("acme2"), False),
        ({"consumers": ["acme"]}, None, False),
        ({"consumers": ["*"]}, known("anybody"), True),
        ({"consumers": ["*"]}, None, False),
        ({"consumers": ["*"]}, known("guest", method="anonymous"), False),
        ({"consumers": ["*", "guest"]}, known("guest", method="anonymous"), True),
        ({"groups": ["partners", "staff"]}, known(groups=["staff"]), True),
        ({"groups": ["partners"]}, known(groups=["partner"]), False),
        ({"groups": ["partners"]}, None, False),
        ({"scopes": ["read", "write"]}, known(scopes=["read", "write", "x"]), True),
        ({"scopes": ["read", "write"]}, known(scopes=["read"]), False),
        ({"scopes": ["read"]}, None, False),
        ({"claims": {"role": ["admin", "boss"]}}, known(claims={"role": "boss"}), True),
        ({"claims": {"role": ["admin"]}}, known(claims={"role": ["x", "admin"]}), True),
        ({"claims": {"role": ["admin"]}}, known(claims={"role": "administrator"}), False),
        ({"claims": {"role": ["admin"]}}, known(claims={}), False),
        ({"claims": {"role": ["admin"]}}, None, False),
        ({"claims": {"realm.roles": ["a"]}}, known(claims={"realm": {"roles": ["a"]}}), True),
        ({"claims": {"realm.roles": ["a"]}}, known(claims={"realm.roles": "a"}), True),
        ({"claims": {"realm.roles": ["a"]}}, known(claims={"realm": "roles"}), False),
        ({"claims": {"https://x.example/r": ["a"]}}, known(claims={"https://x.example/r": "a"}), True),
        ({"claims": {"a": ["1"], "b": ["2"]}}, known(claims={"a": "1"}), False),
        ({"claims": {"ok": [True]}}, known(claims={"ok": True}), True),
        ({"claims": {"ok": [True]}}, known(claims={"ok": 1}), False),
        ({"claims": {"ok": [1]}}, known(claims={"ok": True}), False),
        ({"claims": {"ok": ["1"]}}, known(claims={"ok": 1}), False),
        ({"claims": {"ok": [1]}}, known(claims={"ok": [{"a": 1}, [1], 1.0, None]}), False),
    ],
)
def test_who(rule, identity, expected):
    assert holds(rule, identity) is expected


@pytest.mark.parametrize(
    ("methods", "method", "expected"),
    [
        (["GET"], b"GET", True),
        (["GET"], b"HEAD", True),
        (["HEAD"], b"GET", False),
        (["POST", "PUT"], b"PUT", True),
        (["POST"], b"GET", False),
    ],
)
def test_methods(methods, method, expected):
    assert holds({"methods": methods}, method=method) is expected


def test_routes():
    assert holds({"routes": ["claims"]}, route=Route("claims", None))
    assert not holds({"routes": ["claims"]}, route=Route("claim", None))
    assert not holds({"routes": ["claims"]})


@pytest.mark.parametrize(
    ("values", "params", "expected"),
    [
        (["42"], {"id": b"42"}, True),
        (["42"], {"id": b"43"}, False),
        (["42"], {"other": b"42"}, False),
        (["42"], None, False),
        (["a+b"], {"id": b"a%2Bb"}, True),
        (["a+b"], {"id": b"a+b"}, True),
        (["ä"], {"id": b"%C3%A4"}, True),
        (["{consumer.id}"], {"id": b"mallory"}, True),
        (["{consumer.id}"], {"id": b"%6Dallory"}, True),
        (["{consumer.id}"], {"id": b"acme"}, False),
        (["{consumer.id}", "acme"], {"id": b"acme"}, True),
    ],
)
def test_path_parameters(values, params, expected):
    assert holds({"params": {"id": values}}, params=params) is expected


def test_nobody_has_an_id():
    assert not holds({"params": {"id": ["{consumer.id}"]}}, identity=None, params={"id": b""})


def test_all_that_a_rule_names_must_hold():
    rule = {"groups": ["staff"], "methods": ["DELETE"], "params": {"id": ["7"]}}
    staff = known(groups=["staff"])
    assert holds(rule, staff, method=b"DELETE", params={"id": b"7"})
    assert not holds(rule, staff, method=b"DELETE", params={"id": b"8"})
    assert not holds(rule, staff, method=b"GET", params={"id": b"7"})
    assert not holds(rule, known(groups=["x"]), method=b"DELETE", params={"id": b"7"})


def test_a_rule_says_itself():
    rule = Rule(groups=["a", "b"], methods=["GET"], claims={"role": ["x", True]})
    assert str(rule) == "groups a/b, claims role x/True, methods GET"
    assert Rule().named() == []
