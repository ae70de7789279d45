"""Listing and matching of web origins."""

from __future__ import annotations

import pytest

from gatewayd.rfc.origin import Origins, is_same_origin


@pytest.mark.parametrize(
    ("listed", "inside", "outside"),
    [
        ("https://portal.example", "https://portal.example", "http://portal.example"),
        ("https://portal.example", "https://portal.example", "https://portal.example:8443"),
        ("HTTPS://Portal.Example", "https://portal.example", "https://portal.example.evil.example"),
        ("https://portal.example:443", "https://portal.example", "https://portal.example:443"),
        ("http://localhost:3000", "http://localhost:3000", "http://localhost"),
        ("http://[::1]:3000", "http://[::1]:3000", "http://[::1]"),
        ("app-scheme://id", "app-scheme://id", "https://id"),
        ("https://*.example.com", "https://a.example.com", "https://example.com"),
        ("https://*.example.com", "https://a.b-c.example.com", "https://.example.com"),
        ("https://*.example.com", "https://a.example.com", "https://aexample.com"),
        ("https://*.example.com", "https://a.example.com", "https://a.example.com:8443"),
        ("https://*.example.com", "https://a.example.com", "https://evil.example/.example.com"),
        ("https://*.example.com", "https://a.example.com", "https://evil.example#.example.com"),
        ("https://*.example.com", "https://a.example.com", "https://u:p@evil.example.com"),
        ("https://*.example.com", "https://a.example.com", "http://a.example.com"),
        ("https://*.example.com", "https://a.example.com", "https://a..example.com"),
        ("https://*.example.com", "https://a.example.com", "https://a.example.com\n"),
        ("https://*.example.com:8443", "https://a.example.com:8443", "https://a.example.com"),
        ("*", "https://anything.example", None),
    ],
)
def test_listed_origins(listed, inside, outside):
    origins = Origins([listed])
    assert inside.encode() in origins
    assert outside is None or outside.encode() not in origins
    assert origins.everyone is (listed == "*")


@pytest.mark.parametrize(
    "listed",
    ["", "null", "portal.example", "https://", "https://portal.example/", "https://a.example/path", "https://*", "https://a.*",
     "https://*.*.example", "https://u@a.example", "https://a.example:", "//a.example", "https://a b", "https://*a.example"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(listed):
    with pytest.raises(ValueError, match="origin"):
        Origins(["https://portal.example", listed])


def test_a_second_wildcard_of_the_same_ending_counts_too():
    origins = Origins(["https://*.a.example.com", "https://*.example.com"])
    assert b"https://b.example.com" in origins
    assert b"https://b.a.example.com" in origins
    assert b"https://a.example.com" in origins
    assert b"null" not in origins
    assert b"" not in origins


@pytest.mark.parametrize(
    ("origin", "scheme", "host", "same"),
    [
        (b"https://a.example", b"https", b"a.example", True),
        (b"https://a.example", b"https", b"a.example:443", True),
        (b"http://a.example:8080", b"http", b"a.example:8080", True),
        (b"http://a.example", b"https", b"a.example", False),
        (b"https://a.example", b"https", b"b.example", False),
        (b"https://", b"https", b"", True),
    ],
)
def test_same_origin(origin, scheme, host, same):
    assert is_same_origin(origin, scheme, host) is same
