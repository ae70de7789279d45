"""request_size: bodies too large are refused by their length, or their limit is lowered."""

from __future__ import annotations

import pytest

from gatewayd.config.units import Size
from gatewayd.core.exchange import UNKNOWN_LENGTH
from gatewayd.core.policy import BuildContext
from gatewayd.policies import request_size
from tests.support.exchanges import make_exchange


def decide(length, limit=0, **options):
    exchange = make_exchange(body_length=length, body_limit=limit)
    hooks = request_size.build(request_size.Config(body=Size(1000), **options), BuildContext())
    return hooks.access(exchange), exchange


@pytest.mark.parametrize("length", [0, 1, 1000])
def test_small_bodies_pass(length):
    verdict, exchange = decide(length, limit=5000)
    assert verdict is None
    assert exchange.body_limit == 5000


def test_large_bodies_are_refused_at_once():
    verdict, _ = decide(1001)
    assert (verdict.status, verdict.code) == (413, "body_too_large")
    assert b'"limit":1000' in verdict.body


@pytest.mark.parametrize(("before", "after"), [(0, 1000), (5000, 1000), (1000, 1000), (10, 10)])
def test_chunked_bodies_are_counted_against_the_lower_limit(before, after):
    verdict, exchange = decide(UNKNOWN_LENGTH, limit=before)
    assert verdict is None
    assert exchange.body_limit == after


def test_a_length_can_be_required():
    verdict, _ = decide(UNKNOWN_LENGTH, require_length=True)
    assert (verdict.status, verdict.code) == (411, "length_required")
    assert decide(0, require_length=True)[0] is None


def test_explain():
    config = request_size.Config(require_length=True)
    assert request_size.build(config, BuildContext()).explain == "body at most 1MiB, Content-Length required"
