"""The redirect handler: where it sends callers, and what they cannot make of it."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.model import Redirect
from gatewayd.errors import ConfigError
from gatewayd.handlers import redirect
from gatewayd.rfc.headers import is_field_value
from tests.support.exchanges import make_exchange


def reply_to(to, status=308, **attributes):
    exchange = make_exchange(**attributes)
    redirect.build(Redirect(to=to, status=status))(exchange)
    assert exchange.downstream.ended == 1
    return exchange.downstream


def location(to, **attributes):
    (value,) = reply_to(to, **attributes).values(b"location")
    return value.decode("ascii")


@pytest.mark.parametrize(
    ("to", "attributes", "expected"),
    [
        ("/new", {}, "/new"),
        ("/new{path}", {}, "/new/v1/x"),
        ("{path}", {}, "/v1/x"),
        ("https://www.example.com{path}?{query}", {"query": b"a=1&b=%20"}, "https://www.example.com/v1/x?a=1&b=%20"),
        ("https://www.example.com{path}?{query}", {}, "https://www.example.com/v1/x"),
        ("https://www.example.com{path}?{query}", {"query": b""}, "https://www.example.com/v1/x"),
        ("/n?a=1&{query}", {"query": b"b=2"}, "/n?a=1&b=2"),
        ("/n?a=1&{query}", {}, "/n?a=1"),
        ("/n?q={query}", {"query": b"b"}, "/n?q=b"),
        ("https://{host}{path}", {"host": b"api.example.com:8080"}, "https://api.example.com/v1/x"),
        ("https://{host}:8443{path}", {"host": b"[::1]:8080"}, "https://[::1]:8443/v1/x"),
        ("https://www.{host}/", {}, "https://www.api.example.com/"),
        ("{scheme}://{host}/", {}, "https://api.example.com/"),
        ("/c/{id}", {"params": {"id": b"7"}}, "/c/7"),
        ("/c/{id}", {}, "/c/"),
        ("/c?id={id}&x", {"params": {"id": b"7&y=8#z+;="}}, "/c?id=7%26y%3D8%23z%2B%3B%3D&x"),
        ("/c/{id}", {"params": {"id": b"a b\\c?d#e\xff"}}, "/c/a%20b%5Cc%3Fd%23e%FF"),
        ("/{{x}}", {}, "/{x}"),
        ("/straße", {}, "/stra%C3%9Fe"),
    ],
)
def test_locations(to, attributes, expected):
    assert location(to, **attributes) == expected


def test_the_reply_is_empty_and_has_the_status():
    reply = reply_to("/new", 301)
    assert (reply.status, reply.length, reply.body) == (301, 0, b"")
    assert reply.values(b"date")


HOSTILE = [b"//evil.example/", b"/\\evil.example", b"/\t/evil.example", b"///evil.example", b"*", b"/%2f/evil.example"]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_cannot_name_another_host(path):
    for to in ("{path}", "{path}?x", "/{rest}", "/{rest}{path}", "https://www.example.com{path}"):
        found = urljoin("https://www.example.com/", location(to, path=path, params={"rest": path.lstrip(b"/")}))
        assert urlsplit(found).netloc == "www.example.com", to
    assert not location("/{rest}", params={"rest": path}).startswith(("//", "/\\"))


@given(st.binary(), st.binary(), st.binary())
def test_nothing_a_caller_sends_breaks_out_of_the_field(path, query, param):
    to = "/a{path}/{id}?b={id}&{query}"
    value = location(to, path=b"/" + path, query=query, params={"id": param})
    assert is_field_value(value.encode())
    assert value.startswith("/a/")
    assert "#" not in value
    before = value.partition("?")[2].removesuffix(f"&{value.rpartition('&')[2]}" if query else "")
    assert "&" not in before or query


def test_without_a_host_there_is_nowhere_to_go():
    reply = reply_to("https://{host}/", host=b"")
    assert reply.status == 400
    assert b"host_missing" in reply.body
    assert reply_to("/x", host=b"").status == 308


@pytest.mark.parametrize(
    "to",
    ["new", "//evil.example/", "/\\evil.example", "{id}", "{query}", "{host}/x", "ftp://a.example/", "https://", "https:///x",
     "https://{id}/", "https://{id}.example.com/", "https://a.example:{id}/", "{id}://a.example/", "{host}://a.example/",
     "https://{query}", "https://{path}", "javascript:{path}", "/{", "/}"],
)  # fmt: skip
def test_targets_that_a_caller_could_bend_are_refused(to):
    with pytest.raises(ConfigError) as caught:
        redirect.build(Redirect(to=to))
    assert [fault.path for fault in caught.value.faults] == ["redirect.to"]


def test_known_parameters_are_checked():
    redirect.build(Redirect(to="/c/{claim}"), ["claim"])
    with pytest.raises(ConfigError, match=r"did you mean \{claim\}"):
        redirect.build(Redirect(to="/c/{cliam}"), ["claim"])
