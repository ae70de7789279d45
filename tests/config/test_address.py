"""Addresses: what is one, what it means, and what is wrong with what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.address import Address, parse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("localhost:0", Address("localhost", 0)),
        ("API.Example.COM:65535", Address("api.example.com", 65535)),
        ("a_b-c.example.:1", Address("a_b-c.example.", 1)),
        ("[::]:80", Address("::", 80)),
        ("[0:0::1]:80", Address("::1", 80)),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80)),
        ("unix:/run/a b.sock", Address(path="/run/a b.sock")),
    ],
)
def test_addresses(text, address):
    assert parse(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no port"),
        ("localhost", "no port"),
        (":80", "no host"),
        ("a:", "the port"),
        ("a:65536", "the port"),
        ("a:-1", "the port"),
        ("a:８0", "the port"),
        ("::1:80", "in brackets"),
        ("[::1]", "the port"),
        ("[::1]80", "the port"),
        ("[127.0.0.1]:80", "no IPv6"),
        ("[fe80::1%eth0 x]:80", "no zone"),
        ("256.0.0.1:80", "no IPv4"),
        ("1.2.3:80", "no IPv4"),
        ("a b:80", "no host name"),
        ("-a:80", "no host name"),
        ("a..b:80", "no host name"),
        ("user@host:80", "no host name"),
        (f"{'a' * 64}:80", "no host name"),
        ("unix:run/x", "starts with /"),
        ("unix:", "starts with /"),
        (f"unix:/{'x' * 107}", "107 bytes"),
    ],
)
def test_what_is_none(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9.:\[\]/]{1,12}:[0-9]{1,3}", fullmatch=True))
def test_any_text_is_an_address_or_not(text):
    try:
        address = parse(text)
    except ValueError:
        return
    assert parse(str(address)) == address
