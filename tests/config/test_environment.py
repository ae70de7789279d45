"""Overrides from the environment: which option a name means, what its value is, and that values stay hidden."""

from __future__ import annotations

from typing import Any

import pytest

from gatewayd.config.environment import override
from gatewayd.config.faults import Faults
from gatewayd.config.sources import Sources


def overridden(raw: dict[str, Any], **environ: str) -> tuple[Sources, list[str]]:
    """Override `raw` in place; where things stand then, and the faults."""
    sources = Sources("conf.toml")
    faults = Faults(sources)
    override(raw, sources, environ, faults)
    return sources, [str(fault) for fault in faults.found]


def routes() -> dict[str, Any]:
    """A route and a policy to override."""
    return {
        "routes": {"a-b.c": {"path": "/", "reply": {"headers": {"X-One": "1"}}}},
        "policies": {"cors": {"origins": ["x"]}},
        "listeners": {"http": {"address": "a:1"}},
        "sinks": {"ch": {"kind": "clickhouse"}, "odd": {"kind": "fiel"}},
    }


@pytest.mark.parametrize(
    ("name", "value", "key", "expected"),
    [
        ("LIMITS__HEAD", "64KiB", ("limits", "head"), "64KiB"),
        ("limits__head", "64KiB", ("limits", "head"), "64KiB"),
        ("LIMITS__HEADERS", "50", ("limits", "headers"), 50),
        ("CONTROL__ENABLED", "false", ("control", "enabled"), False),
        ("GATEWAY__PATHS__SEMICOLON", "keep", ("gateway", "paths", "semicolon"), "keep"),
        ("GATEWAY__POLICIES", '["a", "b"]', ("gateway", "policies"), ["a", "b"]),
        ("GATEWAY__WORKERS", "4", ("gateway", "workers"), 4),
        ("GATEWAY__WORKERS", "auto", ("gateway", "workers"), "auto"),
        ("GATEWAY__NAME", "123", ("gateway", "name"), "123"),
        ("GATEWAY__NAME", '"a b"', ("gateway", "name"), "a b"),
        ("GATEWAY__NAME", "1\nworkers = 9", ("gateway", "name"), "1\nworkers = 9"),
        ("ROUTES__A_B_C__PATH", "/x", ("routes", "a-b.c", "path"), "/x"),
        ("ROUTES__A_B_C__REPLY__HEADERS__X_ONE", "2", ("routes", "a-b.c", "reply", "headers", "X-One"), "2"),
        ("ROUTES__A_B_C__REPLY__HEADERS__NEW", "2", ("routes", "a-b.c", "reply", "headers", "new"), "2"),
        ("POLICIES__CORS__ORIGINS", "[]", ("policies", "cors", "origins"), []),
        ("POLICIES__CORS__MAX_AGE", "1m", ("policies", "cors", "max_age"), "1m"),
        ("LISTENERS__HTTP__TLS__PROFILE", "modern", ("listeners", "http", "tls", "profile"), "modern"),
        ("TIMEOUTS", "{ head = 1 }", ("timeouts",), {"head": 1}),
        ("SINKS__CH__PASSWORD", "123", ("sinks", "ch", "password"), "123"),
    ],
)
def test_what_a_name_means(name, value, key, expected):
    raw = routes()
    sources, faults = overridden(raw, **{f"GATEWAYD__{name}": value, "OTHER": "x"})
    assert not faults
    found: Any = raw
    for part in key:
        found = found[part]
    assert found == expected
    assert sources.override(key) == f"GATEWAYD__{name}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("LIMITS__HAED", "limits.haed: unknown option; found GATEWAYD__LIMITS__HAED; allowed: body, c"),
        ("LIMIT__HEAD", '(did you mean "limits"?)'),
        ("ROUTES__NEW__PATH", "routes.new.path: unknown option"),
        ("SINKS__CH__FACILITY", "sinks.ch.facility: unknown option"),
        ("SINKS__ODD__PATH", "sinks.odd.path: unknown option"),
        ("SINKS__NEW__PATH", "sinks.new.path: unknown option"),
        ("POLICIES__CROS__MAX_AGE", '(did you mean "cors"?)'),
        ("LIMITS__HEAD__X", "limits.head.x: unknown option"),
        ("INCLUDE", "include: unknown option"),
        ("", "unknown option"),
    ],
)
def test_names_that_mean_nothing(name, message):
    raw = routes()
    _, faults = overridden(raw, **{f"GATEWAYD__{name}": "hunter2"})
    assert len(faults) == 1
    assert faults[0].startswith("environment: ")
    assert message in faults[0]
    assert "hunter2" not in faults[0]
    assert raw == routes()


def test_a_whole_table_comes_before_its_options():
    raw: dict[str, Any] = {}
    overridden(raw, GATEWAYD__LIMITS__HEAD="2", GATEWAYD__LIMITS="{ head = 1, body = 1 }")
    assert raw == {"limits": {"head": 2, "body": 1}}


def test_an_option_below_a_value_is_left_to_the_value_s_own_fault():
    raw: dict[str, Any] = {"limits": 3}
    sources, faults = overridden(raw, GATEWAYD__LIMITS__HEAD="2")
    assert (raw, faults, sources.overrides) == ({"limits": 3}, [], {})


def test_names_that_look_alike_are_not_guessed():
    raw = {"routes": {"a-b": {}, "a.b": {}}}
    _, faults = overridden(raw, GATEWAYD__ROUTES__A_B__PATH="/")
    assert len(faults) == 1


def test_values_count_as_secrets():
    raw = routes()
    sources, _ = overridden(raw, GATEWAYD__POLICIES__CORS__ORIGINS='["a", { b = "c" }]')
    variable = "${env:GATEWAYD__POLICIES__CORS__ORIGINS}"
    assert sources.written(("policies", "cors", "origins", 0)) == variable
    assert sources.written(("policies", "cors", "origins", 1, "b")) == variable
