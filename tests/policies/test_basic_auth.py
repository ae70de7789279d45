"""basic_auth: who is let in by name and password, and what becomes of all others."""

from __future__ import annotations

import asyncio
import base64

import pytest
from argon2 import PasswordHasher

from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import BuildContext, Credential
from gatewayd.policies import basic_auth
from gatewayd.policies.basic_auth import Config
from tests.support.callers import Known, outcome
from tests.support.edge import EdgeThread
from tests.support.exchanges import make_exchange
from tests.support.raw import Caller

HASH = PasswordHasher(1, 8, 1).hash("secret")
CHALLENGE = b'Basic realm="gatewayd", charset="UTF-8"'
ALICE = Consumer("alice")


def basic(text):
    return b"Basic " + base64.b64encode(text.encode())


class Door:
    """The hooks, with alice known behind them."""

    def __init__(self, stored=HASH, clock=None, **options):
        self.clock = clock or FakeClock(wall=1000.0)
        limits = {name: options.pop(name) for name in ("not_before", "expires", "scopes") if name in options}
        self.consumers = Known({("basic", b"alice"): Credential(ALICE, "alice", data={"hash": stored}, **limits)})
        self.context = BuildContext("basic", clock=self.clock, consumers=self.consumers)
        self.hooks = basic_auth.build(Config(**options), self.context)
        self.exchange = None

    def ask(self, *shown):
        headers = [(b"authorization", value) for value in shown]
        self.exchange = make_exchange([(b"accept", b"*/*"), *headers])
        return outcome(self.hooks.authenticate(self.exchange))


def test_the_right_password():
    door = Door(scopes=frozenset({"read"}))
    assert door.ask(basic("alice:secret")) == Identity(ALICE, "basic_auth", "alice", frozenset({"read"}))
    assert door.exchange.headers == [(b"accept", b"*/*")]
    door = Door(pass_on=True)
    assert isinstance(door.ask(basic("alice:secret")), Identity)
    assert len(door.exchange.headers) == 2


@pytest.mark.parametrize("shown", [[], [b"Bearer x"], [b"Basic"], [b"Basics YTpi"]])
def test_nothing_of_its_kind(shown):
    assert Door().ask(*shown) is None


@pytest.mark.parametrize(
    "shown",
    [
        [basic("alice:Secret")],
        [basic("alice:")],
        [basic("alice :secret")],
        [basic("Alice:secret")],
        [basic("bob:secret")],
        [basic("alice")],
        [b"Basic YWxpY2U6c2VjcmV0="],
        [b"Basic \xff"],
        [basic("alice:secret"), basic("alice:secret")],
        [basic("alice:secret"), b"Bearer x"],
        [b"Bearer x", basic("alice:secret")],
    ],
)
def test_all_that_is_wrong_looks_the_same(shown):
    reply = Door().ask(*shown)
    assert (reply.status, reply.code) == (401, "credential_invalid")
    assert (b"www-authenticate", CHALLENGE) in reply.headers
    assert reply == Door().ask(basic("nobody:nothing"))


def test_a_second_time_nobody_has_to_wait():
    door = Door()
    assert isinstance(door.ask(basic("alice:secret")), Identity)
    exchange = make_exchange([(b"authorization", basic("alice:secret"))])
    assert isinstance(door.hooks.authenticate(exchange), Identity)
    door.clock.advance(60.0)
    exchange = make_exchange([(b"authorization", basic("alice:secret"))])
    waiting = door.hooks.authenticate(exchange)
    assert not isinstance(waiting, Identity)
    assert isinstance(outcome(waiting), Identity)


def test_what_is_remembered_outlives_a_reload_unless_the_hash_changes():
    door = Door()
    door.ask(basic("alice:secret"))
    again = basic_auth.build(Config(), door.context)
    assert isinstance(again.authenticate(make_exchange([(b"authorization", basic("alice:secret"))])), Identity)
    other = Credential(ALICE, "alice", data={"hash": PasswordHasher(1, 8, 1).hash("new")})
    door.consumers.credentials["basic", b"alice"] = other
    assert door.ask(basic("alice:secret")).status == 401


def test_who_is_gone_is_gone_at_once():
    door = Door()
    door.ask(basic("alice:secret"))
    door.consumers.credentials.clear()
    assert door.ask(basic("alice:secret")).status == 401


def test_logins_have_their_time():
    door = Door(not_before=1010.0, expires=1020.0)
    answers = []
    for _ in range(4):
        answers.append(isinstance(door.ask(basic("alice:secret")), Identity))
        door.clock.advance(7.0)
    assert answers == [False, False, True, False]


def test_when_too_many_wait():
    door = Door(threads=1, queue=0)

    async def ask():
        shown = [[(b"authorization", basic(f"alice:{number}"))] for number in range(3)]
        return await asyncio.gather(*(door.hooks.authenticate(make_exchange(headers)) for headers in shown))

    answers = asyncio.run(ask())
    assert [(answer.status, answer.code) for answer in answers[1:]] == [(503, "passwords_busy")] * 2
    assert dict(answers[1].headers)[b"retry-after"] == b"1"
    assert answers[0].status == 401


def test_on_a_whole_edge():
    document = {
        "routes": {"all": {"path": "/*", "reply": {}, "policies": ["basic_auth"]}},
        "policies": {"basic_auth": {}},
        "consumers": {"alice": {"basic": [{"username": "alice", "hash": HASH}]}},
        "identity": {"realm": 'the "gate"'},
    }
    with EdgeThread(document) as edge, Caller(edge.port) as caller:
        right = "authorization: " + basic("alice:secret").decode()
        assert [caller.ask("/", right).status for _ in range(3)] == [200] * 3
        assert caller.ask("/", "authorization: " + basic("alice:wrong").decode()).code == "credential_invalid"
        answer = caller.ask("/")
        assert (answer.status, answer.code) == (401, "credential_missing")
        assert answer.headers["www-authenticate"] == 'Basic realm="the \\"gate\\"", charset="UTF-8"'
