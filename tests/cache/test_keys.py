"""Keys."""

from __future__ import annotations

import pytest

from gatewayd.cache.keys import key_of, query_normaliser, whose
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Route
from tests.support.exchanges import make_exchange


def key(**attributes):
    exchange = make_exchange(route=Route("r", lambda exchange: None), **attributes)
    return key_of(exchange, exchange.query, whose(exchange))


def identity(consumer="c", credential="k", **claims):
    return Identity(Consumer(consumer), "jwt", credential, claims=claims)


@pytest.mark.parametrize(
    "other",
    [
        {"scheme": b"http"},
        {"host": b"other"},
        {"path": b"/other"},
        {"query": b""},
        {"query": b"a"},
        {"identity": identity()},
        {"peer_trusted": True, "forwarding": b"x-forwarded-for: 1.2.3.4\r\nx-forwarded-host: other\r\n"},
    ],
)
def test_what_makes_another_key(other):
    assert key() != key(**other)


@pytest.mark.parametrize(
    "same",
    [
        {"method": b"HEAD"},
        {"headers": [(b"a", b"b")]},
        {"client": "9.9.9.9"},
        {"peer_trusted": True, "forwarding": b"x-forwarded-host: api.example.com\r\n"},
        {"peer_trusted": True, "forwarding": b""},
        {"forwarding": b"x-forwarded-host: other\r\n"},
    ],
)
def test_what_does_not(same):
    assert key() == key(**same)


def test_routes_are_apart():
    assert key_of(make_exchange(), None) != key()


def test_people_of_one_consumer_are_apart():
    people = [identity(), identity("d"), identity(credential="l"), identity(sub="anne"), identity(sub="bert")]
    assert len({key(identity=each) for each in people}) == 5


@pytest.mark.parametrize(
    ("query", "normal"),
    [
        (b"b=1&a=2", b"a=2&b=1"),
        (b"b=2&b=1&a", b"a&b=2&b=1"),
        (b"a=1&utm=x&&utm=y", b"a=1"),
        (b"utm", None),
        (b"", None),
        (b"a=1;utm=2", b"a=1;utm=2"),
    ],
)
def test_queries_in_one_form(query, normal):
    assert query_normaliser(True, frozenset((b"utm",)))(query) == normal


def test_without_options_nothing_is_done():
    assert query_normaliser(False, frozenset()) is None
    assert query_normaliser(False, frozenset((b"x",)))(b"b&a&x") == b"b&a"
