"""Who a call on record was, for policies of another configuration."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.audit.record import Caller
from gatewayd.config.load import decode
from gatewayd.core.identity import Identity
from gatewayd.gateway.recognition import INVALID, MISSING, Recognition
from gatewayd.gateway.unrecorded import NotOnRecord
from gatewayd.identity.consumer_source import open_consumers
from tests.support.records import recorded_call

HASH = "hmac-sha256:" + "ab" * 32
NOW = 1.8e9
POLICIES = {
    "key": {"policy": "api_key"},
    "jwt": {"issuers": [{"issuer": "https://i"}]},
    "strangers": {"policy": "jwt", "issuers": [{"issuer": "https://i", "consumers": "any"}]},
    "basic": {"policy": "basic_auth"},
    "any": {"policy": "authentication", "any_of": ["key", "jwt"]},
    "all": {"policy": "authentication", "all_of": ["key", "jwt"]},
    "guests": {"policy": "authentication", "any_of": ["key"], "anonymous": "guest"},
    "open": {"policy": "authentication", "any_of": ["key", "strangers"]},
}
CONSUMERS = {"ann": {"keys": [{"id": "k1", "hash": HASH, "scopes": ["read"]}]}, "guest": {}}


def asked(instance: str, caller: Caller | None, serving: dict[str, Any] | None = None, **more: Any) -> Any:
    """What the instance finds: "?" where it is not decided, else (consumer, method) or a code."""
    policies = {**POLICIES, **more.pop("policies", {})}
    document = decode({"policies": policies, "consumers": more.pop("consumers", CONSUMERS)})
    served = None if serving is None else decode({"policies": POLICIES, "consumers": CONSUMERS, **serving})
    recognition = Recognition(document, open_consumers(document, None), served)
    try:
        found = recognition.ask(instance, recorded_call(caller=caller, **more), NOW)
    except NotOnRecord:
        return "?"
    return (found.consumer.id, found.method) if isinstance(found, Identity) else found


KEY = Caller("ann", "k1", "api_key")
TOKEN = Caller("ann", "jti", "jwt")


@pytest.mark.parametrize(
    ("instance", "caller", "expected"),
    [
        ("key", KEY, ("ann", "api_key")),
        ("any", KEY, ("ann", "api_key")),
        ("any", TOKEN, ("ann", "jwt")),
        ("jwt", TOKEN, ("ann", "jwt")),
        ("key", TOKEN, "?"),
        ("basic", KEY, "?"),
        ("all", KEY, "?"),
        ("all", Caller("ann", "k1+jti", "api_key+jwt"), ("ann", "api_key+jwt")),
        ("key", Caller("ann", "k1+jti", "api_key+jwt"), ("ann", "api_key")),
        ("jwt", Caller("ann", "k1+jti", "api_key+jwt"), ("ann", "jwt")),
        ("key", Caller("ann", "k2", "api_key"), INVALID),
        ("key", Caller("bert", "k1", "api_key"), INVALID),
        ("all", Caller("ann", "k2+jti", "api_key+jwt"), INVALID),
        ("jwt", Caller("bert", "jti", "jwt"), INVALID),
        ("jwt", Caller("https://i|bert", "jti", "jwt"), INVALID),
        ("strangers", Caller("https://i|bert", "jti", "jwt"), ("https://i|bert", "jwt")),
        ("open", Caller("https://i|bert", "jti", "jwt"), ("https://i|bert", "jwt")),
        ("guests", Caller("guest", "", "anonymous"), ("guest", "anonymous")),
        ("any", Caller("guest", "", "anonymous"), MISSING),
        ("key", Caller("guest", "", "anonymous"), "?"),
    ],
)
def test_who_was_recognised(instance, caller, expected):
    assert asked(instance, caller) == expected


def test_validity_is_that_of_the_time_of_the_call():
    for key, expected in (({"expires": "2020-01-01"}, INVALID), ({"not_before": "2099-01-01"}, INVALID), ({}, None)):
        consumers = {"ann": {"keys": [{"id": "k1", "hash": HASH, **key}]}}
        assert asked("key", KEY, consumers=consumers) == (expected or ("ann", "api_key"))


def test_scopes_are_those_of_the_credential_and_those_of_tokens_unknown():
    document = decode({"policies": POLICIES, "consumers": CONSUMERS})
    recognition = Recognition(document, open_consumers(document, None), None)
    assert recognition.ask("key", recorded_call(caller=KEY), NOW).scopes == {"read"}
    with pytest.raises(NotOnRecord, match="scopes"):
        "read" in recognition.ask("jwt", recorded_call(caller=TOKEN), NOW).scopes  # noqa: B015


REFUSED = {"code": MISSING, "verdicts": [("key", "refused")]}


@pytest.mark.parametrize(
    ("instance", "more", "expected"),
    [
        ("key", REFUSED, MISSING),
        ("key", {"code": MISSING, "verdicts": [("any", "refused")]}, MISSING),
        ("any", REFUSED, "?"),
        ("guests", REFUSED, ("guest", "anonymous")),
        ("jwt", REFUSED, "?"),
        ("key", {}, "?"),
        ("key", {"code": INVALID, "verdicts": [("key", "refused")]}, "?"),
        ("key", {"code": "not_allowed", "verdicts": [("other", "refused")]}, "?"),
    ],
)
def test_strangers(instance, more, expected):
    assert asked(instance, None, **more) == expected


def test_what_was_refused_is_refused_again_if_nothing_changed():
    refused = {"code": INVALID, "verdicts": [("key", "refused")]}
    assert asked("key", None, serving={}, **refused) == INVALID
    assert asked("key", None, serving={"consumers": {}}, **refused) == "?"
    assert asked("key", None, serving={"policies": {"key": {"policy": "api_key", "header": "X"}}}, **refused) == "?"


def test_tokens_are_judged_again_by_an_instance_that_changed():
    assert asked("jwt", TOKEN, serving={}) == ("ann", "jwt")
    assert asked("jwt", TOKEN, serving={"policies": {"jwt": {"issuers": []}}}) == "?"
