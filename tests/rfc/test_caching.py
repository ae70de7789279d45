"""What a shared cache may store, reuse and must forget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.cache_control import read_directives
from gatewayd.rfc.caching import (
    Asker,
    Refusal,
    Rules,
    Terms,
    Wish,
    freshened,
    invalidated,
    is_failure,
    judge,
    read_wish,
    selecting,
    stored_headers,
    vary_names,
)
from gatewayd.rfc.conditional import validators
from gatewayd.rfc.freshness import Heuristics
from gatewayd.rfc.headers import http_date

NOW = 1_800_000_000.0
ANYBODY = Asker(read_directives([]))
ETAG = (b"etag", b'"e"')


def verdict(headers, status=200, asker=ANYBODY, rules=None):
    return judge(asker, status, headers, validators(headers, NOW), rules or Rules(), NOW, NOW)


def control(value):
    return [(b"cache-control", value)]


@pytest.mark.parametrize(
    ("headers", "status", "why"),
    [
        ([], 200, "no-freshness"),
        ([], 500, "no-freshness"),
        ([ETAG], 201, "no-freshness"),
        (control(b"max-age=0"), 200, "no-freshness"),
        (control(b"max-age=x"), 200, "no-freshness"),
        ([*control(b"max-age=60"), (b"age", b"61")], 200, "no-freshness"),
        ([*control(b"max-age=60"), (b"age", b"x")], 200, "no-freshness"),
        (control(b"max-age=60 no-store"), 200, "no-freshness"),
        (control(b"no-store, max-age=60"), 200, "no-store"),
        (control(b"private, max-age=60"), 200, "private"),
        (control(b'private, private="a", max-age=60'), 200, "private"),
        (control(b"max-age=60"), 206, "status"),
        (control(b"max-age=60"), 304, "status"),
        (control(b"max-age=60, must-understand"), 599, "status"),
        ([*control(b"max-age=60"), (b"set-cookie", b"a=b")], 200, "set-cookie"),
        ([*control(b"max-age=60"), (b"vary", b"a, *")], 200, "vary"),
        ([*control(b"max-age=60"), (b"vary", b"X-Forwarded-For")], 200, "vary"),
    ],
)
def test_what_is_not_stored_for_anyone(headers, status, why):
    assert verdict(headers, status) == Refusal(why)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (control(b"max-age=60"), 200),
        (control(b"max-age=60"), 599),
        (control(b"public, s-maxage=60"), 500),
        ([(b"expires", http_date(NOW + 60))], 302),
        ([ETAG], 200),
        ([ETAG, *control(b"no-cache")], 200),
        ([(b"last-modified", http_date(NOW - 60))], 404),
        (control(b"no-store, must-understand, max-age=60"), 200),
        (control(b'private="a", max-age=60'), 200),
        (control(b"max-age=0, stale-while-revalidate=5"), 200),
        (control(b"max-age=0, stale-if-error=5"), 200),
    ],
)
def test_what_is_stored(headers, status):
    assert isinstance(verdict(headers, status), Terms)


@pytest.mark.parametrize("allows", [b"public", b"s-maxage=9", b"must-revalidate"])
def test_replies_to_credentials(allows):
    asker = Asker(read_directives([]), True)
    assert verdict(control(b"max-age=60"), asker=asker) == Refusal("authorization", lasting=False)
    assert isinstance(verdict(control(b"max-age=60, " + allows), asker=asker), Terms)
    assert isinstance(verdict(control(b"max-age=60, proxy-revalidate"), asker=asker), Refusal)


def test_a_request_may_forbid_it():
    asker = Asker(read_directives([b"no-store"]))
    assert verdict(control(b"max-age=60"), asker=asker) == Refusal("request-no-store", lasting=False)


def test_terms():
    found = verdict(
        [
            *control(b'max-age=60, must-revalidate, no-cache="A", private="b", stale-while-revalidate=7'),
            *control(b"stale-if-error=x"),
            (b"age", b"9"),
        ],
        rules=Rules(stale_if_error=5, stale_while_revalidate=5),
    )
    assert found == Terms(9, 60, False, True, 7, 0, frozenset((b"a", b"b")), True)
    found = verdict([ETAG, *control(b"no-cache")], rules=Rules(stale_if_error=5, stale_while_revalidate=6))
    assert found == Terms(0, 0, True, False, 6, 5)


def test_lifetimes_nobody_said_are_for_what_may_have_them():
    rules = Rules(heuristics=Heuristics(default=60))
    assert not verdict([], 200, rules=rules).for_all
    assert verdict([], 200, rules=rules).lifetime == 60
    assert verdict([], 201, rules=rules) == Refusal("no-freshness")
    assert verdict(control(b"public"), 599, rules=rules).lifetime == 60


def test_what_of_the_headers_is_stored():
    headers = [(name, b"1") for name in (b"a", b"b", b"age", b"keep-alive", b"set-cookie", b"x-request-id", b"date")]
    terms = Terms(0, 0, dropped=frozenset((b"b",)))
    names = [name for name, _ in stored_headers(headers, terms, Rules(set_cookie="strip"))]
    assert names == [b"a", b"date"]
    assert (b"set-cookie", b"1") in stored_headers(headers, terms, Rules(set_cookie="store"))


def test_a_304_replaces_what_it_says():
    stored = [(b"a", b"1"), (b"a", b"2"), (b"b", b"1"), (b"etag", b"1"), (b"content-encoding", b"1")]
    newer = [(b"a", b"3"), (b"c", b"3"), (b"etag", b"3"), (b"content-encoding", b"3"), (b"age", b"3"), (b"te", b"3")]
    assert freshened(stored, newer) == [
        (b"b", b"1"),
        (b"etag", b"1"),
        (b"content-encoding", b"1"),
        (b"a", b"3"),
        (b"c", b"3"),
    ]


# -- Vary ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([], ()),
        ([b""], ()),
        ([b"B, a", b"b"], (b"a", b"b")),
        ([b"Host, X-Forwarded-Proto"], ()),
        ([b"*"], None),
        ([b"a", b", *"], None),
        ([b"X-Forwarded-For, a"], None),
        ([b"X-Request-Id"], None),
        ([b"Connection"], None),
    ],
)
def test_names(values, names):
    assert vary_names([(b"vary", value) for value in values]) == names


def test_a_coding_varies_on_who_can_read_it():
    assert vary_names([(b"content-encoding", b"br")]) == (b"accept-encoding",)
    assert vary_names([(b"content-encoding", b"identity")]) == ()


@pytest.mark.parametrize(
    ("name", "one", "other", "equal"),
    [
        (b"foo", [b"1, 2"], [b"1", b"2"], True),
        (b"foo", [b"1,2"], [b" 1 ,  2 "], True),
        (b"foo", [b"1,2"], [b"2,1"], False),
        (b"foo", [b"a"], [b"A"], False),
        (b"foo", [], [b""], False),
        (b"foo", [b'"a, b"'], [b'"a,b"'], False),
        (b"accept-language", [b"en, de"], [b"DE,en"], True),
        (b"accept-language", [b"en;q=0.5, de"], [b"de , en; q=0.5"], True),
        (b"accept-language", [b"en;q=0.5, de"], [b"de;q=0.5, en"], False),
        (b"accept-encoding", [b"gzip, br"], [b"br", b"GZIP"], True),
    ],
)
def test_equal_wishes(name, one, other, equal):
    first, second = ([(name, value) for value in values] for values in (one, other))
    assert (selecting((name,), first) == selecting((name,), second)) is equal


def test_other_fields_do_not_matter():
    assert selecting((b"a", b"b"), [(b"c", b"1"), (b"a", b"1")]) == (b"1", None)


# -- reuse --------------------------------------------------------------------------------------------------------


def wish(value):
    return read_wish([(b"cache-control", value)])


@pytest.mark.parametrize(
    ("value", "age", "fresh_for", "accepted"),
    [
        (b"", 5, 5, True),
        (b"", 5, 0, False),
        (b"", 5, -5, False),
        (b"no-cache", 5, 5, False),
        (b"max-age=5", 5, 5, True),
        (b"max-age=4", 5, 5, False),
        (b"max-age=x", 5, 5, True),
        (b"min-fresh=5", 5, 5, True),
        (b"min-fresh=6", 5, 5, False),
        (b"max-stale", 5, -5, True),
        (b"max-stale=6", 5, -5, True),
        (b"max-stale=5", 5, -5, False),
        (b"max-stale=6, min-fresh=1", 5, -5, False),
        (b"max-stale=6, max-age=4", 5, -5, False),
    ],
)
def test_what_will_do(value, age, fresh_for, accepted):
    assert wish(value).accepts(age, fresh_for, False) is accepted


def test_what_is_never_used_stale():
    assert not wish(b"max-stale").accepts(5, -5, True)


def test_pragma_counts_alone():
    assert read_wish([(b"pragma", b"no-cache")]).no_cache
    assert not read_wish([(b"pragma", b"no-cache"), (b"cache-control", b"x")]).no_cache
    assert wish(b"only-if-cached, stale-if-error=7") == Wish(
        read_directives([b"only-if-cached, stale-if-error=7"]), stale_if_error=7, only_if_cached=True
    )


def test_failures():
    assert [status for status in range(400, 600) if is_failure(status)] == [500, 502, 503, 504]


# -- invalidation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"/x", (b"/x", None)),
        (b"/x?y=z#f", (b"/x", b"y=z")),
        (b"/x?", (b"/x", b"")),
        (b"x", (b"/a/x", None)),
        (b"../x", (b"/x", None)),
        (b"?q", (b"/a/b", b"q")),
        (b"http://host/x", (b"/x", None)),
        (b"HTTP://HOST/x", (b"/x", None)),
        (b"//host", (b"/", None)),
        (b"http://other/x", None),
        (b"https://host/x", None),
        (b"http://[/x", None),
        (b"/\xff", None),
        (b"../../../x", None),
    ],
)
def test_what_else_is_invalid(value, found):
    for name in (b"location", b"content-location"):
        assert invalidated([(name, value)], b"http", b"host", b"/a/b") == ([] if found is None else [found])
    assert invalidated([(b"link", value)], b"http", b"host", b"/a/b") == []


@given(st.binary(max_size=40))
def test_any_location_is_survived(value):
    for path, _ in invalidated([(b"location", value)], b"http", b"host", b"/a/b"):
        assert path.startswith(b"/")
