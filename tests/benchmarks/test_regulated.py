"""The scenarios that ask who calls, how much they may, and what is served from memory: small."""

from __future__ import annotations

from dataclasses import replace
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from benchmarks import regulated
from benchmarks.credentials import make_consumers, make_tokens
from benchmarks.generator import Outcome
from benchmarks.harness import Harness, Options
from benchmarks.machine import prepare
from benchmarks.proxies import KINDS, Setup
from benchmarks.rounds import as_meant

prepare()
NGINX = pytest.mark.skipif(bool(KINDS["nginx"].missing()), reason="nginx is not installed")


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.setattr(regulated, "ROUTES", 20)
    monkeypatch.setattr(regulated, "USED", 30)
    monkeypatch.setattr(regulated, "IN_TURN_ROUNDS", 1)
    monkeypatch.setattr(regulated, "make_consumers", lambda folder: make_consumers(folder, 50))
    with Harness(Options(peers=("nginx",), rounds=1, seconds=1, quick=True)) as found:
        yield found


def nothing() -> None:
    """No progress bar."""


def ask(url: str, **headers: str) -> int:
    """The status of a reply."""
    try:
        with urlopen(Request(url, headers=headers), timeout=10) as reply:
            return reply.status
    except HTTPError as error:
        with error:
            return error.code


def answered(found: dict) -> list[int]:
    """Failures of everyone who took part, each of whom answered something."""
    everyone = [found["gatewayd"], *found["peers"].values()]
    assert all(each["requests"] > 0 for each in everyone)
    return [each["failed"] for each in everyone]


@pytest.mark.process
@NGINX
def test_keys_are_asked_for_on_both_sides(harness):
    consumers = regulated.consumers_of(harness)
    setup = Setup(harness.target().port, routes=regulated.ROUTES, regulation=regulated.keyed_regulation(consumers))
    for proxy in regulated._everyone(harness, setup):
        url = proxy.url("/v1/service-7/items/42")
        assert ask(url) == ask(url, **{"X-Api-Key": "wrong"}) == 401
        assert ask(url, **{"X-Api-Key": consumers.keys[-1]}) == 200


@pytest.mark.process
@NGINX
def test_keyed(harness):
    found = regulated.keyed(harness, nothing)
    assert answered(found) == [0, 0]
    assert found["checks"][0]["measured"] == found["peers"]["nginx"]["cpu_ratio"]
    assert "in turn" in found["in_turn"]["traffic"]


@pytest.mark.process
def test_tokens(harness, monkeypatch):
    monkeypatch.setattr(regulated, "make_tokens", lambda folder, names: make_tokens(folder, names[:30]))
    found = regulated.jwt(harness, nothing)
    assert answered(found) == [0, 0, 0]
    assert [check["measured"] is not None for check in found["checks"]] == [True, True]
    assert found["signature_check_us"] > 0


@pytest.mark.process
@NGINX
def test_replies_come_from_caches(harness):
    found = regulated.cached(harness, nothing)
    assert answered(found) == [0, 0]
    assert found["remarks"] == []


@pytest.mark.process
def test_nine_of_ten_are_refused(harness):
    found = regulated.limited(harness, nothing)
    assert answered(found) == [0, 0]


@pytest.mark.process
def test_one_more_limit_has_its_price(harness):
    found = regulated.limit_cost(harness, nothing)
    assert answered(found) == [0, 0]
    assert found["checks"][0]["measured"] == found["us_per_limit"]


OUTCOME = Outcome(1000, 1.0, 1000.0, {}, {"status": 900, "timeout": 1})


def test_refusals_that_are_meant_are_no_failures():
    assert as_meant(OUTCOME, 0.9).errors == {"timeout": 1}
    assert as_meant(replace(OUTCOME, errors={"429": 900}), 0.9).failed == 0


@pytest.mark.parametrize("refused", [0.0, 0.5, 0.95])
def test_refusals_that_are_not_meant_are(refused):
    assert as_meant(OUTCOME, refused) is OUTCOME
