"""Faults are placed, make suggestions, and keep secrets."""

from __future__ import annotations

import pytest

from gatewayd.config.faults import Faults, did_you_mean, nowhere, placed
from gatewayd.config.sources import Sources
from gatewayd.errors import Fault

KEY = ("routes", "a", "service")


def sources() -> Sources:
    """One file with a secret in it."""
    made = Sources("conf.toml")
    made.texts["conf.toml"] = b"[routes.a]\nservice = 'x'\nbody = '${env:SECRET}'\n"
    made.origins[("routes", "a")] = "conf.toml"
    made.substituted(("routes", "a", "body"), "${env:SECRET}")
    return made


@pytest.mark.parametrize(
    ("found", "hint"),
    [("quots", 'did you mean "quotes"?'), ("Claims", 'did you mean "claims"?'), ("zzz", ""), ("", "")],
)
def test_suggestions(found, hint):
    assert did_you_mean(found, ["quotes", "claims"]) == hint


def test_a_fault_has_its_place_and_value():
    faults = Faults(sources())
    faults.add(KEY, "is odd", "x", allowed="y")
    assert str(faults.found[0]) == 'conf.toml:2: routes.a.service: is odd; found "x"; allowed: y'
    assert KEY in faults
    assert ("routes", "a") not in faults


def test_only_the_first_fault_of_a_key_counts():
    faults = Faults()
    faults.add(KEY, "first")
    faults.add(KEY, "second")
    faults.put(Fault("routes.a.service", "in another file", file="b.toml"))
    assert [fault.message for fault in faults.found] == ["first", "in another file"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({}, "a table"),
        ([1], "a list"),
        ([], "an empty list"),
        (True, "true"),
        (1.5, "1.5"),
        ("a\nb", '"a\\nb"'),
        ("x" * 100, '"' + "x" * 60 + '…"'),
    ],
)
def test_how_values_are_shown(value, shown):
    assert Faults(sources()).show(KEY, value) == shown


@pytest.mark.parametrize("value", ["hunter2", 12345, True])
def test_secrets_are_shown_as_they_were_written(value):
    assert Faults(sources()).show(("routes", "a", "body"), value) == '"${env:SECRET}"'


def test_without_sources_no_text_is_shown():
    assert Faults(nowhere).show(KEY, "hunter2") == "a text"
    assert Faults(lambda path: ("a.toml", 1)).show(KEY, "hunter2") == "a text"


def test_a_choice_names_all_and_suggests_one():
    faults = Faults(sources())
    faults.choose(KEY, "there is none", "quots", {"quotes", "claims"})
    fault = faults.found[0]
    assert (fault.allowed, fault.hint) == ('"claims", "quotes"', 'did you mean "quotes"?')


def test_a_secret_near_a_choice_is_not_told():
    faults = Faults(sources())
    faults.choose(("routes", "a", "body"), "there is none", "quots", {"quotes"})
    assert faults.found[0].hint == ""


def test_long_lists_of_choices_are_cut():
    faults = Faults()
    faults.choose(KEY, "there is none", "x", [f"s{n:02}" for n in range(20)])
    faults.choose(("a",), "there is none", "x", [])
    assert faults.found[0].allowed.endswith('"s11", … (20 in all)')
    assert faults.found[1].allowed == "none is defined"


def test_faults_made_without_sources_are_placed_and_censored():
    made = [
        Fault("service", "odd", "'x'"),
        Fault("body", "odd", "'hunter2'"),
        Fault("list", "odd", file="l", line=7),
    ]
    found = placed(made, ("routes", "a"), sources())
    assert [(fault.path, fault.found, fault.file, fault.line) for fault in found] == [
        ("routes.a.service", "'x'", "conf.toml", 2),
        ("routes.a.body", '"${env:SECRET}"', "conf.toml", 3),
        ("routes.a.list", "", "l", 7),
    ]
    assert placed(made, ("routes", "a"), nowhere)[1].found == "a text"
