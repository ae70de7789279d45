"""Cookies read and rescoped."""

from __future__ import annotations

import pytest

from gatewayd.rfc.cookies import cookie, rescope_set_cookie


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ([], None),
        ([b"a=1"], b"1"),
        ([b"b=2; a=1; a=3"], b"1"),
        ([b"b=2", b"a=1"], b"1"),
        ([b"aa=1; ba=2;A=3"], None),
        ([b"a="], b""),
        ([b'a="x y"'], b'"x y"'),
        ([b"a=b=c"], b"b=c"),
        ([b"x=a=1"], None),
        ([b"b=1;a=2"], b"2"),
        ([b"a"], None),
    ],
)
def test_a_cookie(fields, value):
    assert cookie([(b"host", b"a=9"), *((b"cookie", field) for field in fields)], b"a") == value


def rescoped(value: bytes) -> bytes:
    return rescope_set_cookie(value, lambda path: b"/v1" + path, lambda domain: domain == b"t.example")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a=1", b"a=1"),
        (b"a=1; Path=/x; HttpOnly", b"a=1; Path=/v1/x; HttpOnly"),
        (b"a=1;path = /x ;Secure", b"a=1;path =/v1/x;Secure"),
        (b"a=1; Path=x", b"a=1; Path=x"),
        (b"a=1; Path", b"a=1; Path"),
        (b"a=1; Domain=t.example; Path=/", b"a=1; Path=/v1/"),
        (b"a=1; DOMAIN=.T.Example", b"a=1"),
        (b"a=1; Domain=u.example", b"a=1; Domain=u.example"),
        (b"a=1; Domain=", b"a=1; Domain="),
        (b"path=/x; Expires=Wed, 21 Oct 2026 07:28:00 GMT", b"path=/x; Expires=Wed, 21 Oct 2026 07:28:00 GMT"),
        (b"__Host-a=1; Path=/; Secure", b"__Host-a=1; Path=/; Secure"),
        (b"__Secure-a=1; Path=/; Secure", b"__Secure-a=1; Path=/v1/; Secure"),
        (b"a=1; Path=/x; Path=/y", b"a=1; Path=/v1/x; Path=/v1/y"),
    ],
)
def test_rescoping(before, after):
    assert rescoped(before) == after
