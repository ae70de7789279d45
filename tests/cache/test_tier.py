"""Entries as a further tier keeps them, and how it is asked: one made of a dict stands in."""

from __future__ import annotations

import msgspec
import pytest

from gatewayd.cache.tier import name_of, pack, unpack, variant_of
from gatewayd.core.clock import FakeClock
from gatewayd.policies import cache as policy
from tests.cache.scenes import FRESH, Scene, reply

from .entries import entry, key


def test_an_entry_survives_and_ages_meanwhile():
    stored = entry(b"/a", b"x", 10.0, 60.0, vary=(b"v",), selected=(None,), tags=(b"t",), stale_if_error=5.0)
    data = pack(stored, 1005.0, 2_000_000.0)
    found = unpack(data, key(b"/a"), 50.0, 2_000_020.0)
    for name in ("key", "status", "headers", "body", "vary", "selected", "tags", "held", "size"):
        assert getattr(found, name) == getattr(stored, name)
    assert 50.0 - found.born == 10.0 + 5.0 + 20.0
    assert found.fresh_for(50.0) == 25.0
    assert found.terms.stale_if_error == 5.0


def test_a_clock_that_goes_back_makes_nothing_younger_than_new():
    found = unpack(pack(entry(), 1000.0, 2_000_000.0), key(), 50.0, 1_000_000.0)
    assert found.born == 50.0


@pytest.mark.parametrize("data", [b"", b"\x90", b"nonsense"])
def test_what_is_no_entry(data):
    with pytest.raises(msgspec.DecodeError):
        unpack(data, key(), 0.0, 0.0)


def test_names_of_keys():
    names = {name_of(each) for each in (key(), key(b"/a"), key(query=b""), key(query=b"x"), key(host=b"a"))}
    assert len(names) == 5
    assert name_of(key()) == name_of(key())


class Shared:
    """A tier of several gateways."""

    def __init__(self):
        self.held = {}
        self.asked = []
        self.forgotten = []  # (host, path, query)
        self.broken = False

    async def find(self, key):
        self.asked.append(key)
        if self.broken:
            raise OSError("it is gone")
        return list(self.held.get(name_of(key), {}).values())

    def offer(self, entry, value, seconds):
        assert seconds == 60
        self.held.setdefault(name_of(entry.key), {})[variant_of(entry)] = value

    def forget(self, host, path, query):
        self.forgotten.append((host, path, query))


@pytest.fixture
def shared(monkeypatch):
    tier, make = Shared(), policy.Cache
    monkeypatch.setattr(policy, "Cache", lambda settings, kept, clock, *_: make(settings, kept, clock, tier))
    return tier


def test_one_gateway_profits_of_another(shared):
    clock = FakeClock()
    with Scene(reply(FRESH, body=b"first"), clock) as one, Scene(reply(FRESH, body=b"other"), clock) as other:
        one.get("/a")
        clock.advance(7)
        answer = other.get("/a")
        assert (answer.body, answer.headers["age"]) == (b"first", "7")
        assert other.origin.count == 0
        assert "hit" in other.get("/a").headers["cache-status"]
        assert len(shared.asked) == 2


def test_a_tier_that_fails_is_done_without(shared, caplog):
    shared.broken = True
    with Scene(reply(FRESH)) as scene:
        assert scene.get("/").status == 200
    assert "further tier failed" in caplog.text


def test_an_unsafe_request_is_told(shared):
    with Scene(reply(FRESH)) as scene:
        scene.get("/a")
        scene.get("/a", method="POST")
        assert shared.forgotten == [(b"test", b"/a", None)]
