"""Passwords: how logins are read, and that hashes are made as seldom as can be."""

from __future__ import annotations

import asyncio
import base64
import threading
import unicodedata

import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.core.clock import FakeClock
from gatewayd.identity import passwords
from gatewayd.identity.passwords import Busy, Login, Passwords, hash_password, prepare, read_login

CHEAP = PasswordHasher(1, 8, 1)
RIGHT = Login(b"alice", b"secret")


def basic(text, scheme=b"Basic "):
    return scheme + base64.b64encode(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("value", "login"),
    [
        (basic("alice:secret"), RIGHT),
        (basic("alice:secret", b"basic "), RIGHT),
        (basic("alice:secret", b"BASIC   "), RIGHT),
        (basic("alice:a:b:c"), Login(b"alice", b"a:b:c")),
        (basic("alice::"), Login(b"alice", b":")),
        (basic(":secret"), Login(b"", b"secret")),
        (basic("alice:"), Login(b"alice", b"")),
        (basic("älice:pä"), Login("älice".encode(), "pä".encode())),
        (basic("alice:" + unicodedata.normalize("NFD", "pä")), Login(b"alice", "pä".encode())),
    ],
)
def test_logins(value, login):
    assert read_login(value) == login


@pytest.mark.parametrize(
    "value",
    [
        b"Basic",
        b"Basic ",
        b"Basic ===",
        b"Basic !!!!",
        basic("no colon"),
        basic("alice:secret")[:-1],
        basic("alice:secret") + b"=",
        basic("alice:secret") + b" x",
        b"Basic YWxpY2U6c2VjcmV0\nYQ==",
        b"Basic YWxpY2U6czF=",  # spare bits that are not zero
        b"Basic YWxp Y2U6c2VjcmV0",
        b"Basic " + base64.urlsafe_b64encode(b"a:\xf0\x9f\x92\xa9\xf0\x9f\x92\xbf"),
        basic(b"alice:\xff"),
        basic(b"\xff:secret"),
        basic(b"alice:\xed\xa0\x80"),
        basic("alice:a\0b"),
        basic("alice\r\nX: y:secret"),
        basic("alice:\x7f"),
    ],
)
def test_what_is_no_login(value):
    assert read_login(value) is None


@given(st.binary(max_size=60))
def test_nothing_else_comes_of_it(token):
    found = read_login(b"Basic " + token)
    if found is not None:
        assert base64.b64decode(token).startswith(found.name + b":")


def test_a_new_hash():
    stored = hash_password("pässword")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert PasswordHasher().verify(stored, prepare(unicodedata.normalize("NFD", "pässword")))
    assert hash_password("pässword") != stored


class Hasher(Passwords):
    """Counts the hashes it makes; each waits for `go`."""

    def __init__(self, clock=None, threads=1, queue=1):
        super().__init__((clock or FakeClock()).monotonic, threads, queue)
        self.hashed = []
        self.go = threading.Event()
        self.go.set()

    def _matches(self, stored, password):
        self.go.wait(10)
        self.hashed.append((stored, password))
        return super()._matches(stored, password)

    async def ask(self, login, stored):
        return await self.is_right(self.digest(login, stored), login, stored)


def test_right_and_wrong():
    stored = CHEAP.hash("secret")

    async def ask():
        hasher = Hasher()
        return [
            await hasher.ask(RIGHT, stored),
            await hasher.ask(Login(b"alice", b"Secret"), stored),
            await hasher.ask(Login(b"alice", b""), stored),
            await hasher.ask(RIGHT, "$argon2id$v=19$m=8,t=1,p=1$nonsense$nonsense"),
            await hasher.ask(RIGHT, None),
        ]

    assert asyncio.run(ask()) == [True, False, False, False, False]


def test_what_was_right_is_remembered_for_a_while():
    clock, stored = FakeClock(), CHEAP.hash("secret")
    hasher = Hasher(clock)
    right, wrong = hasher.digest(RIGHT, stored), hasher.digest(Login(b"alice", b"x"), stored)
    assert not hasher.remembers(right, 60)
    asyncio.run(hasher.ask(RIGHT, stored))
    asyncio.run(hasher.ask(Login(b"alice", b"x"), stored))
    assert hasher.remembers(right, 60)
    assert not hasher.remembers(wrong, 60)
    clock.advance(59.9)
    assert hasher.remembers(right, 60)
    clock.advance(0.1)
    assert not hasher.remembers(right, 60)
    assert not hasher.remembers(right, 0)


def test_a_digest_is_of_one_login_and_one_hash_in_one_process():
    hasher = Hasher()
    logins = [RIGHT, Login(b"alic", b"esecret"), Login(b"alice", b"secre"), Login(b"", b"alicesecret")]
    digests = [hasher.digest(login, stored) for login in logins for stored in ("$1", "$2", None)]
    digests.append(Hasher().digest(RIGHT, "$1"))
    assert len(set(digests)) == len(digests)


def test_those_who_ask_the_same_share_a_hash():
    stored = CHEAP.hash("secret")

    async def ask():
        hasher = Hasher()
        hasher.go.clear()
        asking = [asyncio.ensure_future(hasher.ask(RIGHT, stored)) for _ in range(20)]
        await asyncio.sleep(0)
        hasher.go.set()
        return await asyncio.gather(*asking), hasher.hashed

    answers, hashed = asyncio.run(ask())
    assert answers == [True] * 20
    assert len(hashed) == 1


def test_one_who_leaves_does_not_spoil_it_for_the_others():
    stored = CHEAP.hash("secret")

    async def ask():
        hasher = Hasher()
        hasher.go.clear()
        first, second = (asyncio.ensure_future(hasher.ask(RIGHT, stored)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        hasher.go.set()
        return await second

    assert asyncio.run(ask())


def test_only_so_many_wait():
    stored = CHEAP.hash("secret")

    async def ask():
        hasher = Hasher(threads=1, queue=2)
        hasher.go.clear()
        logins = [Login(b"alice", b"%d" % number) for number in range(5)]
        asking = [asyncio.ensure_future(hasher.ask(login, stored)) for login in logins]
        await asyncio.sleep(0)
        hasher.go.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        return answers, await hasher.ask(RIGHT, stored)

    answers, later = asyncio.run(ask())
    assert [isinstance(answer, Busy) for answer in answers] == [False] * 3 + [True] * 2
    assert later


def test_an_unknown_name_costs_what_a_known_one_does():
    """The same hash is checked for it, as soon as one has been seen; before, one of the usual cost."""
    stored = CHEAP.hash("secret")

    async def ask():
        hasher = Hasher()
        assert not await hasher.ask(RIGHT, None)
        await hasher.ask(RIGHT, stored)
        assert not await hasher.ask(RIGHT, None), "nor is one let in who shows another's password"
        return [against for against, _ in hasher.hashed]

    decoy, *others = asyncio.run(ask())
    assert decoy.split("$")[1:4] == hash_password("x").split("$")[1:4]
    assert others == [stored, stored]


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(passwords, "REMEMBERED", 3)
    hasher, stored = Hasher(), CHEAP.hash("secret")
    logins = [Login(b"%d" % number, b"secret") for number in range(5)]
    for login in logins:
        asyncio.run(hasher.ask(login, stored))
    assert [hasher.remembers(hasher.digest(login, stored), 60) for login in logins] == [False] * 2 + [True] * 3


def test_no_password_is_kept():
    hasher = Hasher()
    login = Login(b"alice", b"correct horse")
    asyncio.run(hasher.ask(login, CHEAP.hash("correct horse")))
    kept = repr({name: value for name, value in vars(hasher).items() if name != "hashed"})
    assert "correct horse" not in kept
    assert hasher.remembers(hasher.digest(login, hasher._decoy), 60)
