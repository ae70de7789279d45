"""All limits of a route in one step."""

from __future__ import annotations

import pytest

from gatewayd.core.policy import Reply
from gatewayd.core.problem import POLICY_FAILED
from gatewayd.limits.step import Entry, one_step
from tests.support.exchanges import make_exchange

REFUSAL = Reply(429, code="too_many")


class Fake:
    """A limit with room for so many, or one that breaks; `asked` keeps the times it was asked at."""

    def __init__(self, room=0, breaks=False, breaks_back=False):
        self.room, self.breaks, self.breaks_back = room, breaks, breaks_back
        self.taken, self.asked = 0, []

    def take(self, exchange, now):
        self.asked.append(now)
        if self.breaks:
            raise LookupError("broken")
        if self.taken >= self.room:
            return REFUSAL
        self.taken += 1
        exchange.context = {**(exchange.context or {}), id(self): True}
        return None

    def give_back(self, exchange):
        if self.breaks_back:
            raise LookupError("broken")
        if (exchange.context or {}).pop(id(self), None):
            self.taken -= 1


def decided(*limits, observe=(), fail_open=()):
    """The verdict of a step over `limits`, named "0", "1", …, and what was noted."""
    entries = [Entry(str(at), limit, at in observe, at in fail_open) for at, limit in enumerate(limits)]
    exchange = make_exchange()
    reply = one_step(entries, lambda: 12.5)(exchange)
    return reply, exchange.verdicts


def test_where_all_have_room_all_are_charged_once():
    limits = [Fake(1), Fake(2), Fake(3)]
    assert decided(*limits) == (None, None)
    assert [limit.taken for limit in limits] == [1, 1, 1]
    assert {*limits[0].asked, *limits[2].asked} == {12_500_000_000}


@pytest.mark.parametrize("full", [0, 1, 2])
def test_what_one_refuses_costs_no_other(full):
    limits = [Fake(0 if at == full else 5) for at in range(3)]
    assert decided(*limits) == (REFUSAL, [(str(full), "refused")])
    assert [limit.taken for limit in limits] == [0, 0, 0]


def test_behind_a_refusal_nobody_is_asked():
    limits = [Fake(0), Fake(5)]
    decided(*limits)
    assert not limits[1].asked


def test_who_observes_refuses_nothing_and_is_noted():
    limits = [Fake(0), Fake(1)]
    assert decided(*limits, observe=[0]) == (None, [("0", "observed")])
    assert [limit.taken for limit in limits] == [0, 1]


def test_who_observes_is_charged_like_any_other():
    limits = [Fake(1), Fake(0)]
    assert decided(*limits, observe=[0]) == (REFUSAL, [("1", "refused")])
    assert limits[0].taken == 0


@pytest.mark.parametrize(
    ("options", "reply"),
    [({}, POLICY_FAILED), ({"fail_open": [1]}, None), ({"observe": [1]}, None)],
    ids=["", "open", "observe"],
)
def test_a_limit_that_breaks(caplog, options, reply):
    limits = [Fake(1), Fake(breaks=True)]
    assert decided(*limits, **options) == (reply, [("1", "failed")])
    assert limits[0].taken == (0 if reply else 1)
    assert "LookupError" in caplog.text


def test_one_that_cannot_give_back_keeps_no_other_from_it(caplog):
    limits = [Fake(1), Fake(1, breaks_back=True), Fake(1), Fake(0)]
    assert decided(*limits)[0] is REFUSAL
    assert [limit.taken for limit in limits] == [0, 1, 0, 0]
    assert "policy 1 could not give back" in caplog.text
