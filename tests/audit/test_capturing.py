"""The tap by itself: what is kept of bodies, and what conditions on types and statuses mean."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from gatewayd.audit.capturing import (
    OTHER_CODING,
    OTHER_TYPE,
    Body,
    Capturing,
    Tap,
    Wanted,
    any_of,
    decoded,
    of_status,
    of_type,
)
from gatewayd.audit.redaction import CUT, Redaction
from tests.support.exchanges import RecordedReply, make_exchange

TEXT = [(b"content-type", b"text/plain")]
RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATED = RAW.compress(b"abc" * 50) + RAW.flush()


def capturing(request=Wanted(), reply=Wanted(), names=(), statuses=(), query=False):  # noqa: B008
    return Capturing(
        request,
        reply,
        query,
        Redaction(names, []),
        any_of([of_type("text/*"), of_type("application/json")]),
        any_of([of_status(each) for each in statuses]) if statuses else lambda status: True,
    )


def kept(headers, *pieces, limit=10, whole=True, names=()):
    body = Body(limit, headers)
    for piece in pieces:
        body.take(piece)
    if whole:
        body.end()
    return body.kept(limit, capturing(names=names))


def test_a_body_is_kept_up_to_its_limit():
    assert kept(TEXT, b"12345", b"67890") == (b"1234567890", False)
    assert kept(TEXT, b"12345", b"678901") == (b"1234567890", True)
    assert kept(TEXT, b"1234567890", b"1", b"2") == (b"1234567890", True)
    assert kept(TEXT, b"1" * 1000) == (b"1" * 10, True)
    assert kept(TEXT) == (b"", False)
    assert kept(TEXT, b"123", whole=False) == (b"123", True)


def test_memory_is_bounded_whatever_comes():
    piece = bytes(256 * 1024)
    tracemalloc.start()
    body = Body(1000, TEXT)
    for _ in range(100):
        body.take(bytes(piece))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(map(len, body.pieces)) == 1000
    assert peak < 600_000


def test_other_types_are_not_kept():
    assert kept([(b"content-type", b"image/png")], b"x") == (OTHER_TYPE, False)
    assert kept([], b"x") == (OTHER_TYPE, False)
    assert kept([(b"content-type", b"TEXT/Plain ; charset=utf-8")], b"x") == (b"x", False)
    assert kept([*TEXT, (b"content-type", b"image/png")], b"x") == (b"x", False)  # a target's guess is as good as ours


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        (b"gzip", gzip.compress(b"abc" * 50)),
        (b"GZIP", gzip.compress(b"abc" * 20) + gzip.compress(b"abc" * 30)),
        (b"x-gzip", gzip.compress(b"abc" * 50)),
        (b"deflate", zlib.compress(b"abc" * 50)),
        (b"deflate", RAW_DEFLATED),
        (b"identity", b"abc" * 50),
    ],
)
def test_content_codings_are_undone_within_the_limit(coding, data):
    headers = [*TEXT, (b"content-encoding", coding)]
    assert kept(headers, data, limit=200) == (b"abc" * 50, False)
    if coding != b"identity":
        assert kept(headers, data, limit=149) == ((b"abc" * 50)[:149], True)
        found, cut = kept(headers, data[:-5], limit=200, whole=False)
        assert cut
        assert (b"abc" * 50).startswith(found)


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"gzip, br", b"aes128gcm"])
def test_other_codings_are_not_kept(coding):
    assert kept([*TEXT, (b"content-encoding", coding)], b"secret") == (OTHER_CODING, False)


def test_what_says_it_is_compressed_and_is_not():
    assert kept([*TEXT, (b"content-encoding", b"gzip")], b"secret") == (OTHER_CODING, False)


def test_a_bomb_is_undone_only_as_far_as_it_is_kept():
    bomb = gzip.compress(bytes(50_000_000))
    tracemalloc.start()
    assert decoded(bomb, b"gzip", 1000) == (bytes(1000), False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


def test_json_that_is_cut_off_when_undone_is_withheld():
    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    body = gzip.compress(b'{"password": "%b"}' % (b"x" * 500))
    assert kept(headers, body, limit=100, names=["password"]) == (CUT, True)
    assert kept(headers, body, limit=900, names=["password"]) == (b'{"password":"[redacted]"}', False)


def test_what_is_redacted_is_cut_again():
    found = kept([(b"content-type", b"application/json")], b'{"a":"","a":""}', limit=15, names=["a"])
    assert found == (b'{"a":"[redacted', True)


def test_types_and_statuses():
    assert [of_type("a/*")(each) for each in ("a/b", "a/", "b/a")] == [True, True, False]
    assert [of_type("a/*+j")(each) for each in ("a/x+j", "a/+j", "a/j", "a/x")] == [True, True, False, False]
    assert [of_type("*")(each) for each in ("a/b", "")] == [True, True]
    assert [of_type("a/b")(each) for each in ("a/b", "a/bc")] == [True, False]
    assert [of_status("4xx")(each) for each in (399, 400, 499, 500)] == [False, True, True, False]
    assert [of_status("404")(each) for each in (404, 405)] == [True, False]


def test_headers_by_name_or_all_of_them_as_they_came():
    headers = [(b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b"2")]
    exchange = make_exchange(headers, withheld=[(b"host", b"a"), (b"x_api_key", b"s")])
    for wanted, expected in (
        (Wanted(), []),
        (Wanted(False, frozenset((b"x-a", b"host"))), [(b"x-a", b"1"), (b"x-a", b"2"), (b"host", b"a")]),
        (Wanted(True), [*headers, (b"host", b"a"), (b"x_api_key", b"[redacted]")]),
    ):
        exchange.downstream = RecordedReply()
        tap = Tap(exchange, capturing(wanted))
        headers.append((b"added", b"later"))
        assert tap.captured(200).request_headers == expected
        headers.pop()


def test_a_reply_is_kept_with_what_is_behind_the_tap_unchanged():
    exchange = make_exchange([])
    inner = exchange.downstream
    tap = Tap(exchange, capturing(reply=Wanted(True, body=4)))
    exchange.downstream.start_reply(200, [*TEXT, (b"set-cookie", b"s")], -1, b"ab")
    exchange.downstream.send_body(b"cdef")
    exchange.downstream.end_reply([])
    assert (inner.status, inner.body, inner.ended) == (200, b"abcdef", 1)
    found = tap.captured(200)
    assert (found.reply_body, found.reply_cut) == (b"abcd", True)
    assert found.reply_headers == [*TEXT, (b"set-cookie", b"[redacted]")]


def test_a_status_that_is_not_wanted_frees_what_was_kept():
    exchange = make_exchange([*TEXT], body_length=5)
    tap = Tap(exchange, capturing(Wanted(body=100), Wanted(True, body=100), statuses=["5xx"]))
    tap.body(b"12345")
    tap.start_reply(200, [*TEXT], 3, b"abc")
    assert tap._request_body.pieces == []
    assert tap._reply_body is None
    assert tap.captured(200) is None


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_replies_without_a_body_have_none(method, status):
    exchange = make_exchange([], method=method)
    tap = Tap(exchange, capturing(reply=Wanted(body=100)))
    exchange.downstream.reply(status, [*TEXT], 3, b"abc")
    found = tap.captured(status)
    assert (found.reply_body, found.reply_cut) == (b"", False)


def test_the_query_stands_there_only_if_it_is_wanted():
    for wanted, query, expected in (
        (False, b"a=1", None),
        (True, None, None),
        (True, b"", b""),
        (True, b"a=1&b=2", b"a=1&b=[redacted]"),
    ):
        tap = Tap(make_exchange(query=query), capturing(query=wanted, names=["b"]))
        assert tap.captured(200).query == expected
