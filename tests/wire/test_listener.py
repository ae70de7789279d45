"""What a listener's connections share: the tally, and request ids."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.model import Limits, Timeouts
from gatewayd.rfc.path import PathRules
from gatewayd.wire.listener import ListenerState, Settings, Tally, request_ids

FEW = Limits(connections=5, connections_per_address=2)


def test_connections_are_limited_in_all_and_per_address() -> None:
    tally = Tally()
    assert [tally.admit("a", FEW) for _ in range(3)] == ["", "", "connections_per_address"]
    assert [tally.admit(each, FEW) for each in "bbcc"] == ["", "", "", "connections"]
    assert tally.open == 5
    tally.leave("a")
    assert tally.admit("a", FEW) == ""


def test_a_descriptor_too_high_is_one_connection_too_many() -> None:
    tally = Tally(last_descriptor=100)
    assert tally.admit("a", FEW, 100) == ""
    assert tally.admit("a", FEW, 101) == "descriptors"
    assert tally.open == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60))
def test_the_table_holds_who_is_connected_and_nobody_else(steps: list[tuple[str, bool]]) -> None:
    tally = Tally()
    connected: Counter[str] = Counter()
    for address, comes in steps:
        if comes:
            expected = ""
            if connected.total() >= FEW.connections:
                expected = "connections"
            elif connected[address] >= FEW.connections_per_address:
                expected = "connections_per_address"
            assert tally.admit(address, FEW) == expected
            connected[address] += not expected
        elif connected[address]:
            tally.leave(address)
            connected[address] -= 1
        assert tally.open == connected.total()
        assert tally.by_address == +connected


def test_request_ids_are_unique_and_differ_between_processes() -> None:
    first, second = request_ids(), request_ids()
    ids = [first() for _ in range(1000)] + [second()]
    assert len(set(ids)) == 1001
    assert all(re.fullmatch(rb"[0-9a-f]{32}", each) for each in ids)
    assert ids[0][:20] == ids[999][:20] != ids[1000][:20]


def test_listeners_of_a_worker_may_share_a_tally() -> None:
    tally = Tally()
    settings = Settings(Limits(), Timeouts(), PathRules(), None)
    states = [
        ListenerState(name, b"http", settings, lambda _: None, lambda _exchange, _now: None, tally) for name in "ab"
    ]
    assert states[0].tally is states[1].tally is tally
    assert states[0].connections is not states[1].connections
