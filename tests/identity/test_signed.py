"""Signed requests: whose they are, and every way in which one is not taken."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.core.arena import Arena
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import BuildContext, Credential, Reply
from gatewayd.identity import signed
from gatewayd.identity.require import unauthorized
from gatewayd.identity.signed import Signed, Terms
from tests.support.callers import Known
from tests.support.exchanges import make_exchange
from tests.support.signing import SECRET, USUAL, digest, sign

NOW = 1_800_000_000
WRONG = unauthorized([b"Signature"])
ACME = Consumer("acme")
VALUES = {"@method": "GET", "@authority": "api.example.com", "@path": "/v1/x", "@query": "?"}
TERMS = Terms(USUAL, True, 1024, 300.0, True, 1024, "", "", False)


def credential(name="acme-1", key=SECRET, algorithm="hmac-sha256", consumer=ACME, **more):
    return Credential(consumer, name, data={"keyid": name, "algorithm": algorithm, "key": key}, **more)


class Gate:
    """A `Signed` that knows one credential, and its clock."""

    def __init__(self, shown=None, arena=None, worker=0, clock=None, **terms):
        self.clock = clock or FakeClock(wall=NOW)
        self.credential = shown or credential()
        known = Known({("signature", self.credential.id.encode()): self.credential})
        context = BuildContext("sig", clock=self.clock, consumers=known, arena=arena, worker=worker, workers=4)
        self.signed = Signed(TERMS._replace(**terms), context, WRONG)

    def ask(self, fields, **attributes):
        return self.signed.authenticate(make_exchange([(b"accept", b"*/*"), *fields], **attributes))


def test_who_signed_calls():
    gate = Gate(credential(scopes=frozenset({"read"})))
    exchange = make_exchange(sign(VALUES, NOW, "n1"))
    assert gate.signed.authenticate(exchange) == Identity(ACME, "http_signature", "acme-1", frozenset({"read"}))
    assert exchange.headers == []
    passing = Gate(pass_on=True)
    exchange = make_exchange(sign(VALUES, NOW, "n1"))
    assert isinstance(passing.signed.authenticate(exchange), Identity)
    assert len(exchange.headers) == 2


def test_nothing_shown_is_nothing_found():
    assert Gate().ask([]) is None


def test_what_is_signed_passes_once():
    gate = Gate()
    assert isinstance(gate.ask(sign(VALUES, NOW, "n1")), Identity)
    assert gate.ask(sign(VALUES, NOW, "n1")) is WRONG
    assert isinstance(gate.ask(sign(VALUES, NOW, "n2")), Identity)
    assert gate.ask(sign(VALUES, NOW + 1, "n1")) is WRONG, "a nonce is used up, whenever it is signed again"


def test_what_one_worker_has_seen_no_other_takes():
    arena = Arena()
    fields = sign(VALUES, NOW, "n1")
    gates = [Gate(arena=arena, worker=worker) for worker in range(3)]
    assert isinstance(gates[0].ask(fields), Identity)
    assert [gate.ask(fields) for gate in gates] == [WRONG] * 3
    assert Gate(arena=arena, worker=1).ask(fields) is WRONG, "nor does one that has come after"


def test_a_nonce_is_remembered_as_long_as_its_signature_could_be_shown():
    gate = Gate()
    fields = sign(VALUES, NOW, "n1")
    assert isinstance(gate.ask(fields), Identity)
    for step in (299.0, 0.9, 0.1, 1000.0):
        gate.clock.advance(step)
        assert gate.ask(fields) is WRONG


def test_one_callers_nonces_are_not_anothers():
    other = credential("other-1", consumer=Consumer("other"))
    gate = Gate()
    gate.signed._find = Known(
        {("signature", each.id.encode()): each for each in (gate.credential, other)}
    ).by_credential
    assert isinstance(gate.ask(sign(VALUES, NOW, "n1")), Identity)
    assert isinstance(gate.ask(sign(VALUES, NOW, "n1", keyid="other-1")), Identity)


def test_where_no_nonce_fits_any_more_requests_wait():
    gate = Gate(nonces=1)
    answers = [gate.ask(sign(VALUES, NOW, f"n{number}")) for number in range(64)]
    refused = [answer for answer in answers if not isinstance(answer, Identity)]
    assert refused
    assert {(answer.status, answer.code) for answer in refused} == {(503, "nonces_full")}


def test_a_bad_signature_takes_no_room():
    gate = Gate(nonces=1)
    for number in range(200):
        assert gate.ask(sign(VALUES, NOW, f"n{number}", make=lambda base: bytes(32))) is WRONG
    assert isinstance(gate.ask(sign(VALUES, NOW, "good")), Identity)


def test_without_nonce_where_that_is_allowed():
    assert Gate().ask(sign(VALUES, NOW)) is WRONG
    gate = Gate(nonce_required=False)
    fields = sign(VALUES, NOW)
    assert isinstance(gate.ask(fields), Identity)
    assert isinstance(gate.ask(fields), Identity)
    assert isinstance(gate.ask(sign(VALUES, NOW, "n1")), Identity)
    assert gate.ask(sign(VALUES, NOW, "n1")) is WRONG


@pytest.mark.parametrize(
    "fields",
    [
        sign(VALUES, NOW, "n", keyid="nobody"),
        sign(VALUES, NOW, "n", keyid=""),
        sign(VALUES, NOW, "n", make=lambda base: bytes(32)),
        sign(VALUES, NOW, "n", make=lambda base: b""),
        sign(VALUES, NOW, "n", alg="ed25519"),
        sign(VALUES, NOW, "n", alg="none"),
        sign(VALUES, None, "n"),
        sign(VALUES, NOW - 300, "n"),
        sign(VALUES, NOW + 31, "n"),
        sign({**VALUES, "@method": "PUT"}, NOW, "n"),
        sign({**VALUES, "@path": "/v1/y"}, NOW, "n"),
        sign({**VALUES, "@authority": "other.example"}, NOW, "n"),
        sign({**VALUES, "@query": "?a"}, NOW, "n"),
        sign({**VALUES, "date": "x"}, NOW, "n"),
        *[sign({name: value for name, value in VALUES.items() if name != left}, NOW, "n") for left in VALUES],
        sign({}, NOW, "n"),
    ],
)
def test_what_is_not_taken(fields):
    gate = Gate()
    assert gate.ask(fields) is WRONG
    assert isinstance(gate.ask(sign(VALUES, NOW, "n")), Identity), "and it has used nothing up"


def swapped(text, a, b):
    return text.replace(a, b"\0").replace(b, a).replace(b"\0", b)


@pytest.mark.parametrize(
    "change",
    [
        lambda described: swapped(described, b'"@method"', b'"@path"'),
        lambda described: described.replace(b'"@method" ', b""),
        lambda described: described.replace(b'"n"', b'"m"'),
        lambda described: described.replace(str(NOW).encode(), str(NOW + 1).encode()),
        lambda described: described + b";expires=1900000000",
        lambda described: described.replace(b';nonce="n"', b""),
        lambda described: described.replace(b"sig1", b"sig2"),
        lambda described: described + b', sig2=("@method");created=1;keyid="acme-1"',
    ],
)
def test_what_is_said_about_a_signature_is_signed_too(change):
    (name, described), made = sign(VALUES, NOW, "n")
    assert change(described) != described
    assert Gate().ask([(name, change(described)), made]) is WRONG


def test_written_otherwise_it_is_the_same():
    """The base is made of the values, not of the bytes that they came in (§2.5)."""
    (name, described), made = sign(VALUES, NOW, "n")
    spaced = described.replace(b'" "', b'"   "').replace(b";nonce", b"; nonce")
    assert isinstance(Gate().ask([(name, spaced), made]), Identity)


def test_keys_have_their_time():
    gate = Gate(credential(not_before=NOW + 10.0, expires=NOW + 20.0))
    answers = []
    for number in range(4):
        answers.append(gate.ask(sign(VALUES, NOW, f"n{number}")))
        gate.clock.advance(7.0)
    assert [isinstance(answer, Identity) for answer in answers] == [False, False, True, False]


def test_a_label_and_a_tag_choose():
    fields = sign(VALUES, NOW, "n1", label="ours", tag="app-1") + sign({}, NOW, "n2", label="theirs", keyid="proxy")
    assert Gate().ask(fields) is WRONG
    assert isinstance(Gate(label="ours").ask(fields), Identity)
    assert Gate(label="theirs").ask(fields) is WRONG
    assert Gate(label="third").ask(fields) is None
    assert isinstance(Gate(label="ours", tag="app-1").ask(fields), Identity)
    assert Gate(label="ours", tag="app-2").ask(fields) is WRONG


def test_a_changed_key_counts_at_once(caplog):
    gate = Gate()
    assert isinstance(gate.ask(sign(VALUES, NOW, "n1")), Identity)
    gate.signed._find = Known({("signature", b"acme-1"): credential(key="x" * 40)}).by_credential
    assert gate.ask(sign(VALUES, NOW, "n2")) is WRONG
    gate.signed._find = Known({("signature", b"acme-1"): credential(key="x")}).by_credential
    assert gate.ask(sign(VALUES, NOW, "n3")) is WRONG
    assert gate.ask(sign(VALUES, NOW, "n4")) is WRONG
    assert len(caplog.messages) == 1, "a key that cannot be used is told of once"


def test_keys_kept_ready_are_bounded(monkeypatch):
    monkeypatch.setattr(signed, "KEYS", 4)
    gate = Gate()
    many = [credential(f"k{number}") for number in range(10)]
    gate.signed._find = Known({("signature", each.id.encode()): each for each in many}).by_credential
    for number in range(10):
        assert isinstance(gate.ask(sign(VALUES, NOW, f"n{number}", keyid=f"k{number}")), Identity)
    assert len(gate.signed._keys) == 4


class Body:
    """The caller's side of an exchange with a body at hand."""

    def __init__(self, body):
        self.pieces = body

    def read_body(self, sink):
        sink.body(self.pieces)
        sink.body_end([])

    def pause_body(self):
        """There is nothing more to read."""


def with_body(gate, body, said, covered=True, length=None, **terms):
    values = {**VALUES, "content-digest": said} if covered else VALUES
    headers = [(b"content-digest", said.encode()), *sign(values, NOW, "n")]
    length = len(body) if length is None else length
    exchange = make_exchange(headers, body_length=length, downstream=Body(body))
    found = gate.signed.authenticate(exchange)

    async def wait():
        return await found

    return found if found is None or isinstance(found, Identity | Reply) else asyncio.run(wait())


@pytest.mark.parametrize("length", [None, -1])
def test_a_body_is_what_was_signed(length):
    assert isinstance(with_body(Gate(), b"hello", digest(b"hello"), length=length), Identity)
    assert with_body(Gate(), b"hellO", digest(b"hello"), length=length) is WRONG
    assert with_body(Gate(), b"hello", "md5=:AA==:", length=length) is WRONG


def test_a_body_has_to_be_covered():
    assert with_body(Gate(), b"hello", digest(b"hello"), covered=False) is WRONG
    assert isinstance(with_body(Gate(digest=False), b"hello", digest(b"other"), covered=False), Identity)
    assert with_body(Gate(digest=False), b"hello", digest(b"other")) is WRONG, "covered is checked"


def test_no_body_is_one_too():
    assert isinstance(with_body(Gate(), b"", digest(b"")), Identity)
    assert with_body(Gate(), b"", digest(b"x")) is WRONG


@pytest.mark.parametrize("length", [None, -1])
def test_a_signed_body_has_its_limit(length):
    assert isinstance(with_body(Gate(), bytes(1024), digest(bytes(1024)), length=length), Identity)
    found = with_body(Gate(), bytes(1025), digest(bytes(1025)), length=length)
    assert (found.status, found.code) == (413, "body_too_large")
