"""A trace, and the span that targets take for their parent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.trace import Trace, asking_span


def test_a_trace_begins_unsampled_and_random():
    trace = Trace("a" * 32, "b" * 16)
    assert (trace.parent_id, trace.sampled, trace.state, trace.random) == ("", False, "", True)


@given(st.integers(2, 2**64 - 1))
def test_asking_a_target_is_another_span_and_can_be_told_from_the_first(number):
    span_id = f"{number:016x}"
    asking = asking_span(span_id)
    assert int(asking, 16) == number ^ 1
    assert asking_span(asking) == span_id
