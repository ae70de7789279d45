"""CIDR sets against the standard library's networks, and their size."""

from __future__ import annotations

import tracemalloc
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.cidr import CidrSet, holder, parse_cidr


def networks(bits: int, kind: type) -> st.SearchStrategy:
    """Networks, close together often enough to touch, nest and overlap."""
    near = st.integers(0, 4096).map(lambda low: (10 << (bits - 8)) + low)
    numbers = near | st.integers(0, 2**bits - 1) | st.sampled_from([0, 2**bits - 1])
    lengths = st.integers(bits - 13, bits) | st.integers(0, bits)
    return st.builds(lambda number, length: kind((number, length), strict=False), numbers, lengths)


@given(st.lists(networks(32, IPv4Network)), st.lists(st.integers(0, 2**32 - 1)))
def test_ipv4_as_the_standard_library_says(prefixes, numbers):
    check(prefixes, [IPv4Address(number) for number in numbers], 32)


@given(st.lists(networks(128, IPv6Network)), st.lists(st.integers(0, 2**128 - 1)))
def test_ipv6_as_the_standard_library_says(prefixes, numbers):
    # IPv4-mapped networks and addresses are IPv4 here, so they stay out of this comparison.
    mapped = IPv6Network("::ffff:0:0/96")
    prefixes = [network for network in prefixes if not network.overlaps(mapped)]
    check(prefixes, [address for number in numbers if (address := IPv6Address(number)) not in mapped], 128)


def check(prefixes, addresses, bits):
    found = CidrSet(map(str, prefixes))
    kind = IPv4Address if bits == 32 else IPv6Address
    edges = [
        number % 2**bits
        for network in prefixes
        for border in (int(network.network_address), int(network.broadcast_address))
        for number in (border - 1, border, border + 1)
    ]
    for address in [*addresses, *map(kind, edges)]:
        if kind is IPv6Address and address.ipv4_mapped:
            continue
        expected = any(address in network for network in prefixes)
        assert (str(address) in found) == expected, address
        assert found.holds(address.packed) == expected, address


@pytest.mark.parametrize(
    ("prefix", "inside", "outside"),
    [
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("0.0.0.0/0", "255.255.255.255", "2001:db8::1"),
        ("255.255.255.255/32", "255.255.255.255", "0.0.0.0"),
        ("::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "192.0.2.1"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::"),
        ("2001:db8:0:1::/64", "2001:db8:0:1:ffff::", "2001:db8:0:2::"),
        ("2001:db8::8000:0:0:0/65", "2001:db8::ffff:0:0:1", "2001:db8::7fff:ffff:ffff:ffff"),
        ("2001:db8::ffff:ffff:ffff:ffff/128", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::"),
        ("192.0.2.0/24", "::ffff:192.0.2.9", "::ffff:192.0.3.9"),
        ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
        ("::FFFF:0:0/96", "192.0.2.9", "::1"),
    ],
)
def test_borders(prefix, inside, outside):
    found = CidrSet([prefix])
    assert inside in found
    assert outside not in found
    assert len(found) == 1


@pytest.mark.parametrize("address", ["", "unix", "192.0.2", "192.0.2.1:80", "fe80::1%eth0", "192.0.2.01", "é", "1\0"])
def test_what_is_no_address_is_in_no_set(address):
    assert address not in CidrSet(["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost", "not an IP address"),
        ("", "not an IP address"),
        ("192.0.2.0/33", "0 to 32"),
        ("192.0.2.0/", "0 to 32"),
        ("192.0.2.0/255.255.255.0", "0 to 32"),
        ("192.0.2.0/-1", "0 to 32"),
        ("192.0.2.0/²", "0 to 32"),
        ("2001:db8::/129", "0 to 128"),
        ("192.0.2.1/24", "the network is 192.0.2.0/24"),
        ("2001:db8::1/32", "the network is 2001:db8::/32"),
        (" 192.0.2.1", "not an IP address"),
    ],
)
def test_what_is_no_cidr_is_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):
        parse_cidr(text)
    with pytest.raises(ValueError, match="^" + text.replace(".", r"\.").replace("²", ".")):
        CidrSet([text])


@given(networks(32, IPv4Network) | networks(128, IPv6Network))
def test_parsed_as_the_standard_library_does(network):
    bits, first, length = parse_cidr(str(network))
    if bits == network.max_prefixlen:
        assert (first, length) == (int(network.network_address), network.prefixlen)
    else:
        assert network.subnet_of(ip_network("::ffff:0:0/96"))


def test_neighbours_merge_and_repr_counts_what_is_left():
    found = CidrSet(["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "192.0.2.1", "2001:db8::/32"])
    assert repr(found) == "<CidrSet: 2 IPv4 and 1 IPv6 ranges>"
    assert not CidrSet()


def test_parsed_prefixes_make_the_same_set():
    texts = ["10.0.0.0/8", "2001:db8::/48"]
    assert "10.1.2.3" in CidrSet.of_parsed(map(parse_cidr, texts))
    assert "2001:db8::7" in CidrSet.of_parsed(map(parse_cidr, texts))


@pytest.mark.parametrize(("bits", "most"), [(32, 1), (128, 4)])
def test_a_hundred_thousand_prefixes_are_small(bits, most):
    step = 2**bits // 100_000
    prefixes = [str((IPv4Address if bits == 32 else IPv6Address)(number * step)) for number in range(1, 100_001)]
    tracemalloc.start()
    try:
        found = CidrSet(prefixes)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < most * 1024**2
    assert len(found) == 100_000
    assert prefixes[77_777] in found


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2::1", "2001:0db8:0001:0002"),
        ("2001:db8:1:2:ffff::9", "2001:0db8:0001:0002"),
        ("2001:db8:1:3::1", "2001:0db8:0001:0003"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        ("::ffff", "0000:0000:0000:0000"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_an_ipv6_subscriber_counts_as_one(address: str, key: str) -> None:
    assert holder(address) == key
