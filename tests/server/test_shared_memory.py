"""Shared memory: seen by all, rows given out once."""

from __future__ import annotations

import os

from gatewayd.server.shared_memory import OTHER, Slots, attach, create


def test_what_one_writes_the_other_reads():
    descriptor = create(4096)
    other = os.dup(descriptor)
    one, two = attach(descriptor), attach(other)
    assert len(one) == 4096
    assert bytes(one) == bytes(4096)
    one[17] = 5
    assert two[17] == 5


def test_rows_are_given_out_in_order_and_kept():
    slots = Slots(10)
    assert slots.assign(["a", "b"]) == {"a": 1, "b": 2}
    assert slots.assign(["c", "b"]) == {"c": 3, "b": 2}
    assert slots.assign(["a"]) == {"a": 1}
    assert slots.names() == {OTHER: 0, "a": 1, "b": 2, "c": 3}


def test_when_rows_run_out_the_rest_share_one():
    slots = Slots(3)
    assert slots.assign(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 0, "d": 0}
    assert slots.names() == {OTHER: 0, "a": 1, "b": 2}
