"""Asking an issuer what a token is worth (RFC 7662): what is asked, what is believed, and for how long."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import threading
from typing import Any
from urllib.parse import parse_qs

import pytest

from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import Undecided
from gatewayd.identity import fetch
from gatewayd.identity.fetch import Fetched, FetchError
from gatewayd.identity.introspection import FAILURES, LONGEST_REST, Belief, Breaker, Introspection, Server, read
from gatewayd.identity.jose import Refused
from gatewayd.identity.tokens import Verified
from tests.support.side_server import SideServer
from tests.support.tokens import NOW

PATH = "/introspect"
ACTIVE = {"active": True, "sub": "acme-1", "scope": "read", "exp": NOW + 600}


def json_of(body: bytes, kind: str = "application/json", status: int = 200) -> tuple[int, dict[str, str], bytes]:
    """An answer as it stands."""
    return status, {"Content-Type": kind}, body


def said(answer: Any) -> Any:
    """An answer as `SideServer` gives it; plain data as a server of tokens would."""
    return answer if isinstance(answer, tuple) else json_of(json.dumps(answer).encode())


class Asking:
    """An `Introspection` of a server that answers `answer`."""

    def __init__(self, answer: Any, belief: Belief | None = None, **options: Any) -> None:
        self.server = SideServer({PATH: said(answer)})
        self.clock = FakeClock()
        self.belief = belief or Belief()
        self.options = {"client": "gatewayd", "secret": "s3cret", **options}
        self.introspection: Introspection = None  # type: ignore[assignment]

    def __enter__(self) -> Asking:
        self.server.__enter__()
        self.introspection = Introspection(Server(self.server.url(PATH), **self.options), self.belief, self.clock)
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.__exit__(*error)

    async def verdict(self, token: bytes = b"token") -> Any:
        """What comes of it: the claims and so on, or why not."""
        try:
            found = self.introspection.verify(token)
            return found if isinstance(found, Verified) else await found
        except Refused as error:
            return error.reason
        except Undecided as error:
            return error.reply.status

    def until_asked(self) -> None:
        """Wait until the first question has come in."""
        while not self.server.asked:
            threading.Event().wait(0.002)

    def verdicts(self, *tokens: bytes) -> list[Any]:
        """Of tokens shown one after another."""

        async def run() -> list[Any]:
            found = [await self.verdict(each) for each in tokens]
            await fetch.close()
            return found

        return asyncio.run(run())


def test_an_active_token_holds():
    with Asking(ACTIVE, Belief("https://login.example", good=60)) as asking:
        (verified,) = asking.verdicts(b"token")
    assert verified.claims == ACTIVE
    assert (verified.issuer, verified.expires) == ("https://login.example", NOW + 600)
    assert verified.due == asking.clock.monotonic() + 60


def test_what_is_asked_by_client_secret_basic():
    with Asking(ACTIVE, client="gate:way d", secret="s%cret+ä") as asking:
        asking.verdicts(b"a.b-c_d~e+f/g==")
    (asked,) = asking.server.asked
    assert (asked.method, asked.path) == ("POST", PATH)
    assert parse_qs(asked.body.decode()) == {"token": ["a.b-c_d~e+f/g=="], "token_type_hint": ["access_token"]}
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    pair = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == "gate%3Away+d:s%25cret%2B%C3%A4"  # RFC 6749 §2.3.1: form-encoded first


def test_what_is_asked_by_client_secret_post():
    with Asking(ACTIVE, auth="post") as asking:
        asking.verdicts(b"token")
    (asked,) = asking.server.asked
    said = parse_qs(asked.body.decode())
    assert (said["client_id"], said["client_secret"], said["token"]) == (["gatewayd"], ["s3cret"], ["token"])
    assert "authorization" not in asked.headers


def test_without_a_client_nothing_is_said_about_us():
    with Asking(ACTIVE, client="", secret="") as asking:
        asking.verdicts(b"token")
    assert "authorization" not in asking.server.asked[0].headers


def test_the_secret_is_not_shown():
    server = Server("https://login.example/i", "gatewayd", "s3cret")
    assert "s3cret" not in repr(server) + str(server)


@pytest.mark.parametrize(
    ("claims", "belief", "reason"),
    [
        ({"active": False}, Belief(), "inactive"),
        ({"active": False, "sub": "acme-1", "exp": NOW + 9}, Belief(), "inactive"),
        ({**ACTIVE, "exp": NOW}, Belief(), "expired"),
        ({**ACTIVE, "exp": NOW - 1}, Belief(), "expired"),
        ({**ACTIVE, "nbf": NOW + 100}, Belief(), "expired"),
        ({**ACTIVE, "exp": str(NOW + 600)}, Belief(), "claim_type"),
        ({**ACTIVE, "exp": True}, Belief(), "claim_type"),
        ({**ACTIVE, "exp": None}, Belief(), "claim_type"),
        ({**ACTIVE, "iss": "https://other.example"}, Belief("https://login.example"), "issuer"),
        ({**ACTIVE, "iss": ["https://login.example"]}, Belief("https://login.example"), "issuer"),
        (ACTIVE, Belief(audiences=frozenset({"us"})), "audience"),
        ({**ACTIVE, "aud": "them"}, Belief(audiences=frozenset({"us"})), "audience"),
        ({**ACTIVE, "aud": {"us": 1}}, Belief(audiences=frozenset({"us"})), "audience"),
    ],
)
def test_tokens_that_do_not_hold_are_remembered_for_a_while(claims, belief, reason):
    with Asking(claims, belief) as asking:
        assert asking.verdicts(b"token", b"token") == [reason, "inactive"]
        assert len(asking.server.asked) == 1
        asking.clock.advance(10)
        assert asking.verdicts(b"token") == [reason]
        assert len(asking.server.asked) == 2


@pytest.mark.parametrize("claims", [{**ACTIVE, "aud": "us"}, {**ACTIVE, "aud": ["them", "us"]}])
def test_whom_it_is_meant_for(claims):
    with Asking(claims, Belief(audiences=frozenset({"us"}))) as asking:
        assert asking.verdicts(b"token")[0].claims == claims


def test_a_token_without_an_end_is_asked_about_again_all_the_same():
    with Asking({"active": True}) as asking:
        (verified,) = asking.verdicts(b"token")
    assert verified.expires == float("inf")
    assert verified.due == asking.clock.monotonic() + 60


@pytest.mark.parametrize(
    "token", [b"", b"a b", b"a,b", b"a\x00", b"\xff", b"a=b", b"=", b'"a"', b"a&client_id=x", b"x" * 16_385]
)
def test_what_cannot_be_a_token_is_not_asked_about(token):
    with Asking(ACTIVE) as asking:
        assert asking.verdicts(token)[0] in ("malformed",)
        assert not asking.server.asked


LIES = {
    "active as a text": json_of(b'{"active":"true"}'),
    "active as a number": json_of(b'{"active":1}'),
    "active as null": json_of(b'{"active":null}'),
    "active twice": json_of(b'{"active":false,"active":true}'),
    "no active": json_of(b'{"sub":"acme-1"}'),
    "a list": json_of(b'[{"active":true}]'),
    "not JSON": json_of(b"<html>active: true</html>"),
    "not said to be JSON": json_of(b'{"active":true}', "text/html"),
    "a JWT": json_of(b'{"active":true}', "application/token-introspection+jwt"),
    "nothing": json_of(b""),
    "half": json_of(b'{"active":true'),
    "deep": json_of(b'{"active":true,"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "huge": json_of(b'{"active":true,"a":"' + b"x" * 70_000 + b'"}'),
    "no UTF-8": json_of(b'{"active":true,"a":"\xff"}'),
    "401": json_of(b'{"active":true}', status=401),
    "500": json_of(b'{"active":true}', status=500),
    "204": json_of(b"", status=204),
    "elsewhere": (302, {"Location": "/other"}, b""),
    "elsewhere, asking again": (307, {"Location": "/other"}, b""),
    "another server": (308, {"Location": "http://127.0.0.1:1/"}, b""),
}


@pytest.mark.parametrize("answer", LIES.values(), ids=LIES)
def test_an_answer_that_is_none_lets_nobody_in(answer, caplog):
    with Asking(answer) as asking, caplog.at_level(logging.DEBUG):
        asking.server.answers["/other"] = said({"active": True})
        assert asking.verdicts(b"token-7") == [503]
        assert len(asking.server.asked) == 1, "a redirection is not followed: it could lead anywhere"
    assert "cannot say what a token is worth" in caplog.text
    assert "s3cret" not in caplog.text
    assert "token-7" not in caplog.text


def test_a_server_that_does_not_answer_in_time():
    with Asking(ACTIVE, timeout=0.05) as asking:
        asking.server.gate.clear()
        assert asking.verdicts(b"token") == [503]


def test_a_server_that_is_not_there():
    with Asking(ACTIVE) as asking, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        asking.introspection._server = Server(f"http://127.0.0.1:{port}{PATH}", "gatewayd", "s3cret")
        assert asking.verdicts(b"token") == [503]


def test_an_unknown_token_is_asked_about_once_however_many_show_it():
    with Asking(ACTIVE) as asking:
        asking.server.gate.clear()

        async def run() -> list[Any]:
            tasks = [asyncio.ensure_future(asking.verdict(b"token")) for _ in range(50)]
            await asyncio.to_thread(asking.until_asked)
            asking.server.gate.set()
            found = await asyncio.gather(*tasks)
            await fetch.close()
            return found

        assert {each.claims["sub"] for each in asyncio.run(run())} == {"acme-1"}
        assert len(asking.server.asked) == 1


def test_a_server_that_fails_is_left_alone_and_callers_do_not_wait():
    with Asking(json_of(b"", status=500)) as asking:
        tokens = [b"token%d" % number for number in range(20)]
        assert asking.verdicts(*tokens) == [503] * 20
        assert len(asking.server.asked) == FAILURES
        asking.server.answers[PATH] = said(ACTIVE)
        assert asking.verdicts(b"next") == [503]
        asking.clock.advance(1)
        assert asking.verdicts(b"next")[0].claims == ACTIVE
        assert [each.claims["sub"] for each in asking.verdicts(*tokens)] == ["acme-1"] * 20


def test_a_failure_is_not_held_against_the_token():
    with Asking(json_of(b"", status=500)) as asking:
        assert asking.verdicts(b"token") == [503]
        asking.server.answers[PATH] = said(ACTIVE)
        assert asking.verdicts(b"token")[0].claims == ACTIVE


def test_refused_tokens_remembered_are_bounded():
    with Asking({"active": False}, Belief(bad_remembered=3)) as asking:
        asking.verdicts(*[b"token%d" % number for number in range(10)])
        assert len(asking.introspection._bad) == 3
        assert b"token9" not in asking.introspection._bad, "it is its digest that stands there"
        asking.verdicts(b"token9")
        assert len(asking.server.asked) == 10


def test_an_active_token_is_not_asked_about_again_soon():
    """Whatever becomes of it: one that is nobody's lets nobody in, and must not have us ask all the time."""
    with Asking(ACTIVE) as asking:
        one, other = asking.verdicts(b"token", b"token")
        assert one is other
        asking.clock.advance(60)
        assert asking.verdicts(b"token")[0].due == one.due + 60
        assert len(asking.server.asked) == 2


def test_nor_beyond_its_end():
    with Asking({**ACTIVE, "exp": NOW + 5}) as asking:
        asking.verdicts(b"token")
        asking.clock.advance(5)
        assert asking.verdicts(b"token") == ["expired"]


@pytest.mark.parametrize(("remembered", "asked"), [(3, 4), (0, 5)])
def test_active_tokens_remembered_are_bounded(remembered, asked):
    with Asking(ACTIVE, Belief(remembered=remembered)) as asking:
        asking.verdicts(b"1", b"2", b"3", b"4", b"4")
        assert len(asking.introspection._good) == remembered
        assert len(asking.server.asked) == asked


@pytest.mark.parametrize("belief", [Belief(bad=0), Belief(bad_remembered=0)])
def test_remembering_refusals_can_be_left_out(belief):
    with Asking({"active": False}, belief) as asking:
        asking.verdicts(b"token", b"token")
        assert len(asking.server.asked) == 2


# -- the breaker ------------------------------------------------------------------------------------------------------


def test_the_breaker_rests_longer_each_time():
    breaker, now, rests = Breaker(), 100.0, []
    for _ in range(FAILURES):
        assert breaker.allow(now)
        breaker.failed(now)
    for _ in range(6):
        began = now
        while not breaker.allow(now):
            now += 0.5
        rests.append(now - began)
        breaker.failed(now)
    assert rests == [1, 2, 4, 8, LONGEST_REST, LONGEST_REST]


def test_one_call_at_a_time_tries_again():
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(100)
    assert [breaker.allow(101), breaker.allow(101), breaker.allow(101.9)] == [True, False, False]
    breaker.succeeded()
    assert [breaker.allow(101.9), breaker.allow(101.9)] == [True, True]


def test_failures_count_in_a_row_only():
    breaker = Breaker()
    for _ in range(10):
        breaker.failed(100)
        breaker.succeeded()
    assert breaker.allow(100)


def test_an_answer_is_json_and_says_yes_or_no():
    kind = (b"content-type", b"Application/JSON; charset=utf-8")
    assert read(Fetched(200, [kind], b'{"active":false}')) == {"active": False}
    for headers in ([], [kind, kind], [(b"content-type", b"application/jsonp")]):
        with pytest.raises(FetchError):
            read(Fetched(200, headers, b'{"active":true}'))
