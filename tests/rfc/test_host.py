"""Hosts: strict, one spelling, and a memo that callers cannot grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import RequestError
from gatewayd.rfc import host
from gatewayd.rfc.host import check_host


@pytest.mark.parametrize(
    ("value", "spelling"),
    [
        (b"example.com", b"example.com"),
        (b"Example.COM:8080", b"example.com:8080"),
        (b"example.com.", b"example.com"),
        (b"example.com.:80", b"example.com:80"),
        (b"example.com:", b"example.com"),
        (b"a_b.example~x", b"a_b.example~x"),
        (b"localhost", b"localhost"),
        (b"7eleven.example", b"7eleven.example"),
        (b"127.0.0.1", b"127.0.0.1"),
        (b"255.249.199.9:65535", b"255.249.199.9:65535"),
        (b"[::1]", b"[::1]"),
        (b"[0:0:0:0:0:0:0:1]:80", b"[::1]:80"),
        (b"[::1]:", b"[::1]"),
        (b"[2001:DB8::A]", b"[2001:db8::a]"),
        (b"a" * 253, b"a" * 253),
    ],
)
def test_one_spelling(value, spelling):
    assert check_host(value) == spelling
    assert check_host(spelling) == spelling


@pytest.mark.parametrize(
    "value",
    [
        b"", b":80", b".", b"..", b".example", b"a..b", b"a b", b" a", b"a\t", b"user@a", b"user:pw@a", b"a/b", b"a?b",
        b"a#b", b"a,b", b"a, b", b"a:80,b", b"a:x", b"a:-1", b"a:0", b"a:080", b"a:65536", b"a:123456", b"a:80:80",
        b"%61", b"a%2eb", b"a\x00", b"a\n", b"\xc3\xa9.example", b"a$b", b"a'b", b"a;b", b"a\\b", b"*", b"*.example",
        b"1.2.3", b"127.1", b"2130706433", b"1.2.3.4.5", b"256.1.1.1", b"01.2.3.4", b"0x7f.1", b"0x7f000001", b"a.0x1",
        b"[]", b"[::1", b"::1", b"[::1]x", b"[::g]", b"[1.2.3.4]", b"[::1%25eth0]", b"[v1.a]", b"a" * 254,
    ],
)  # fmt: skip
def test_refused(value):
    with pytest.raises(RequestError) as raised:
        check_host(value)
    assert (raised.value.status, raised.value.code) == (400, "host_malformed")


@given(st.binary(max_size=24))
def test_any_octets_are_a_host_or_refused(octets):
    try:
        spelling = check_host(octets)
    except RequestError:
        return
    assert spelling == spelling.lower()
    assert check_host(spelling) == spelling


def test_the_memo_is_bounded():
    for number in range(host._MEMO_SIZE + 10):
        assert check_host(b"Host-%d.example" % number) == b"host-%d.example" % number
    assert len(host._memo) <= host._MEMO_SIZE
    long = b"[" + b"0" * 300 + b"::1]"
    with pytest.raises(RequestError):
        check_host(long)
    assert long not in host._memo
