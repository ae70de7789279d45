"""Replies made from what is stored."""

from __future__ import annotations

import pytest

from gatewayd.cache.answering import answer, headers_with, hit_headers, without_content
from tests.support.exchanges import RecordedReply, make_exchange

from .entries import entry


class Recorded(RecordedReply):
    """Whole replies too."""

    def reply(self, status, headers, length, body):
        self.start_reply(status, headers, length, body)
        self.end_reply([])


def answered(stored, headers=(), **more):
    exchange = make_exchange(list(headers), downstream=Recorded(), **more)
    answer(exchange, stored, headers_with(stored, 1000.0, b"me; hit"), 2_000_000.0)
    return exchange.downstream


def test_headers_of_a_hit_are_made_once_a_second():
    stored = entry(age=5.0)
    first = hit_headers(stored, 1000.2, b"me")
    assert hit_headers(stored, 1000.9, b"me") is first
    assert first[-2:] == [(b"age", b"5"), (b"cache-status", b"me; hit; ttl=54")]
    assert hit_headers(stored, 1001.0, b"me")[-2:] == [(b"age", b"6"), (b"cache-status", b"me; hit; ttl=54")]


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ([], 200, b"body"),
        ([(b"if-none-match", b'"e"')], 304, b""),
        ([(b"if-none-match", b'"f"')], 200, b"body"),
        ([(b"range", b"bytes=1-2")], 206, b"od"),
        ([(b"range", b"bytes=9-")], 416, b""),
        ([(b"range", b"bytes=1-2"), (b"if-none-match", b'"e"')], 304, b""),
        ([(b"range", b"bytes=1-2"), (b"if-range", b'"f"')], 200, b"body"),
        ([(b"range", b"nonsense")], 200, b"body"),
    ],
)
def test_conditions_and_ranges(headers, status, body):
    found = answered(entry(), headers)
    assert (found.status, found.body, found.ended) == (status, body, 1)
    assert found.values(b"cache-status") == [b"me; hit"]
    assert bool(found.values(b"content-type")) is (status in (200, 206))


def test_only_a_200_has_ranges_and_only_successes_conditions():
    assert answered(entry(status=404), [(b"range", b"bytes=1-2"), (b"if-none-match", b'"e"')]).status == 404
    assert answered(entry(status=203), [(b"range", b"bytes=1-2")]).status == 203


def test_a_range_of_a_head_is_ignored():
    found = answered(entry(), [(b"range", b"bytes=1-2")], method=b"HEAD")
    assert (found.status, found.length) == (200, 4)


def test_a_304_says_nothing_of_content():
    headers = [(b"content-type", b"a"), (b"etag", b"b"), (b"content-location", b"c"), (b"content-range", b"d")]
    assert without_content(headers) == [(b"etag", b"b"), (b"content-location", b"c")]
