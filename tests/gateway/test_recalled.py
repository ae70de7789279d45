"""How a recorded template relates to another one: for sure, perhaps, not at all, and with which values."""

from __future__ import annotations

import pytest

from gatewayd.config.load import decode
from gatewayd.gateway.conditions import Conditions
from gatewayd.gateway.recalled import Call, Map, Match, Param, Ways, relation, unmet
from gatewayd.gateway.template import parse_template


def hashed(value: bytes) -> bytes:
    return b"#" + value


def related(recorded: str, asked: str, known: bool = True) -> Match | None:
    return relation(parse_template(recorded, ""), parse_template(asked, ""), hashed if known else None)


@pytest.mark.parametrize(
    ("recorded", "asked"),
    [
        ("/a", "/b"), ("/a", "/a/b"), ("/a/b", "/a"), ("/a/{x}", "/a"), ("/a/{x}", "/a/"), ("/a/", "/a/{x}"),
        ("/a/{x:int}", "/a/b"), ("/a/{x:int}", "/a/{x:uuid}"), ("/a/{x}.pdf", "/a/b.txt"), ("/a/{x*}", "/b/{x*}"),
        ("/a/b/{x*}", "/a"), ("/{x:int}/b", "/{x}/c"), ("/a/7", "/a/{x:uuid}"),
    ],
)  # fmt: skip
def test_what_never_matches(recorded, asked):
    assert related(recorded, asked) is None


@pytest.mark.parametrize(
    ("recorded", "asked", "sure", "tests"),
    [
        ("/a", "/a", True, []),
        ("/a/{x}", "/a/{y}", True, []),
        ("/a/{x}", "/a/*", True, []),
        ("/a/{x}", "/a/b", True, [(0, b"#b")]),
        ("/{x}/{y}", "/a/b", True, [(0, b"#a"), (1, b"#b")]),
        ("/a/{x}.pdf", "/a/b.pdf", True, [(0, b"#b")]),
        ("/a/{x}", "/a/{y:int}", False, []),
        ("/a/{x:int}", "/a/{y:slug}", True, []),
        ("/a/{x*}", "/a/b/c", True, [(0, b"#b/c")]),
        ("/a/{x*}", "/a/b/*", False, []),
        ("/a/{x*}", "/a", False, [(0, b"#")]),
        ("/a/{x*}", "/a/", False, [(0, b"#")]),
        ("/{x*}", "/", True, [(0, b"#")]),
        ("/*", "/a", False, []),
        ("/a/*", "/*", True, []),
    ],
)
def test_what_matches_and_how_sure_that_is(recorded, asked, sure, tests):
    found = related(recorded, asked)
    assert (found.sure, list(found.tests)) == (sure, tests)


def test_without_hashes_no_literal_can_be_told():
    assert related("/a/{x}", "/a/b", known=False) == Match(False, (), ())
    assert related("/a/{x}", "/a/{y}", known=False).sure


@pytest.mark.parametrize(
    ("recorded", "asked", "params"),
    [
        ("/a/{x}/{y}", "/a/{p}/{q}", [Param("p", None, 0), Param("q", None, 1)]),
        ("/a/b/{y}", "/a/{p}/{q}", [Param("p", b"b"), Param("q", None, 0)]),
        ("/{x}/b", "/a/{q}", [Param("q", b"b")]),
        ("/a/{x:int}", "/a/{p}", [Param("p", None, 0)]),
        ("/a/{x}.pdf", "/a/{p}", [Param("p")]),
        ("/a/{x}.pdf", "/a/{p}.pdf", [Param("p", None, 0)]),
        ("/a/b.pdf", "/a/{p}.pdf", [Param("p", b"b")]),
        ("/a/{x*}", "/a/{p*}", [Param("p", None, 0)]),
        ("/a/b/c", "/a/{p*}", [Param("p", b"b/c")]),
        ("/a/b/{x}", "/a/{p*}", [Param("p")]),
        ("/a/b/{x*}", "/a/{p*}", [Param("p")]),
        ("/a/{x*}", "/a/{p}/{q*}", [Param("p"), Param("q")]),
    ],
)
def test_what_is_known_of_parameters(recorded, asked, params):
    assert list(related(recorded, asked).params) == params


def test_routes_that_served_as_well_and_took_nothing_are_passed_over():
    routes = {"any": {"path": "/*", "reply": {}}, "one": {"path": "/a", "reply": {}}}
    serving = Map(decode({"routes": routes}))
    candidate = Map(decode({"routes": {**routes, "new": {"path": "/b", "reply": {}}}}))
    call = Call("", b"h", b"GET", "any", "/*")
    told = [(way.route, way.match.sure) for way in Ways(candidate, serving, hashed).of(call)]
    untold = [(way.route, way.match.sure) for way in Ways(candidate, None, hashed).of(call)]
    assert told == [("new", False), ("any", True)]
    assert untold == [("one", False), ("new", False), ("any", True)]


def test_a_route_of_the_serving_configuration_that_does_not_take_the_method_tells_nothing():
    routes = {"any": {"path": "/*", "reply": {}}, "one": {"path": "/a", "methods": ["POST"], "reply": {}}}
    serving = Map(decode({"routes": routes}))
    ways = Ways(serving, serving, hashed).of(Call("", b"h", b"GET", "any", "/*"))
    assert [(way.route, way.takes) for way in ways] == [("one", False), ("any", True)]


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ([(b"v", b"2")], [(b"q", b"1")], False),
        ([(b"v", b"1")], None, True),
        ([(b"v", b"2"), (b"v", b"1")], None, True),
        ([(b"v", b"2")], None, None),
        ([], [(b"q", b"1")], None),
        ([(b"v", b"2")], [], True),
    ],
)
def test_whether_conditions_are_met(headers, query, expected):
    assert unmet(Conditions({"v": "2"}, {"q": "*"}), headers, query) is expected
