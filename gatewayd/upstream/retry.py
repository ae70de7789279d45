"""Whether a failed attempt is made again: only when that is safe (RFC 9110 §9.2.2) and the budget has room.

The budget keeps an upstream that is down from being hit with a multiple of its traffic: retries are a share
of the requests of the last ten seconds, and a few are always allowed.
"""

from __future__ import annotations

from gatewayd.config import model
from gatewayd.core.clock import Clock
from gatewayd.errors import UpstreamError
from gatewayd.upstream.window import Window

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods whose request may be sent twice (RFC 9110 §9.2.2)."""
BUDGET_SECONDS = 10.0
"""Length of the window that retries and requests are counted over."""


class RetryBudget:
    """Counts attempts and retries of one upstream in one worker."""

    __slots__ = ("_clock", "attempts", "refused", "retries")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.attempts = Window(BUDGET_SECONDS)  # that ended, retries included
        self.retries = Window(BUDGET_SECONDS)  # granted
        self.refused = 0

    def take(self, share: float, minimum: int) -> bool:
        """Whether one more retry is within `share` of the window's requests or `minimum`. True counts it."""
        now = self._clock.monotonic()
        retries = self.retries.total(now)
        requests = self.attempts.total(now) - retries
        if retries + 1 > max(minimum, share * requests):
            self.refused += 1
            return False
        self.retries.add(now)
        return True

    def carry_over(self, old: RetryBudget) -> None:
        """Go on with the counts of `old`."""
        self.attempts.carry_over(old.attempts)
        self.retries.carry_over(old.retries)
        self.refused = old.refused

    def status(self) -> dict[str, object]:
        """For `/status`: attempts and retries over the window, retries and refusals since ever."""
        now = self._clock.monotonic()
        return {
            "attempts": self.attempts.total(now),
            "retries": self.retries.total(now),
            "retries_total": self.retries.count,
            "refused_total": self.refused,
        }


def may_retry(
    method: bytes,
    error: UpstreamError | int,
    attempt: int,
    retries: model.Retries,
    budget: RetryBudget,
    replayable: bool,
) -> bool:
    """Whether to send the request again; True has taken it from `budget`.

    `error` is what went wrong, or the status of a complete reply head. `attempt` counts the attempts made so
    far, the first included. `replayable`: every byte of the request body sent so far can be sent once more.
    """
    if attempt > retries.attempts or not replayable:
        return False
    if isinstance(error, int):
        safe = error in retries.statuses and method in IDEMPOTENT
    elif error.retry == "idempotent":
        safe = method in IDEMPOTENT
    else:
        safe = error.retry == "always"
    return safe and budget.take(retries.budget, retries.budget_min)
