"""The index of consumers: what goes in is found again, nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.config.consumers import ApiKey, CertificateName, Consumer, Login, SignatureKey, TokenSubject
from gatewayd.config.units import Moment
from gatewayd.core import identity
from gatewayd.core.arena import Arena
from gatewayd.core.policy import Credential
from gatewayd.errors import ConfigError
from gatewayd.identity import consumers as module
from gatewayd.identity.consumers import Index, make
from tests.identity import rfc9421
from tests.support.signing import SECRET


def key(number, name="k", **more):
    return ApiKey(name, f"hmac-sha256:{digest(number).hex()}", **more)


def digest(number):
    """A digest that differs in what counts; `number` has 192 bits."""
    return number.to_bytes(24, "big") + bytes(8)


def index(*records):
    return Index(make(records))


def faults(*records):
    with pytest.raises(ConfigError) as caught:
        make(records)
    return [(fault.path, fault.message) for fault in caught.value.faults]


def test_a_consumer_is_found_by_its_id():
    found = index(("acme", Consumer("Acme", ["gold", "a"], "standard", {"team": "x"}))).by_id("acme")
    assert found == identity.Consumer("acme", "Acme", frozenset({"gold", "a"}), "standard", {"team": "x"})
    assert index().by_id("acme") is None


def test_every_kind_of_credential_is_found_under_its_key():
    signature = SignatureKey("id-1", "hmac-sha256", SECRET, Moment(5), Moment(9), ["w"])
    both = [CertificateName(fingerprint="ab" * 32), CertificateName(subject="CN=a,O=b"), CertificateName(san="dns:a.b")]
    consumer = Consumer(
        keys=[key(1, scopes=["r"], not_before=Moment(1), expires=Moment(2), grace_until=Moment(3))],
        basic=[Login("anna", "$argon2id$x")],
        certificates=both,
        tokens=[TokenSubject("https://i", "s")],
        signatures=[signature],
    )
    found = index(("acme", consumer))
    acme = identity.Consumer("acme")
    assert found.by_credential("key", digest(1)) == Credential(acme, "k", 1, 2, frozenset("r"), {"grace_until": 3})
    assert found.by_credential("basic", b"anna").data == {"username": "anna", "hash": "$argon2id$x"}
    for shown in (b"fingerprint:" + b"ab" * 32, b"subject:CN=a,O=b", b"san:dns:a.b"):
        assert found.by_credential("certificate", shown).id == shown.decode()
    assert found.by_credential("token", b"https://i\0s").data == {"issuer": "https://i", "subject": "s"}
    shown = found.by_credential("signature", b"id-1")
    assert shown == Credential(acme, "id-1", 5, 9, frozenset("w"), shown.data)
    assert shown.data == {"keyid": "id-1", "algorithm": "hmac-sha256", "key": SECRET}


def test_a_consumer_s_credential_is_found_by_its_name():
    consumer = Consumer(keys=[key(1, "a"), key(2, "b", scopes=["r"])], basic=[Login("a", "$argon2id$x")])
    found = index(("acme", consumer), ("other", Consumer(keys=[key(3, "c", revoked=Moment(1))])))
    assert found.by_name("acme", "key", "b") == found.by_credential("key", digest(2))
    assert found.by_name("acme", "basic", "a") == found.by_credential("basic", b"a")
    for wrong in (("acme", "key", "c"), ("acme", "basic", "b"), ("other", "key", "c"), ("nobody", "key", "a")):
        assert found.by_name(*wrong) is None


def test_kinds_are_not_mistaken_for_one_another():
    signature = SignatureKey("bert", "hmac-sha256", SECRET)
    found = index(("anna", Consumer(basic=[Login("anna", "h")], signatures=[signature])))
    assert found.by_credential("basic", b"bert") is None
    assert found.by_credential("signature", b"anna") is None
    assert found.by_credential("id", b"nobody") is None


def test_the_whole_key_decides():
    found = index(("acme", Consumer(keys=[key(1)])))
    assert found.by_credential("key", digest(2)) is None
    assert found.by_credential("key", b"\1" + digest(1)[1:]) is None


def test_revoked_keys_are_not_there():
    found = index(("a", Consumer(keys=[key(1, revoked=Moment(1)), key(2, "l")])), ("b", Consumer(keys=[key(1)])))
    assert found.by_credential("key", digest(1)).consumer.id == "b"
    assert found.by_credential("key", digest(2)).id == "l"


@given(st.lists(st.integers(0, 2**192 - 1), unique=True, max_size=50), st.integers(0, 2**192 - 1))
def test_many_are_all_found_and_no_other(numbers, other):
    found = index(*[(f"c{at}", Consumer(keys=[key(number)])) for at, number in enumerate(numbers)])
    for at, number in enumerate(numbers):
        assert found.by_credential("key", digest(number)).consumer.id == f"c{at}"
        assert found.by_id(f"c{at}") is not None
    if other not in numbers:
        assert found.by_credential("key", digest(other)) is None


def test_what_collides_is_kept_apart():
    """All keys begin alike, so all want one place in the table."""
    numbers = [(7 << 128) + at for at in range(200)]
    found = index(("acme", Consumer(keys=[key(number, f"k{at}") for at, number in enumerate(numbers)])))
    assert [found.by_credential("key", digest(number)).id for number in numbers] == [f"k{at}" for at in range(200)]


def test_what_stands_there_twice_is_named():
    one = Consumer(keys=[key(1), key(2, "k2")], basic=[Login("anna", "h")])
    assert faults(("a", one), ("b", Consumer(keys=[key(9), key(2, "k2")]))) == [
        ("consumers.b.keys[1]", "consumer a has the same")
    ]
    assert faults(("a", one), ("b.c", Consumer(basic=[Login("anna", "h")]))) == [
        ('consumers."b.c".basic[0]', "consumer a has the same")
    ]
    assert faults(("a", one), ("a", Consumer())) == [("consumers.a", "there is another consumer of this id")]
    assert faults(("a", Consumer(keys=[key(1), key(1, "l")]))) == [("consumers.a.keys[1]", "consumer a has the same")]


def test_a_revoked_key_keeps_its_place_in_faults():
    records = ("a", Consumer(keys=[key(1)])), ("b", Consumer(keys=[key(3, revoked=Moment(1)), key(1, "k2")]))
    assert faults(*records) == [("consumers.b.keys[1]", "consumer a has the same")]


def test_a_certificate_is_named_by_exactly_one_thing():
    nothing, two = CertificateName(), CertificateName(subject="CN=a", san="dns:a")
    message = "names nothing, or more than one thing"
    assert faults(("a", Consumer(certificates=[nothing, two]))) == [
        ("consumers.a.certificates[0]", message),
        ("consumers.a.certificates[1]", message),
    ]


def test_two_keys_of_one_name_are_a_fault():
    assert faults(("a", Consumer(keys=[key(1), key(2)]))) == [
        ("consumers.a.keys[1]", "there is another key of this id")
    ]


def test_a_worker_keeps_so_many_decoded_and_no_more(monkeypatch):
    monkeypatch.setattr(module, "DECODED", 10)
    found = index(("acme", Consumer(keys=[key(at, f"k{at}") for at in range(30)])))
    for _ in range(2):
        for at in range(30):
            assert found.by_credential("key", digest(at)).id == f"k{at}"
            assert len(found._credentials) <= 10
    assert found.by_credential("key", digest(29)) is found.by_credential("key", digest(29))


def test_callers_who_guess_fill_nothing():
    found = index(("acme", Consumer(keys=[key(1)])))
    for at in range(2, 100):
        found.by_credential("key", digest(at))
        found.by_id(str(at))
    assert not found._credentials
    assert not found._consumers


def test_a_closed_index_is_not_read():
    arena = Arena(size=1 << 24)
    lease = arena.lease("a", lambda: make([("acme", Consumer())]))
    found = Index(lease.view, lease)
    consumer = found.by_id("acme")
    found.close()
    with pytest.raises(ValueError, match="released"):
        found.by_id("acme")
    assert consumer.id == "acme"


def test_nothing_secret_is_shown():
    found = index(("acme", Consumer(signatures=[SignatureKey("i", "hmac-sha256", SECRET)])))
    assert SECRET not in repr(found)
    assert SECRET not in repr(found.by_credential("signature", b"i"))


@pytest.mark.parametrize(
    ("algorithm", "key", "why"),
    [
        ("ed25519", "geheim", "not a public key in PEM form"),
        ("ed25519", rfc9421.P256, "another kind"),
        ("hmac-sha256", "geheim", "at least 32 bytes"),
        ("hmac-sha256", rfc9421.P256, "no shared secret"),
    ],
)
def test_signature_keys_that_check_nothing(algorithm, key, why):
    signatures = [SignatureKey("good", "hmac-sha256", SECRET), SignatureKey("bad", algorithm, key)]
    with pytest.raises(ConfigError) as caught:
        index(("acme.x", Consumer(signatures=signatures)))
    (fault,) = caught.value.faults
    assert fault.path == 'consumers."acme.x".signatures[1].key'
    assert algorithm in fault.message
    assert why in fault.message
    assert key not in str(fault)
