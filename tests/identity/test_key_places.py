"""Where keys are found, and that they are gone from what is sent on."""

from __future__ import annotations

import pytest

from gatewayd.identity.key_places import anywhere, behind_scheme, in_header, in_query
from tests.support.exchanges import make_exchange

OTHERS = [(b"accept", b"*/*"), (b"x-other", b"k")]


def found(place, headers=(), query=None, take=True):
    exchange = make_exchange([*OTHERS, *headers], query=query)
    return place(exchange, take), exchange


@pytest.mark.parametrize("take", [True, False])
def test_a_header(take):
    keys, exchange = found(in_header("X-Key"), [(b"x-key", b"k")], take=take)
    assert keys == [b"k"]
    assert exchange.headers == (OTHERS if take else [*OTHERS, (b"x-key", b"k")])


def test_every_one_of_several_is_found_and_gone():
    keys, exchange = found(in_header("x-key"), [(b"x-key", b"a"), (b"x-key", b"b"), (b"x-key", b"a")])
    assert sorted(keys) == [b"a", b"a", b"b"]
    assert exchange.headers == OTHERS


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b"Bearer gw_a", b"gw_a"),
        (b"bearer gw_a", b"gw_a"),
        (b"BEARER   gw_a ", b"gw_a"),
        (b"Bearer eyJh", None),
        (b"Bearer", None),
        (b"Basic gw_a", None),
        (b"Bearergw_a", None),
    ],
)
def test_behind_a_scheme(value, key):
    place = behind_scheme("Authorization", "Bearer", lambda text: text.startswith(b"gw_"))
    keys, exchange = found(place, [(b"authorization", value)])
    assert keys == ([] if key is None else [key])
    assert exchange.headers == (OTHERS if key else [*OTHERS, (b"authorization", value)])


@pytest.mark.parametrize(
    ("query", "keys", "left"),
    [
        (b"api_key=k", [b"k"], None),
        (b"a=1&api_key=k&b=2", [b"k"], b"a=1&b=2"),
        (b"a=1&api%5Fkey=k%2D1&b=2", [b"k-1"], b"a=1&b=2"),
        (b"api_key=k&api_key=k", [b"k", b"k"], None),
        (b"api_key=k&a&api_key=l", [b"k", b"l"], b"a"),
        (b"api_key", [b""], None),
        (b"xapi_key=k&a=api_key", [], b"xapi_key=k&a=api_key"),
        (b"", [], b""),
        (None, [], None),
    ],
)
def test_the_query(query, keys, left):
    shown, exchange = found(in_query("api_key"), query=query)
    assert (shown, exchange.query) == (keys, left)
    shown, exchange = found(in_query("api_key"), query=query, take=False)
    assert (shown, exchange.query) == (keys, query)


def test_all_places_together():
    place = anywhere([in_header("x-key"), in_query("api_key")])
    keys, exchange = found(place, [(b"x-key", b"a")], b"api_key=b")
    assert keys == [b"a", b"b"]
    assert (exchange.headers, exchange.query) == (OTHERS, None)
