"""What replies say of limits."""

from __future__ import annotations

import pytest

from gatewayd.limits.fields import fields, legacy


def written(write, left, seconds, headers=()):
    found = list(headers)
    write(found, left, seconds)
    return found


@pytest.mark.parametrize(
    ("amount", "period", "policy"),
    [
        (50, 1.0, b'"per-key";q=50;w=1'),
        (100, 60.0, b'"per-key";q=100;w=60'),
        (10, 0.1, b'"per-key";q=10;w=1'),
        (0.5, 1.0, b'"per-key";q=1;w=2'),
    ],
)
def test_the_draft_s_fields(amount, period, policy):
    assert written(fields("per-key", amount, period), 7, 3) == [
        (b"ratelimit-policy", policy),
        (b"ratelimit", b'"per-key";r=7;t=3'),
    ]


def test_several_limits_are_a_list():
    headers = written(fields("a", 1, 1), 0, 1)
    fields("b", 2, 1)(headers, 1, 1)
    assert b", ".join(value for name, value in headers if name == b"ratelimit") == b'"a";r=0;t=1, "b";r=1;t=1'


def shown(headers):
    return [(name, value) for name, value in headers if name.startswith(b"x-ratelimit")]


def older(limit, left, seconds):
    return [
        (b"x-ratelimit-limit", b"%d" % limit),
        (b"x-ratelimit-remaining", b"%d" % left),
        (b"x-ratelimit-reset", b"%d" % seconds),
    ]


def test_the_older_fields_stand_beside_the_draft_s():
    headers = written(legacy(fields("a", 50, 1), 20), 19, 1)
    assert len(headers) == 5
    assert shown(headers) == older(20, 19, 1)


@pytest.mark.parametrize(("there", "left", "kept"), [(3, 5, older(9, 3, 2)), (5, 3, older(20, 3, 1))])
def test_of_several_limits_the_older_fields_tell_the_one_that_leaves_least(there, left, kept):
    assert shown(written(legacy(fields("a", 50, 1), 20), left, 1, older(9, there, 2))) == kept


def test_what_is_no_number_is_replaced():
    odd = [(b"x-ratelimit-remaining", b"many"), (b"x-ratelimit-reset", b"never")]
    assert shown(written(legacy(fields("a", 50, 1), 20), 4, 1, odd)) == older(20, 4, 1)
