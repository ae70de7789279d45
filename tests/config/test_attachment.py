"""On which routes an instance is asked."""

from __future__ import annotations

import pytest

from gatewayd.config.attachment import levels, policy_of, reached
from gatewayd.config.load import decode

ROUTES = {"one": {"path": "/1", "service": "s", "policies": ["r"]}, "two": {"path": "/2", "service": "gone"}}


def document(**tables):
    return decode({"services": {"s": {"upstream": "u", "policies": ["s"]}}, "routes": ROUTES, **tables})


def where(name, **tables):
    return [route for route, _ in reached(document(**tables)).get(name, ())]


@pytest.mark.parametrize(("table", "policy"), [({}, "x"), ({"policy": ""}, "x"), ({"policy": "acl"}, "acl")])
def test_an_instance_is_named_for_its_policy_unless_it_says(table, policy):
    assert policy_of("x", table) == policy


def test_the_levels_of_a_route_from_the_gateway_to_the_plan():
    full = document(gateway={"policies": ["g"]}, plans={"gold": {"policies": ["p"]}})
    assert [list(level) for level in levels(full, full.routes["one"], "gold")] == [["g"], ["s"], ["r"], ["p"]]
    assert [list(level) for level in levels(full, full.routes["two"])] == [["g"], [], []]


@pytest.mark.parametrize(
    ("name", "routes"), [("g", ["one", "two"]), ("s", ["one"]), ("r", ["one"]), ("p", ["one", "two"]), ("x", [])]
)
def test_an_instance_is_asked_where_its_level_reaches(name, routes):
    assert where(name, gateway={"policies": ["g"]}, plans={"gold": {"policies": ["p"]}}) == routes


@pytest.mark.parametrize("combining", ["any_of", "all_of"])
def test_one_that_is_combined_is_asked_where_its_combination_is(combining):
    policies = {
        "r": {"policy": "authentication", combining: ["deep"]},
        "deep": {"policy": "authentication", combining: ["jwt", "r"]},
    }
    assert where("jwt", policies=policies) == ["one"]
    assert where("jwt", policies={**policies, "r": {"policy": "acl", combining: ["deep"]}}) == []


def test_a_combination_that_is_no_combination_names_nobody():
    assert where("jwt", policies={"r": {"policy": "authentication", "any_of": "jwt"}}) == []
