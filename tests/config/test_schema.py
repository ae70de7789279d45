"""The JSON Schema says what loading does, as far as a schema can."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from msgspec import Struct

from gatewayd.config.schema import schema
from gatewayd.config.units import Size


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy's options."""

    size: Size  # how much
    names: set[str] = set()


SCHEMA = schema({"limit": Config})
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)


@pytest.mark.parametrize(
    "plain",
    [
        {},
        {"include": ["conf.d/*.toml"], "gateway": {"workers": "auto"}},
        {"gateway": {"workers": 2, "drain_timeout": "1m30s"}},
        {
            "limits": {"head": 5, "body": "1MiB", "headers": "${env:N}"},
            "timeouts": {"body_min_rate": "2KiB/s"},
        },
        {"listeners": {"a.b": {"address": "a:1", "tls": {"certificates": [{"cert": "a", "key": "b"}]}}}},
        {"upstreams": {"a": {"targets": [{"address": "a:1"}], "tls": {}}}},
        {"routes": {"a": {"path": "/", "methods": ["GET"], "headers": {"X-A": "*"}, "body": 0}}},
        {
            "policies": {
                "limit": {"size": 1},
                "b": {"policy": "limit", "mode": "observe", "size": "${file:x}"},
            }
        },
        {
            "sinks": {
                "a": {"kind": "file", "path": "/x", "interval": "2s"},
                "b": {"kind": "postgres", "url": "${env:U}"},
            }
        },
    ],
)
def test_what_is_right(plain):
    assert not [error.message for error in VALIDATOR.iter_errors(plain)]


@pytest.mark.parametrize(
    "plain",
    [
        {"limit": {}},
        {"limits": {"haed": 1}},
        {"limits": {"head": "1"}},
        {"limits": {"head": -1}},
        {"limits": {"headers": 0}},
        {"timeouts": {"head": "1y"}},
        {"timeouts": {"body_min_rate": "2KiB"}},
        {"control": {"enabled": 1}},
        {"gateway": {"workers": "all"}},
        {"listeners": {"a b": {"address": "a:1"}}},
        {"listeners": {"${env:A}": {"address": "a:1"}}},
        {"listeners": {"a": {}}},
        {"upstreams": {"a": {"targets": []}}},
        {"routes": {"a": {"path": "/", "methods": ["GE T"]}}},
        {"routes": {"a": {"path": "/", "headers": {"X A": "*"}}}},
        {"routes": {"a": {"path": "/", "redirect": {"to": "/", "status": 200}}}},
        {"policies": {"a": {"policy": "limt", "size": 1}}},
        {"policies": {"limit": {"size": 1, "more": 1}}},
        {"policies": {"limit": {}}},
        {"sinks": {"a": {"path": "/x"}}},
        {"sinks": {"a": {"kind": "fiel", "path": "/x"}}},
        {"sinks": {"a": {"kind": "file", "path": "/x", "facility": "user"}}},
        {"sinks": {"a": {"kind": "file"}}},
    ],
)
def test_what_is_wrong(plain):
    assert not VALIDATOR.is_valid(plain)


def options(found: Any, above: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every option of the tables of a schema."""
    if isinstance(found, list):
        return [option for item in found for option in options(item, above)]
    if not isinstance(found, dict):
        return []
    own = found.get("properties", {})
    below = [option for name, item in found.items() for option in options(item, f"{above}/{name}")]
    return [(f"{above}/{name}", option) for name, option in own.items()] + below


def test_every_option_has_its_description():
    described = options(SCHEMA)
    assert len(described) > 100
    silent = [name for name, option in described if not option.get("description")]
    assert [name.rpartition("/")[2] for name in silent] == ["names"]


def test_a_policy_is_described_by_its_file():
    (limit,) = SCHEMA["properties"]["policies"]["additionalProperties"]["anyOf"]
    assert (limit["title"], limit["description"]) == ("limit", __doc__)


def test_defaults_are_written_as_a_person_would():
    limits = SCHEMA["definitions"]["Limits"]["properties"]
    assert limits["head"]["default"] == "32KiB"
    assert SCHEMA["definitions"]["Timeouts"]["properties"]["body_min_rate"]["default"] == "240/s"
    assert SCHEMA["definitions"]["ActiveHealth"]["properties"]["statuses"]["default"] == [200, 204]


def test_it_is_json():
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
