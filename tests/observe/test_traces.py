"""Traces begun and continued: their ids, who decides about sampling, what tracestate says of it."""

from __future__ import annotations

import pytest

from gatewayd.core.trace import Trace
from gatewayd.observe.traces import force, makers
from gatewayd.rfc.trace_context import reaches, threshold

LOW, HIGH = "a" * 18 + "0" * 13 + "1", "a" * 18 + "f" * 14
"""Trace ids that only a share of 1 samples, and that every share does."""
SPAN = "00f067aa0ba902b7"


def parent(trace_id: str, flags: str) -> bytes:
    """A traceparent."""
    return f"00-{trace_id}-{SPAN}-{flags}".encode()


def test_traces_begun_here_are_all_different_and_random():
    begin, _ = makers(0.5, True)
    made = [begin() for _ in range(200)]
    assert len({each.trace_id for each in made}) == len({each.span_id for each in made}) == 200
    assert all(each.random and each.parent_id == "" for each in made)
    assert {(len(each.trace_id), len(each.span_id)) for each in made} == {(32, 16)}
    assert not [each for each in made if int(each.span_id, 16) < 2]


def test_which_of_them_are_sampled_their_ids_say():
    begin, _ = makers(0.5, True)
    made = [begin() for _ in range(200)]
    assert {each.sampled for each in made} == {True, False}
    assert all(each.sampled == reaches(each.trace_id, threshold(0.5)) for each in made)
    assert {(each.sampled, each.state) for each in made} == {(True, "ot=th:8"), (False, "")}


@pytest.mark.parametrize(("share", "sampled"), [(0.0, False), (1.0, True)])
def test_all_or_none(share, sampled):
    begin, _ = makers(share, True)
    assert {begin().sampled for _ in range(50)} == {sampled}


@pytest.mark.parametrize(("share", "flags"), [(1.0, "00"), (0.0, "01"), (0.0, "03")])
def test_a_callers_decision_is_followed(share, flags):
    _, go_on = makers(share, True)
    trace = go_on(parent(LOW, flags), [b"ot=th:4,foo=1"])
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (LOW, SPAN, flags != "00")
    assert trace.state == "ot=th:4,foo=1"
    assert trace.random == (flags == "03")
    assert trace.span_id not in (SPAN, "0" * 16)


@pytest.mark.parametrize(("trace_id", "sampled"), [(LOW, False), (HIGH, True)])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_callers_decision_is_not_followed(trace_id, sampled, flags):
    _, go_on = makers(0.5, False)
    trace = go_on(parent(trace_id, flags), [b"foo=1,ot=th:4"])
    assert (trace.trace_id, trace.sampled, trace.state) == (trace_id, sampled, "foo=1")


def test_a_malformed_parent_is_none_and_a_malformed_state_costs_the_state_alone():
    _, go_on = makers(0.5, True)
    assert go_on(b"00-no", [b"foo=1"]) is None
    assert go_on(parent(LOW, "01"), [b"foo"]).state == ""
    assert go_on(parent(LOW, "01"), []).state == ""


def test_what_is_forced_says_no_longer_how_probable_it_was():
    trace = Trace(LOW, SPAN, "", False, "ot=th:4,foo=1")
    force(trace)
    assert (trace.sampled, trace.state) == (True, "foo=1")
    sampled = Trace(LOW, SPAN, "", True, "ot=th:4")
    force(sampled)
    assert sampled.state == "ot=th:4"
