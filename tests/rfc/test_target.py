"""Request targets: four forms, each with its methods."""

import pytest

from gatewayd.errors import RequestError
from gatewayd.rfc.path import PathRules
from gatewayd.rfc.target import parse_target

RULES = PathRules()


@pytest.mark.parametrize(
    ("method", "target", "parts"),
    [
        (b"GET", b"/", (None, None, b"/", None)),
        (b"GET", b"/a/b?c=d", (None, None, b"/a/b", b"c=d")),
        (b"GET", b"/a?", (None, None, b"/a", b"")),
        (b"GET", b"/a/../%62?x=%20", (None, None, b"/b", b"x=%20")),
        (b"GET", b"/a?http://b/../c", (None, None, b"/a", b"http://b/../c")),
        (b"GET", b"//evil.example/a", (None, None, b"/evil.example/a", None)),
        (b"OPTIONS", b"*", (None, None, b"*", None)),
        (b"OPTIONS", b"/a", (None, None, b"/a", None)),
        (b"CONNECT", b"Example.com:443", (None, b"example.com:443", b"", None)),
        (b"CONNECT", b"[::1]:443", (None, b"[::1]:443", b"", None)),
        (b"GET", b"http://Example.com/a?b", (b"http", b"example.com", b"/a", b"b")),
        (b"GET", b"HTTPS://example.com:8443", (b"https", b"example.com:8443", b"/", None)),
        (b"GET", b"http://example.com?b", (b"http", b"example.com", b"/", b"b")),
        (b"OPTIONS", b"http://example.com", (b"http", b"example.com", b"*", None)),
        (b"OPTIONS", b"http://example.com/", (b"http", b"example.com", b"/", None)),
        (b"OPTIONS", b"http://example.com?b", (b"http", b"example.com", b"/", b"b")),
        (b"GET", b"http://example.com/a/%2e%2e/b", (b"http", b"example.com", b"/b", None)),
    ],
)
def test_forms(method, target, parts):
    assert parse_target(method, target, RULES) == parts


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        (b"GET", b"*", "target_malformed"),
        (b"GET", b"", "target_malformed"),
        (b"GET", b"a/b", "target_malformed"),
        (b"GET", b"example.com:80", "target_malformed"),
        (b"GET", b"ftp://example.com/", "target_malformed"),
        (b"GET", b"http:/a", "target_malformed"),
        (b"GET", b"http://", "host_malformed"),
        (b"GET", b"http:///a", "host_malformed"),
        (b"GET", b"http://user@example.com/", "host_malformed"),
        (b"GET", b"http://example.com\\@evil.example/", "host_malformed"),
        (b"GET", b"http://example.com/a#b", "target_fragment"),
        (b"GET", b"http://example.com#b", "target_fragment"),
        (b"GET", b"/a?b#c", "target_fragment"),
        (b"GET", b"/a%2Fb", "path_encoded_slash"),
        (b"GET", b"/a\n", "target_bad_character"),
        (b"GET", b"/a?b\n", "target_bad_character"),
        (b"CONNECT", b"/a", "host_malformed"),
        (b"CONNECT", b"example.com", "target_malformed"),
        (b"CONNECT", b"http://example.com:80/", "host_malformed"),
        (b"CONNECT", b"*", "host_malformed"),
    ],
)
def test_refused(method, target, code):
    with pytest.raises(RequestError) as raised:
        parse_target(method, target, RULES)
    assert (raised.value.status, raised.value.code) == (400, code)
