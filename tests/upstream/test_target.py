"""Targets: how a place is written, what a generation inherits, what the status shows."""

import pytest

from gatewayd.config import address
from gatewayd.upstream.target import Target

from .build import make_targets


@pytest.mark.parametrize(
    ("text", "ip", "place", "host"),
    [
        ("10.0.0.1:80", "10.0.0.1", "10.0.0.1:80", "10.0.0.1"),
        ("[2001:DB8::1]:443", "2001:db8::1", "[2001:db8::1]:443", "2001:db8::1"),
        ("api.internal:8080", "10.9.8.7", "10.9.8.7:8080", "api.internal"),
        ("api.internal:8080", "fd00::1", "[fd00::1]:8080", "api.internal"),
        ("unix:/run/app.sock", "", "/run/app.sock", ""),
    ],
)
def test_a_place_is_where_to_dial_and_the_host_what_was_configured(text, ip, place, host):
    target = Target(text, address.parse(text), ip)
    assert (target.address, target.place, target.host, target.ip) == (text, place, host, ip)


def test_the_same_place_has_the_same_hash_whatever_name_led_to_it():
    one = Target("10.0.0.1:80", address.parse("10.0.0.1:80"), "10.0.0.1")
    other = Target("api:80", address.parse("api:80"), "10.0.0.1")
    elsewhere = Target("api:80", address.parse("api:80"), "10.0.0.2")
    assert one.seed == other.seed != elsewhere.seed


def test_knowledge_is_inherited_but_not_connections():
    old, new = make_targets(1, 1)
    old.pool, old.in_flight, old.latency, old.unhealthy, old.ejections, old.available = (
        "pool",
        3,
        0.2,
        True,
        4,
        False,
    )
    new.inherit(old)
    assert (new.latency, new.unhealthy, new.ejections, new.available) == (0.2, True, 4, False)
    assert (new.pool, new.in_flight) == (None, 0)


def test_status_shows_what_an_operator_asks_for():
    (target,) = make_targets(2)
    target.latency, target.ejected_until, target.failures = 0.0125, 1007.5, 6
    assert target.status(1000.0, probed=False) == {
        "address": "10.0.0.0:80",
        "place": "10.0.0.0:80",
        "weight": 2,
        "share": 2.0,
        "available": True,
        "in_flight": 0,
        "latency_ms": 12.5,
        "requests": 0,
        "failures": 6,
        "ejections": 0,
        "ejected_for": 7.5,
        "probe": "off",
        "pool": None,
    }
    assert target.status(1010.0, probed=True)["ejected_for"] == 0
    assert target.status(1010.0, probed=True)["probe"] == "healthy"
    target.unhealthy = True
    assert target.status(1010.0, probed=True)["probe"] == "unhealthy"


def test_repr_says_where_and_how_it_is():
    (target,) = make_targets(1)
    assert repr(target) == "<Target 10.0.0.0:80 at 10.0.0.0:80 available in_flight=0>"
    target.available = False
    assert "unavailable" in repr(target)


def test_failures_are_explained_in_the_log_but_not_each(caplog):
    (target,) = make_targets(1)
    for now in (0.0, 10.0, 59.0, 60.0, 61.0):
        target.complain(f"502 tls_failed: {now}", now)
    assert [record.getMessage() for record in caplog.records] == [
        "target 10.0.0.0:80 at 10.0.0.0:80: 502 tls_failed: 0.0",
        "target 10.0.0.0:80 at 10.0.0.0:80: 502 tls_failed: 60.0",
    ]
