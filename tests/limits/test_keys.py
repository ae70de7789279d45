"""What requests are counted by."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Route
from gatewayd.limits.keys import Keys
from gatewayd.limits.table import IDENTIFIED, OWN, STRANGER
from tests.support.exchanges import make_exchange

ACME = Identity(Consumer("acme"), "api_key", "key-1", claims={"tenant": "blue", "many": ["a", "b"], "level": 3})
OTHER = Identity(Consumer("acme"), "api_key", "key-2")
UNKNOWN = Identity(Consumer("someone"), "jwt", "token")
ROUTE = Route("policies", lambda exchange: None)


class Known:
    """Consumers of whom there is one."""

    def by_id(self, consumer):
        return ACME.consumer if consumer == "acme" else None

    def by_credential(self, kind, key):
        return None


def placed(names, exchange):
    keys = Keys(names, Known())
    return keys.place(keys.of(exchange))


def exchange_of(identity=None, client="192.0.2.1", headers=()):
    exchange = make_exchange(list(headers), client=client, identity=identity)
    exchange.route = ROUTE
    return exchange


def same(names, one, two):
    return placed(names, one) == placed(names, two)


@pytest.mark.parametrize(
    ("names", "identity", "kind"),
    [
        (["address"], None, STRANGER),
        (["address"], ACME, STRANGER),
        (["consumer"], ACME, OWN),
        (["consumer"], None, STRANGER),
        (["consumer"], UNKNOWN, IDENTIFIED),
        (["credential"], ACME, OWN),
        (["credential"], UNKNOWN, IDENTIFIED),
        (["route"], None, OWN),
        (["header:x-tenant"], ACME, STRANGER),
        (["claim:tenant"], ACME, IDENTIFIED),
        (["claim:tenant"], None, STRANGER),
        (["claim:none"], ACME, STRANGER),
        (["consumer", "route"], ACME, OWN),
        (["route", "address"], None, STRANGER),
        (["consumer", "route"], None, STRANGER),
        (["consumer", "header:x-tenant"], ACME, IDENTIFIED),
        (["consumer", "address"], None, STRANGER),
    ],
)
def test_own_rows_are_for_what_the_configuration_bounds(names, identity, kind):
    assert placed(names, exchange_of(identity, headers=[(b"x-tenant", b"1")]))[1] == kind


def test_credentials_of_one_consumer_are_apart_and_count_together_by_consumer():
    assert same(["consumer"], exchange_of(ACME), exchange_of(OTHER))
    assert not same(["credential"], exchange_of(ACME), exchange_of(OTHER))


@pytest.mark.parametrize("name", ["consumer", "credential", "header:x-tenant", "claim:tenant"])
def test_what_is_missing_is_counted_by_address(name):
    assert same([name], exchange_of(), exchange_of())
    assert not same([name], exchange_of(), exchange_of(client="192.0.2.2"))
    assert same([name], exchange_of(), exchange_of(client="::ffff:192.0.2.1"))
    assert placed([name], exchange_of()) == placed(["address"], exchange_of())


def test_an_ipv6_address_counts_as_its_64():
    one, two, three = (exchange_of(client=f"2001:db8::{part}") for part in ("1", "ffff:2", "1:0:0:0:1"))
    assert same(["address"], one, two)
    assert not same(["address"], one, three)
    assert not same(["address"], exchange_of(client="::1"), exchange_of(client=""))
    assert placed(["address"], exchange_of(client="neither"))


def test_a_header_is_found_by_its_name_in_any_case_and_its_first_value_counts():
    keys = Keys(["header:X-Tenant"], Known())
    assert keys.of(exchange_of(headers=[(b"a", b"0"), (b"x-tenant", b"1"), (b"x-tenant", b"2")])) == b"1"


def test_long_values_are_kept_short_and_apart():
    long = [b"a" * 9_000 + tail for tail in (b"1", b"2")]
    found = [Keys(["header:x"], Known()).of(exchange_of(headers=[(b"x", value)])) for value in long]
    assert len(set(found)) == 2
    assert all(len(key) <= 64 for key in found)
    claims = Identity(Consumer("acme"), "jwt", claims={"tenant": "ü" * 9_000})
    assert len(Keys(["claim:tenant"], Known()).of(exchange_of(claims))) <= 128


def test_claims_of_any_type_count_by_what_they_say():
    assert not same(["claim:many"], exchange_of(ACME), exchange_of(OTHER))
    assert placed(["claim:level"], exchange_of(ACME)) == placed(["claim:level"], exchange_of(ACME))


PART = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=5))


@given(st.tuples(PART, PART), st.tuples(PART, PART))
def test_no_two_combinations_read_alike(one, two):
    """Whatever callers put into one part, it is not taken for the beginning of another."""

    def exchange(parts):
        names = (b"x-a", b"x-b")
        headers = [(name, part.encode()) for name, part in zip(names, parts, strict=True) if part is not None]
        return exchange_of(headers=headers)

    assert same(["header:x-a", "header:x-b"], exchange(one), exchange(two)) == (one == two)


def test_parts_of_different_names_never_meet():
    headers = [(b"consumer", b"acme"), (b"route", b"policies")]
    names = ["consumer", "route", "header:consumer", "header:route", "claim:tenant", "address"]
    found = [placed([name], exchange_of(ACME, headers=headers)) for name in names]
    assert all(one != two for (at, one), (other, two) in product(enumerate(found), repeat=2) if at != other)


def test_what_can_be_told_on_any_route():
    """And by operators, who ask about a consumer without an address."""

    def told(*names):
        keys = Keys(names, Known())
        return keys.tell(exchange_of(ACME)), keys.tell(exchange_of(ACME, client=""))

    assert told("consumer") == (True, True)
    assert told("address") == told("credential") == told("consumer", "header:x-user") == (True, False)
    assert told("route") == told("consumer", "route") == (False, False)
