"""Conditions: when they are met, how they are ordered, and when two exclude each other."""

import pytest

from gatewayd.gateway.conditions import Conditions

from .oracle import request


def unmet(conditions: Conditions, *headers: tuple[bytes, bytes], query: bytes | None = None) -> str:
    """What a request with these headers and query does not meet."""
    return conditions.unmet(request(headers=headers, query=query))


def test_headers():
    wanted = Conditions({"x-tenant": "a", "x-beta": "*"}, {})
    assert unmet(wanted, (b"x-tenant", b"a"), (b"x-beta", b"")) == ""
    assert unmet(wanted, (b"x-tenant", b"A"), (b"x-beta", b"1")) == "header x-tenant = a"
    assert unmet(wanted, (b"x-tenant", b"a")) == "header x-beta"
    assert unmet(wanted) == "header x-beta"


def test_every_copy_must_have_an_exact_value():
    wanted = Conditions({"x": "1"}, {"y": "1"})
    assert unmet(wanted, (b"x", b"1"), (b"x", b"1"), query=b"y=1&y=1") == ""
    assert unmet(wanted, (b"x", b"1"), (b"x", b"2"), query=b"y=1") == "header x = 1"
    assert unmet(wanted, (b"x", b"1"), query=b"y=2&y=1") == "query y = 1"


def test_fields_that_are_not_passed_on_can_be_asked_for():
    exchange = request()
    exchange.withheld = [(b"upgrade", b"websocket")]
    assert Conditions({"upgrade": "websocket"}, {}).unmet(exchange) == ""
    assert Conditions({"upgrade": "h2c"}, {}).unmet(exchange) == "header upgrade = h2c"


@pytest.mark.parametrize("query", [b"v=a b&w", b"w=1&v=a+b", b"v=%61%20b&w=", b"&&w&v=a%20b&z"])
def test_queries_are_decoded(query):
    assert unmet(Conditions({}, {"v": "a b", "w": "*"}), query=query) == ""


@pytest.mark.parametrize("query", [None, b"", b"v", b"v=", b"V=a b", b"v=a%2520b", b"xv=a b"])
def test_queries_that_do_not_fit(query):
    assert unmet(Conditions({}, {"v": "a b"}), query=query) == "query v = a b"


def test_names_may_be_encoded_too():
    assert unmet(Conditions({}, {"filter[a]": "é"}), query=b"filter%5Ba%5D=%C3%A9") == ""


def test_order():
    two, two_less_exact = Conditions({"x": "1"}, {"y": "1"}), Conditions({"x": "1", "z": "*"}, {})
    one, one_less_exact = Conditions({"x": "1"}, {}), Conditions({}, {"y": "*"})
    ordered = sorted((one_less_exact, two_less_exact, one, two), key=lambda conditions: conditions.rank)
    assert ordered == [two, two_less_exact, one, one_less_exact]


def test_excluding():
    one = Conditions({"x": "1", "upgrade": "websocket"}, {"y": "*"})
    assert one.excludes(Conditions({"x": "2"}, {}))
    assert one.excludes(Conditions({"upgrade": "h2c"}, {}))
    assert not one.excludes(Conditions({"x": "1"}, {"y": "2"}))
    assert not one.excludes(Conditions({"z": "2"}, {}))
    assert Conditions({}, {"y": "1"}).excludes(Conditions({}, {"y": "2"}))
    assert not Conditions({}, {"x": "1"}).excludes(Conditions({"x": "2"}, {}))


def test_equal_conditions_are_equal():
    assert Conditions({"a": "1", "b": "2"}, {}) == Conditions({"b": "2", "a": "1"}, {})
    assert len({Conditions({"a": "1"}, {}), Conditions({"a": "1"}, {}), Conditions({}, {"a": "1"})}) == 2
    assert str(Conditions({"b": "2"}, {"q": "*"})) == "header b = 2, query q"
