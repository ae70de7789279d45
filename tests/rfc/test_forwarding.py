"""Who asked, through whom: believed from trusted proxies, discarded from everyone else."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.rfc.forwarding import MAX_FORWARDED, MAX_HOPS, Edges, Via, _judge, canonical, read_address, read_forwarded
from gatewayd.rfc.headers import is_field_value


class Networks:
    """The plain way to say whom to trust."""

    def __init__(self, *texts: str) -> None:
        self.networks = [ip_network(text) for text in texts]

    def __contains__(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self.networks)
        except ValueError:
            return False


TRUSTED = Networks("10.0.0.0/8", "2001:db8:ffff::/48")


def look(peer: str, *withheld: tuple[str, str], host: bytes = b"api.example.com", scheme: bytes = b"http"):
    edges = Edges(TRUSTED, peer, 4711, scheme)
    return edges.look(host, [(name.encode(), value.encode("latin-1")) for name, value in withheld])


def fields(sight) -> dict[str, str]:
    assert len({name for name, _ in sight.headers}) == len(sight.headers)
    return {name.decode(): value.decode("latin-1") for name, value in sight.headers}


LIES = (
    ("x-forwarded-for", "198.51.100.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.example"),
    ("forwarded", "for=198.51.100.9;host=evil.example;proto=https"),
)


@pytest.mark.parametrize("trusted", [None, TRUSTED])
def test_what_an_untrusted_peer_says_is_discarded(trusted):
    edges = Edges(trusted, "192.0.2.7", 4711, b"http")
    assert not edges.trusted
    sight = edges.look(b"api.example.com", [(name.encode(), value.encode()) for name, value in LIES])
    assert (sight.client, sight.client_port, sight.scheme) == ("192.0.2.7", 4711, b"http")
    assert fields(sight) == {
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "api.example.com",
        "forwarded": "for=192.0.2.7;host=api.example.com;proto=http",
    }


def test_an_untrusted_connection_is_described_once_per_host():
    edges = Edges(None, "192.0.2.7", 4711, b"http")
    first = edges.look(b"a.example", [])
    assert edges.look(b"a.example", []) is first
    assert fields(edges.look(b"b.example", []))["x-forwarded-host"] == "b.example"
    assert fields(edges.look(b"a.example", [])) == fields(first)


def test_ipv6_and_ports_are_quoted_as_rfc_7239_wants():
    sight = Edges(None, "2001:db8::1", 1, b"https").look(b"api.example.com:8443", [])
    assert fields(sight)["x-forwarded-for"] == "2001:db8::1"
    assert fields(sight)["forwarded"] == 'for="[2001:db8::1]";host="api.example.com:8443";proto=https'


def test_without_a_host_none_is_claimed():
    sight = Edges(None, "192.0.2.7", 1, b"http").look(b"", [])
    assert fields(sight) == {
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "http",
        "forwarded": "for=192.0.2.7;proto=http",
    }


def test_a_unix_socket_has_no_address_and_is_not_trusted():
    edges = Edges(TRUSTED, "", 0, b"http")
    sight = edges.look(b"h", [(b"x-forwarded-for", b"198.51.100.9")])
    assert (edges.trusted, sight.client) == (False, "")
    assert fields(sight)["forwarded"] == "for=unknown;host=h;proto=http"


@pytest.mark.parametrize(
    ("peer", "kept"),
    [("::ffff:192.0.2.7", "192.0.2.7"), ("fe80::1%eth0", "fe80::1"), ("2001:DB8:0::1", "2001:db8::1")],
)
def test_peers_are_spelled_one_way(peer, kept):
    assert Edges(None, peer, 1, b"http").peer == kept
    assert Edges(Networks("::ffff:0:0/96"), peer, 1, b"http").look(b"", []).client == kept


@pytest.mark.parametrize(
    ("chain", "client", "port", "sent"),
    [
        ("192.0.2.1", "192.0.2.1", 0, "192.0.2.1, 10.0.0.9"),
        ("198.51.100.1, 192.0.2.1", "192.0.2.1", 0, "192.0.2.1, 10.0.0.9"),
        ("192.0.2.1, 10.1.1.1", "192.0.2.1", 0, "192.0.2.1, 10.1.1.1, 10.0.0.9"),
        ("192.0.2.1:5555, 10.1.1.1:80", "192.0.2.1", 5555, "192.0.2.1, 10.1.1.1, 10.0.0.9"),
        ("2001:db8::7, 2001:db8:ffff::1", "2001:db8::7", 0, "2001:db8::7, 2001:db8:ffff::1, 10.0.0.9"),
        ("[2001:db8::7]:443", "2001:db8::7", 443, "2001:db8::7, 10.0.0.9"),
        ("::ffff:192.0.2.1, ::ffff:10.1.1.1", "192.0.2.1", 0, "192.0.2.1, 10.1.1.1, 10.0.0.9"),
        ("10.1.1.1, 10.1.1.2", "10.1.1.1", 0, "10.1.1.1, 10.1.1.2, 10.0.0.9"),
        ("192.0.2.1, garbage, 10.1.1.1", "10.1.1.1", 0, "10.1.1.1, 10.0.0.9"),
        ("192.0.2.1, ,10.1.1.1", "10.1.1.1", 0, "10.1.1.1, 10.0.0.9"),
        ("192.0.2.1, unknown", "10.0.0.9", 4711, "10.0.0.9"),
        ("", "10.0.0.9", 4711, "10.0.0.9"),
    ],
)
def test_the_chain_is_walked_from_the_right(chain, client, port, sent):
    sight = look("10.0.0.9", ("x-forwarded-for", chain))
    assert (sight.client, sight.client_port) == (client, port)
    assert fields(sight)["x-forwarded-for"] == sent


def test_several_fields_are_one_list():
    sight = look("10.0.0.9", ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.1.1.1"))
    assert sight.client == "192.0.2.1"


def test_scheme_and_host_come_from_the_nearest_proxy():
    sight = look(
        "10.0.0.9",
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "http, HTTPS"),
        ("x-forwarded-host", "evil.example, Shop.Example:8443"),
    )
    assert sight.scheme == b"https"
    assert fields(sight)["x-forwarded-host"] == "shop.example:8443"
    assert fields(sight)["forwarded"] == 'for=192.0.2.1;host="shop.example:8443";proto=https, for=10.0.0.9'


def test_what_is_remembered_of_claims_is_not_tied_to_a_connection():
    claims = [(b"x-forwarded-for", b"unknown")]
    ports = [Edges(TRUSTED, "10.0.0.9", port, b"http").look(b"h", claims).client_port for port in (1, 2, 1)]
    assert ports == [1, 2, 1]
    others_trusted = Edges(Networks("10.0.0.9/32"), "10.0.0.9", 1, b"http")
    chain = [(b"x-forwarded-for", b"192.0.2.1, 10.1.1.1")]
    assert Edges(TRUSTED, "10.0.0.9", 1, b"http").look(b"h", chain).client == "192.0.2.1"
    assert others_trusted.look(b"h", chain).client == "10.1.1.1"


@pytest.mark.parametrize("host", ["", "a b", "a/b", "a@b", 'a"', "a,", "[::1", "a:b", "é", "a:123456"])
def test_a_claimed_host_that_is_none_is_not_taken(host):
    assert fields(look("10.0.0.9", ("x-forwarded-host", host)))["x-forwarded-host"] == "api.example.com"


def test_a_claimed_scheme_that_is_none_is_not_taken():
    assert look("10.0.0.9", ("x-forwarded-proto", "ftp")).scheme == b"http"


def test_forwarded_is_read_where_there_is_no_x_forwarded_for():
    sight = look(
        "10.0.0.9",
        ("forwarded", 'for=198.51.100.1;proto=http, For="[2001:db8::7]:555";host="a.example:8080"; proto=https'),
        ("forwarded", "for=10.1.1.1;host=b.example;proto=https"),
    )
    assert (sight.client, sight.client_port, sight.scheme) == ("2001:db8::7", 555, b"https")
    assert fields(sight)["x-forwarded-for"] == "2001:db8::7, 10.1.1.1, 10.0.0.9"
    assert fields(sight)["x-forwarded-host"] == "b.example"
    assert fields(sight)["forwarded"].startswith('for="[2001:db8::7]";host=b.example;proto=https, for=10.1.1.1, ')


def test_x_forwarded_for_wins_over_forwarded():
    assert look("10.0.0.9", ("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "192.0.2.1")).client == "192.0.2.1"


@pytest.mark.parametrize(
    "value",
    ["for=192.0.2.1;for=192.0.2.2", "for=192.0.2.1 x", "192.0.2.1", 'for="192.0.2.1', "for=_hidden", "for=unknown",
     "proto=https;by=1.2.3.4", 'for="192.0.2.1, for=10.1.1.1', ";", "x" * 5000],
)  # fmt: skip
def test_a_forwarded_that_cannot_be_read_names_no_one(value):
    sight = look("10.0.0.9", ("forwarded", value))
    assert (sight.client, sight.client_port) == ("10.0.0.9", 4711)


def test_a_forwarded_that_cannot_be_read_ends_the_walk_but_keeps_what_is_nearer():
    sight = look("10.0.0.9", ("forwarded", "for=192.0.2.1, ???"), ("forwarded", "for=10.1.1.1"))
    assert sight.client == "10.1.1.1"


def test_claims_beyond_reason_are_neither_read_nor_remembered():
    long = ", ".join(["for=10.1.1.1"] * 400)
    assert len(long) > MAX_FORWARDED
    assert look("10.0.0.9", ("forwarded", long)).client == "10.0.0.9"
    before = _judge.cache_info().misses
    look("10.0.0.9", ("x-forwarded-for", "192.0.2.1, " * 30))
    assert _judge.cache_info().misses == before
    look("10.0.0.9", ("x-forwarded-for", "192.0.2.99"))
    assert _judge.cache_info().misses == before + 1


def test_elements_of_forwarded():
    assert read_forwarded(b'for="a\\"b";By=x, proto=http,') == [{b"for": b'a"b', b"by": b"x"}, {b"proto": b"http"}]
    assert read_forwarded(b"") == []


def test_a_long_chain_ends_at_the_limit():
    chain = ", ".join(["192.0.2.1"] + ["10.1.1.1"] * 1000)
    sight = look("10.0.0.9", ("x-forwarded-for", chain))
    assert sight.client == "10.1.1.1"
    assert fields(sight)["x-forwarded-for"].count(",") == MAX_HOPS
    exact = ", ".join(["192.0.2.1"] + ["10.1.1.1"] * (MAX_HOPS - 1))
    assert look("10.0.0.9", ("x-forwarded-for", exact)).client == "192.0.2.1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (b"192.0.2.1", ("192.0.2.1", 0)),
        (b"192.0.2.1:80", ("192.0.2.1", 80)),
        (b"[::1]", ("::1", 0)),
        (b"[::1]:80", ("::1", 80)),
        (b"::1", ("::1", 0)),
        (b"[192.0.2.1]", None),
        (b"[::1", None),
        (b"[::1]80", None),
        (b"[::1]:", None),
        (b"192.0.2.1:", None),
        (b"192.0.2.1:x", None),
        (b"192.0.2.1:123456", None),
        (b"fe80::1%eth0", None),
        (b"192.0.2.256", None),
        (b"192.0.2.01", None),
        (b"3221225985", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_addresses(text, address):
    assert read_address(text) == address


@given(st.ip_addresses())
def test_addresses_have_one_spelling(address):
    plain = str(getattr(address, "ipv4_mapped", None) or address)
    assert ip_address(canonical(str(address))) == ip_address(plain)
    assert canonical(address.exploded) == canonical(str(address))
    assert read_address(canonical(str(address)).encode()) == (canonical(str(address)), 0)


@given(st.lists(st.sampled_from(["10.1.1.1", "10.2.2.2", "192.0.2.1", "198.51.100.2", "junk", "[::1]:1"])))
def test_the_walk_is_what_its_rule_says(hops):
    client = "10.0.0.9"
    for hop in reversed(hops[-MAX_HOPS:]):
        if hop == "junk":
            break
        client = "::1" if hop == "[::1]:1" else hop
        if not hop.startswith("10."):
            break
    assert look("10.0.0.9", ("x-forwarded-for", ", ".join(hops))).client == client


NAMES = st.sampled_from(["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-forwarded-port"])
PIECES = [
    "for=192.0.2.1",
    'for="[::1]:2"',
    "proto=https",
    "host=a.example",
    "10.1.1.1",
    ";",
    ",",
    " ",
    '"',
    "\\",
    "for=",
    "é",
]
TEXTS = st.lists(st.sampled_from(PIECES)).map("".join) | st.text(st.characters(min_codepoint=32, max_codepoint=126))


@given(st.lists(st.tuples(NAMES, TEXTS)))
def test_whatever_is_claimed_what_is_sent_is_well_formed(withheld):
    sight = look("10.0.0.9", *withheld)
    assert ip_address(sight.client)
    assert sight.scheme in (b"http", b"https")
    assert all(is_field_value(value) for _, value in sight.headers)
    first = read_forwarded(dict(sight.headers)[b"forwarded"])[0]
    assert read_address(first[b"for"])[0] == sight.client
    assert first[b"host"] == dict(sight.headers)[b"x-forwarded-host"]


def test_via_is_appended():
    via = Via("gatewayd")
    assert via.value(b"1.1", []) == b"1.1 gatewayd"
    assert via.value(b"1.0", []) == b"1.0 gatewayd"
    assert via.value(b"1.1", [b"1.0 fred, 1.1 p.example", b"1.1 q"]) == b"1.0 fred, 1.1 p.example, 1.1 q, 1.1 gatewayd"


def test_coming_by_too_often_is_a_loop():
    via = Via("gatewayd", loop_after=3)
    assert not via.loops([])
    assert not via.loops([b"1.1 gatewayd, 1.1 gatewayd, 1.1 gatewayd-b, 1.1 other (gatewayd)"])
    assert not via.loops([b"gatewayd, gatewayd, gatewayd"])
    assert via.loops([b"1.1 gatewayd, 1.1 x", b"HTTP/1.1 gatewayd (note), 1.0 gatewayd"])
    assert not Via("gatewayd").loops([b", ".join([b"1.1 gatewayd"] * 4)])
    assert Via("gatewayd").loops([b", ".join([b"1.1 gatewayd"] * 5)])
