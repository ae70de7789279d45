"""Retries: when a second attempt is safe, and the budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config import model
from gatewayd.core.clock import FakeClock
from gatewayd.errors import UpstreamError
from gatewayd.upstream.retry import RetryBudget, may_retry

METHODS = [
    b"GET",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"PUT",
    b"DELETE",
    b"POST",
    b"PATCH",
    b"CONNECT",
    b"get",
    b"QUERY",
]
SAFE_TWICE = METHODS[:6]
ALWAYS = UpstreamError(502, "connect_refused", "always")
IDEMPOTENT = UpstreamError(502, "closed", "idempotent")
NEVER = UpstreamError(502, "reply_cut", "never")


def may(method=b"GET", error=ALWAYS, attempt=1, replayable=True, **options) -> bool:
    """`may_retry` with a budget that has room."""
    return may_retry(method, error, attempt, model.Retries(**options), RetryBudget(FakeClock()), replayable)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_have_been_processed_is_retried_whatever_the_method(method):
    assert may(method, ALWAYS)


@pytest.mark.parametrize("method", METHODS)
def test_what_may_have_been_processed_is_retried_only_if_idempotent(method):
    assert may(method, IDEMPOTENT) == (method in SAFE_TWICE)


@pytest.mark.parametrize("method", METHODS)
def test_after_reply_bytes_nothing_is_retried(method):
    assert not may(method, NEVER)


@pytest.mark.parametrize("method", METHODS)
def test_statuses_are_retried_only_where_configured_and_idempotent(method):
    assert may(method, 503, statuses=[503]) == (method in SAFE_TWICE)
    assert not may(method, 503)
    assert not may(method, 502, statuses=[503])


@pytest.mark.parametrize("error", [ALWAYS, IDEMPOTENT, 503])
def test_a_body_that_is_gone_cannot_be_sent_twice(error):
    assert not may(b"PUT", error, replayable=False, statuses=[503])


def test_attempts_are_limited():
    assert [may(attempt=attempt, attempts=2) for attempt in (1, 2, 3)] == [True, True, False]
    assert not may(attempts=0)


def test_only_a_granted_retry_is_taken_from_the_budget():
    budget = RetryBudget(FakeClock())
    retries = model.Retries(budget=0.0, budget_min=1)
    assert not may_retry(b"POST", IDEMPOTENT, 1, retries, budget, True)
    assert may_retry(b"GET", IDEMPOTENT, 1, retries, budget, True)
    assert not may_retry(b"GET", IDEMPOTENT, 1, retries, budget, True)
    assert budget.status() == {"attempts": 0, "retries": 1, "retries_total": 1, "refused_total": 1}


def test_the_budget_is_a_share_of_the_requests_without_the_retries():
    clock = FakeClock()
    budget = RetryBudget(clock)
    for _ in range(100):
        budget.attempts.add(clock.now)
    granted = 0
    while budget.take(0.2, 3):
        granted += 1
        budget.attempts.add(clock.now)
    assert granted == 20


def test_the_budget_fills_again_with_time():
    clock = FakeClock()
    budget = RetryBudget(clock)
    assert [budget.take(0.2, 2) for _ in range(3)] == [True, True, False]
    clock.advance(10)
    assert budget.take(0.2, 2)


def test_the_budget_is_carried_over():
    clock = FakeClock()
    old, new = RetryBudget(clock), RetryBudget(clock)
    old.take(0.0, 1)
    old.take(0.0, 1)
    new.carry_over(old)
    assert new.status() == old.status()
    assert not new.take(0.0, 1)


@given(
    st.lists(st.one_of(st.floats(0.01, 3), st.sampled_from(["attempt", "attempt", "retry"])), max_size=300),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_the_budget_is_never_exceeded(events, share, minimum):
    clock = FakeClock()
    budget = RetryBudget(clock)
    attempts, retries = [], []
    for event in events:
        if isinstance(event, float):
            clock.advance(event)
        elif event == "attempt":
            budget.attempts.add(clock.now)
            attempts.append(clock.now)
        elif budget.take(share, minimum):
            retries.append(clock.now)
            of_window = sum(1 for time in attempts if time > clock.now - 10 - 1e-6)
            lately = sum(1 for time in retries if time > clock.now - 9 + 1e-6)
            assert lately <= max(minimum, share * of_window)
