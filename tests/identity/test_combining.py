"""Combinations: who is asked, in which order, and whose word is final."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.problem import problem
from gatewayd.identity.combining import all_of, any_of, or_else, untold
from tests.support.callers import known, outcome
from tests.support.exchanges import make_exchange

A, B = known("a", method="first", scopes=["r"]), known("b", method="second")
A2 = known("a", method="second", scopes=["w"])
REFUSED, MISSING = problem(401, "no"), problem(401, "missing")


class Member:
    """Says what it is told to, at once or later, and counts how often it is asked."""

    def __init__(self, says, later=False):
        self.says, self.later, self.asked = says, later, 0

    def __call__(self, exchange):
        self.asked += 1
        return self.wait() if self.later else self.says

    async def wait(self):
        await asyncio.sleep(0)
        return self.says


def ask(combine, said, later, *more):
    """What a combination says, and how often each member was asked; `later`: which of them make one wait."""
    members = [Member(each, at in later) for at, each in enumerate(said)]
    return outcome(combine(members, *more)(make_exchange())), [member.asked for member in members]


WAITING = [(), (0,), (1,), (0, 1, 2), (2,)]


@pytest.mark.parametrize("later", WAITING)
@pytest.mark.parametrize(
    ("said", "found", "asked"),
    [
        ([A, B, None], A, [1, 0, 0]),
        ([None, B, A], B, [1, 1, 0]),
        ([None, None, A], A, [1, 1, 1]),
        ([REFUSED, A, A], REFUSED, [1, 0, 0]),
        ([None, REFUSED, A], REFUSED, [1, 1, 0]),
        ([None, None, None], None, [1, 1, 1]),
    ],
)
def test_any_of(said, found, asked, later):
    assert ask(any_of, said, later) == (found, asked)


@pytest.mark.parametrize("later", WAITING)
@pytest.mark.parametrize(
    ("said", "found", "asked"),
    [
        ([A, A2, A], "a", [1, 1, 1]),
        ([A, B, A], 403, [1, 1, 1]),
        ([A, None, A], MISSING, [1, 1, 1]),
        ([None, A, A], MISSING, [1, 1, 1]),
        ([A, A, None], MISSING, [1, 1, 1]),
        ([None, None, None], None, [1, 1, 1]),
        ([REFUSED, A, A], REFUSED, [1, 0, 0]),
        ([A, REFUSED, A], REFUSED, [1, 1, 0]),
        ([None, REFUSED, A], REFUSED, [1, 1, 0]),
        ([A, A, REFUSED], REFUSED, [1, 1, 1]),
    ],
)
def test_all_of(said, found, asked, later):
    says, times = ask(all_of, said, later, MISSING)
    assert times == asked
    if isinstance(found, str):
        assert says.consumer.id == found
    elif found == 403:
        assert (says.status, says.code) == (403, "identity_conflict")
    else:
        assert says is found


def test_what_agrees_is_joined():
    found, _ = ask(all_of, [A, A2], (), MISSING)
    assert (found.method, found.scopes) == ("first+second", {"r", "w"})


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("says", "guest"), [(None, True), (A, False), (REFUSED, False)])
def test_only_who_shows_nothing_is_a_guest(says, guest, later):
    fallback = Identity(Consumer("guest"), "anonymous")
    found = outcome(or_else(Member(says, later), fallback)(make_exchange()))
    assert found is (fallback if guest else says)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize(("says", "kept"), [(None, False), (A, True)])
def test_a_guest_s_authorization_goes_no_further(says, kept, later):
    exchange = make_exchange([(b"authorization", b"Digest x"), (b"accept", b"*/*"), (b"authorization", b"y")])
    outcome(or_else(Member(says, later), A2)(exchange))
    assert [name for name, _ in exchange.headers].count(b"authorization") == (2 if kept else 0)
    assert (b"accept", b"*/*") in exchange.headers


def test_fields_that_a_member_tells_by_are_never_the_callers_own():
    exchange = make_exchange([(b"x-user", b"root"), (b"accept", b"*/*"), (b"x-user", b"more")])
    asked = any_of([Member(A), Member(B)])
    assert untold(asked, frozenset({b"x-user"}))(exchange) is A
    assert exchange.headers == [(b"accept", b"*/*")]
    assert untold(asked, frozenset()) is asked


def test_combinations_of_combinations():
    both = all_of([Member(A), Member(None, True)], MISSING)
    assert outcome(any_of([Member(None, True), both, Member(B)])(make_exchange())) is MISSING
    neither = all_of([Member(None), Member(None, True)], MISSING)
    assert outcome(any_of([neither, Member(B)])(make_exchange())) is B
