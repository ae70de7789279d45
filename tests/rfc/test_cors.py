"""The header rules of cross-origin sharing."""

from __future__ import annotations

import pytest

from gatewayd.rfc.cors import Sharing, is_preflight, origin_of
from gatewayd.rfc.headers import values
from gatewayd.rfc.origin import Origins

PORTAL = b"https://portal.example"
OTHER = b"https://other.example"
LISTED = Origins(["https://portal.example"])
EVERYONE = Origins(["*"])


def asking(origin: bytes = PORTAL, method: bytes = b"PUT", **more: bytes) -> list[tuple[bytes, bytes]]:
    asked = [(b"access-control-request-" + name.replace("_", "-").encode(), value) for name, value in more.items()]
    return [(b"accept", b"*/*"), (b"origin", origin), (b"access-control-request-method", method), *asked]


def test_preflights_are_told_from_other_requests():
    assert is_preflight(asking())
    assert not is_preflight([(b"origin", PORTAL)])
    assert not is_preflight([(b"access-control-request-method", b"PUT")])
    assert origin_of(asking()) == PORTAL
    assert origin_of([(b"accept", b"*/*")]) == b""


def test_a_preflight_from_a_listed_origin():
    sharing = Sharing(LISTED, ["GET", "PUT"], ["X-A", "X-B"], max_age=60, credentials=True, expose=["ETag"])
    assert dict(sharing.preflight(asking())) == {
        b"vary": b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        b"access-control-allow-origin": PORTAL,
        b"access-control-allow-credentials": b"true",
        b"access-control-max-age": b"60",
        b"access-control-allow-methods": b"GET, PUT",
        b"access-control-allow-headers": b"X-A, X-B",
    }


def test_a_preflight_from_elsewhere_is_told_nothing_but_vary():
    assert [name for name, _ in Sharing(LISTED).preflight(asking(OTHER))] == [b"vary"]


def test_stars_answer_what_is_asked():
    answer = dict(Sharing(LISTED, ["*"], ["*"]).preflight(asking(headers=b"x-a,x-b")))
    assert answer[b"access-control-allow-methods"] == b"PUT"
    assert answer[b"access-control-allow-headers"] == b"x-a,x-b"


@pytest.mark.parametrize("asked", [b"x-a, b c", b"x-a;x", b'"x"', b"x:y"])
def test_names_that_are_none_are_not_repeated(asked):
    answer = dict(Sharing(LISTED, ["*"], ["*"]).preflight(asking(method=asked, headers=asked)))
    assert b"access-control-allow-headers" not in answer
    assert b"access-control-allow-methods" not in answer


@pytest.mark.parametrize(
    ("open_to_public", "asked", "told"), [(True, b"true", True), (True, b"x", False), (False, b"true", False)]
)
def test_private_networks(open_to_public, asked, told):
    answer = dict(Sharing(LISTED, private_network=open_to_public).preflight(asking(private_network=asked)))
    assert (answer.get(b"access-control-allow-private-network") == b"true") is told


def test_everyone_gets_a_star_and_no_vary():
    reply = [(b"content-type", b"a/b")]
    Sharing(EVERYONE, expose=["ETag"]).mark(OTHER, reply)
    assert reply == [
        (b"content-type", b"a/b"),
        (b"access-control-allow-origin", b"*"),
        (b"access-control-expose-headers", b"ETag"),
    ]


@pytest.mark.parametrize("origin", [b"", OTHER, PORTAL])
def test_replies_that_depend_on_the_origin_always_say_so(origin):
    reply = [(b"vary", b"Accept")]
    Sharing(LISTED).mark(origin, reply)
    assert values(reply, b"vary") == [b"Accept, Origin"]
    fresh: list[tuple[bytes, bytes]] = []
    Sharing(LISTED).mark(origin, fresh)
    assert values(fresh, b"vary") == [b"Origin"]
    assert values(reply, b"access-control-allow-origin") == ([PORTAL] if origin == PORTAL else [])


@pytest.mark.parametrize("origins", [LISTED, EVERYONE])
@pytest.mark.parametrize("origin", [b"", OTHER, PORTAL])
def test_what_the_target_says_is_replaced(origins, origin):
    reply = [
        (b"access-control-allow-origin", b"https://evil.example"),
        (b"etag", b"x"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-something-new", b"y"),
    ]
    Sharing(origins).mark(origin, reply)
    expected = [b"*"] if origins.everyone and origin else [PORTAL] if origin == PORTAL else []
    assert values(reply, b"access-control-allow-origin") == expected
    assert not values(reply, b"access-control-allow-credentials")
    assert not values(reply, b"access-control-something-new")
    assert values(reply, b"etag") == [b"x"]
