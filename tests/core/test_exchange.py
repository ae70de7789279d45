"""The exchange: what it begins as, and how every reply starts."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from gatewayd.core.exchange import UNKNOWN_LENGTH, Exchange, Headers
from gatewayd.core.policy import Route
from tests.support.exchanges import RecordedReply, make_exchange


class Abortable(RecordedReply):
    """Also takes an abort."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


def exchange_with(*hooks: Any) -> tuple[Exchange, Abortable]:
    """An exchange on a route with these reply hooks."""
    route = Route("quotes", lambda exchange: None)
    route.reply = hooks
    downstream = Abortable()
    return make_exchange(route=route, downstream=downstream), downstream


def test_reply_hooks_run_in_order_and_see_what_the_ones_before_did():
    seen = []

    def first(exchange: Exchange, headers: Headers) -> None:
        seen.append((exchange.status, list(headers)))
        headers.append((b"a", b"1"))

    def second(exchange: Exchange, headers: Headers) -> None:
        seen.append((exchange.status, list(headers)))
        headers[:] = [pair for pair in headers if pair[0] != b"server"]

    exchange, downstream = exchange_with(first, second)
    exchange.start_reply(201, [(b"server", b"x")], 5, b"hello")
    assert seen == [(201, [(b"server", b"x")]), (201, [(b"server", b"x"), (b"a", b"1")])]
    assert downstream.headers == [(b"a", b"1"), (b"x-request-id", exchange.request_id)]
    assert (downstream.status, downstream.length, downstream.body) == (201, 5, b"hello")


def test_a_reply_hook_cannot_take_the_request_id_away():
    exchange, downstream = exchange_with(lambda exchange, headers: headers.clear())
    exchange.start_reply(200, [(b"etag", b'"a"')], UNKNOWN_LENGTH)
    assert downstream.headers == [(b"x-request-id", exchange.request_id)]


def test_a_failing_reply_hook_breaks_the_reply_off(caplog: pytest.LogCaptureFixture):
    def fail(exchange: Exchange, headers: Headers) -> None:
        raise LookupError

    def unreached(exchange: Exchange, headers: Headers) -> None:
        raise AssertionError

    exchange, downstream = exchange_with(fail, unreached)
    with caplog.at_level(logging.ERROR):
        exchange.start_reply(200, [], 0)
    assert downstream.aborted
    assert downstream.status == 0, "nothing of the reply may be sent"
    assert exchange.reason == "reply_hook_failed"
    assert "route quotes" in caplog.text


def test_without_a_route_the_reply_starts_all_the_same():
    exchange = make_exchange(downstream=Abortable())
    exchange.start_reply(404, [], 0)
    assert exchange.status == exchange.downstream.status == 404  # type: ignore[attr-defined]


def test_a_new_exchange_has_nothing_to_say():
    exchange = Exchange()
    assert (exchange.status, exchange.code, exchange.reason) == (0, "", "")
    assert (exchange.verdicts, exchange.route) == (None, None)
    assert (exchange.headers, exchange.withheld, exchange.body_length, exchange.body_limit) == ([], [], 0, 0)
    assert exchange.headers is not Exchange().headers


def test_an_exchange_takes_no_attributes_of_others():
    with pytest.raises(AttributeError):
        Exchange().cleint = "typo"  # type: ignore[attr-defined]
