"""References and cookies of targets as callers have to read them."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.rewrite import Asked, Rewriting

ASKED = Asked(b"https", b"api.example.com", b"http", b"api.example.com", b"10.0.0.5:9000", b"/internal/claims/7")
TO_TARGET = ASKED._replace(sent_host=b"claims.internal")
BOTH = Rewriting("/v1", "/internal")
STRIP = Rewriting("/v1/", "")
ADD = Rewriting("", "/internal")
NEITHER = Rewriting("", "")


@pytest.mark.parametrize(
    ("rewriting", "before", "after"),
    [
        (BOTH, b"/internal/x", b"/v1/x"),
        (BOTH, b"/internal", b"/v1"),
        (BOTH, b"/internal/x?a=/internal#/internal", b"/v1/x?a=/internal#/internal"),
        (BOTH, b"/internally", b"/internally"),
        (BOTH, b"/other", b"/other"),
        (STRIP, b"/x", b"/v1/x"),
        (STRIP, b"/", b"/v1/"),
        (ADD, b"/internal/x", b"/x"),
        (ADD, b"/internal", b"/"),
        (ADD, b"/internal//evil.example", b"/evil.example"),
        (NEITHER, b"/x", b"/x"),
        (NEITHER, b"x/../y", b"x/../y"),
    ],
)
def test_paths(rewriting, before, after):
    assert rewriting.reference(before, ASKED) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"8", b"/v1/claims/8"),
        (b"./8?x", b"/v1/claims/8?x"),
        (b"../quotes/", b"/v1/quotes/"),
        (b"..", b"/v1/"),
        (b"../..", b"../.."),
        (b"../../other", b"../../other"),
        (b"/internal/../other", b"/internal/../other"),
        (b"/x/../internal/y", b"/v1/y"),
        (b"?page=2", b"?page=2"),
        (b"#top", b"#top"),
        (b"", b""),
    ],
)
def test_relative_references_are_resolved_against_what_the_target_was_asked(before, after):
    assert BOTH.reference(before, ASKED) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"http://api.example.com/internal/x", b"https://api.example.com/v1/x"),
        (b"http://API.example.com:80/internal/x", b"https://api.example.com/v1/x"),
        (b"HTTP://10.0.0.5:9000/internal/x", b"https://api.example.com/v1/x"),
        (b"https://api.example.com/internal/x", b"https://api.example.com/v1/x"),
        (b"//api.example.com/internal/x", b"//api.example.com/v1/x"),
        (b"//10.0.0.5:9000/internal/x", b"//api.example.com/v1/x"),
        (b"http://10.0.0.5:9001/internal/x", b"http://10.0.0.5:9001/internal/x"),
        (b"http://10.0.0.5:9000/other", b"http://10.0.0.5:9000/other"),
        (b"https://login.example/internal/x", b"https://login.example/internal/x"),
        (b"http://api.example.com.evil.example/internal/x", b"http://api.example.com.evil.example/internal/x"),
        (b"http://u@api.example.com/internal/x", b"http://u@api.example.com/internal/x"),
        (b"mailto:a@b.example", b"mailto:a@b.example"),
        (b"ftp://api.example.com/internal/x", b"ftp://api.example.com/internal/x"),
    ],
)
def test_absolute_references(before, after):
    assert BOTH.reference(before, ASKED) == after


def test_a_target_that_sends_callers_over_to_tls_means_it():
    plain = ASKED._replace(scheme=b"http")
    assert BOTH.reference(b"https://api.example.com/internal/x", plain) == b"https://api.example.com/v1/x"
    assert BOTH.reference(b"http://api.example.com/internal/x", plain) == b"http://api.example.com/v1/x"


def test_the_targets_own_host_is_undone_without_prefixes_too():
    assert NEITHER.reference(b"http://claims.internal/x", TO_TARGET) == b"https://api.example.com/x"
    assert NEITHER.reference(b"http://claims.internal", TO_TARGET) == b"https://api.example.com/"
    assert NEITHER.reference(b"http://claims.internal//e.example", TO_TARGET) == b"https://api.example.com/e.example"


def test_without_a_host_nothing_absolute_is_touched():
    asked = TO_TARGET._replace(host=b"")
    assert BOTH.reference(b"http://claims.internal/internal/x", asked) == b"http://claims.internal/internal/x"


@pytest.mark.parametrize(
    ("rewriting", "asked", "before", "after"),
    [
        (BOTH, ASKED, b"a=1; Path=/internal/x", b"a=1; Path=/v1/x"),
        (BOTH, ASKED, b"a=1; Path=/internal", b"a=1; Path=/v1"),
        (BOTH, ASKED, b"a=1; Path=/internal/", b"a=1; Path=/v1"),
        (BOTH, ASKED, b"a=1; Path=/", b"a=1; Path=/v1"),
        (BOTH, ASKED, b"a=1; Path=/other", b"a=1; Path=/other"),
        (STRIP, ASKED, b"a=1; Path=/", b"a=1; Path=/v1"),
        (STRIP, ASKED, b"a=1; Path=/x", b"a=1; Path=/v1/x"),
        (ADD, ASKED, b"a=1; Path=/internal/x", b"a=1; Path=/x"),
        (ADD, ASKED, b"a=1; Path=/", b"a=1; Path=/"),
        (BOTH, TO_TARGET, b"a=1; Domain=claims.internal", b"a=1"),
        (BOTH, TO_TARGET, b"a=1; Domain=.internal", b"a=1"),
        (BOTH, TO_TARGET, b"a=1; Domain=10.0.0.5", b"a=1"),
        (BOTH, TO_TARGET, b"a=1; Domain=example.com", b"a=1; Domain=example.com"),
        (BOTH, ASKED, b"a=1; Domain=api.example.com", b"a=1; Domain=api.example.com"),
        (BOTH, ASKED, b"a=1; Domain=elsewhere.example", b"a=1; Domain=elsewhere.example"),
    ],
)
def test_cookies(rewriting, asked, before, after):
    assert rewriting.cookie(before, asked) == after


def test_only_the_fields_that_hold_references_are_touched():
    headers = [
        (b"location", b"/internal/a"),
        (b"content-location", b"/internal/b"),
        (b"set-cookie", b"a=1; Path=/internal"),
        (b"link", b"</internal/c>"),
        (b"set-cookie", b"b=2"),
    ]
    BOTH.apply(headers, ASKED)
    assert headers == [
        (b"location", b"/v1/a"),
        (b"content-location", b"/v1/b"),
        (b"set-cookie", b"a=1; Path=/v1"),
        (b"link", b"</internal/c>"),
        (b"set-cookie", b"b=2"),
    ]


SEGMENT = st.sampled_from(["a", "b", "internal", ".", "..", "c.d"])
PATHS = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)


@given(PATHS, st.booleans())
def test_the_caller_ends_where_the_target_pointed(path, absolute):
    """Resolved by the caller, a rewritten reference is the public name of what it was for the target."""
    reference = f"/{path}" if absolute else path
    meant = urlsplit(urljoin("http://t/internal/claims/7", reference)).path
    told = urlsplit(urljoin("http://p/v1/claims/7", BOTH.reference(reference.encode(), ASKED).decode())).path
    if meant == "/internal" or meant.startswith("/internal/"):
        assert told == "/v1" + meant.removeprefix("/internal")


@given(st.binary())
def test_anything_else_comes_out_whole(value):
    value = value.replace(b"\r", b"").replace(b"\n", b"")
    out = BOTH.reference(value, ASKED)
    assert not (out.startswith(b"//") and not value.startswith((b"//", b"/")))
    assert out == value or b"/v1" in out
