"""Client certificates: what is read from one, whose it is, and how long that holds."""

from __future__ import annotations

import hashlib
import math

import pytest
from cryptography import x509

from gatewayd.core.identity import Consumer
from gatewayd.core.policy import Credential
from gatewayd.identity.certificates import NAMES, Certificates, Concluded, read
from gatewayd.identity.jose import Refused
from tests.support.callers import Known
from tests.support.holders import BEGINS, DAY, ENDS, certificate, fingerprint, name, sequence, shown
from tests.support.tokens import NOW
from tests.wire.certificates import Authority

ALL = ("fingerprint", "uri", "dns", "email", "subject")
DNS, EMAIL, URI = 0x82, 0x81, 0x86
NONE = object()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who signs."""
    return Authority(tmp_path_factory.mktemp("authority"))


def read_(cert):
    """What a certificate says."""
    tls = shown(cert)
    return read(tls.client_certificate, tls.client_fingerprint)


def never(presented, now):
    """No certificate was taken back."""
    return "", math.inf


def known(**consumers):
    """Consumers by what their certificates are found under."""
    credentials = {
        ("certificate", key.encode()): Credential(Consumer(consumer), key, **(more[0] if more else {}))
        for consumer, (key, *more) in consumers.items()
    }
    return Known(credentials)


def conclude(tls, consumers, by=ALL, now=NOW, status=never):
    """The consumer's id, or why there is none."""
    found = Certificates(consumers, by, "mtls").conclude(tls, NONE, status, now)
    assert (found.identity is None) or not found.reason
    return found.identity.consumer.id if found.identity else found.reason


def test_what_is_read(authority):
    names = [
        x509.DNSName("A.example"),
        x509.DNSName("*.b.example"),
        x509.UniformResourceIdentifier("spiffe://Acme/desk"),
        x509.RFC822Name("Desk@Acme.Example"),
    ]
    cert = certificate(authority, *names, subject=name(c="AT", o="Acme, Inc. + Söhne", cn="claims"), serial=7)
    presented = read_(cert)
    assert presented.names == {
        "fingerprint": [fingerprint(cert)],
        "subject": ["CN=claims,O=Acme\\, Inc. \\+ Söhne,C=AT"],
        "dns": ["a.example", "*.b.example"],
        "uri": ["spiffe://Acme/desk"],
        "email": ["Desk@acme.example"],
    }
    assert (presented.serial, presented.begins, presented.ends) == (7, BEGINS, ENDS)
    assert presented.issuer == authority.certificate.subject


def test_without_alternative_names(authority):
    assert set(read_(certificate(authority)).names) == {"fingerprint", "subject"}


@pytest.mark.parametrize(
    "raw",
    [
        sequence((DNS, "ä.example".encode())),
        sequence((DNS, "\u212a.example".encode())),
        sequence((EMAIL, "desk@\u212a.example".encode())),
        sequence((URI, "https://ä.example".encode())),
        sequence((DNS, b"\xff\xfe")),
        sequence((EMAIL, b"\xff@example")),
        b"\x30\x05\x82\x09abc",
        b"\x04\x01x",
        sequence((0xA3, b"\x30\x00")),
    ],
)
def test_what_cannot_be_read_is_refused_whole(authority, raw):
    """Not only the name that is odd: who made it that way had something in mind."""
    cert = certificate(authority, raw_names=raw)
    with pytest.raises(Refused):
        read_(cert)
    consumers = known(acme=(f"fingerprint:{fingerprint(cert)}",))
    assert conclude(shown(cert), consumers) == "certificate_unreadable"


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x03abc", b"x" * 1000])
def test_what_is_no_certificate_is_refused(data):
    with pytest.raises(Refused):
        read(data, hashlib.sha256(data).digest())


@pytest.mark.parametrize("serial", [b"\xff", b"\x00", b"\x00" + b"\xff" * 40])
def test_odd_serial_numbers_are_read_without_a_word(authority, serial, recwarn):
    der = shown(certificate(authority, serial=0x7E)).client_certificate
    assert der.count(b"\x02\x01\x7e") == 1
    odd = der.replace(b"\x02\x01\x7e", b"\x02\x01" + serial) if len(serial) == 1 else der
    assert read(odd, b"").serial in (-1, 0, 0x7E)
    assert not recwarn.list


@pytest.mark.parametrize(
    "raw",
    [
        sequence((DNS, b"acme.example\0.evil.example")),
        sequence((DNS, b"acme.example\0")),
        sequence((DNS, b"\0acme.example")),
        sequence((DNS, b"acme.example ")),
        sequence((DNS, b"acme.example\n")),
        sequence((DNS, b"acme.example.")),
        sequence((DNS, b"xacme.example")),
        sequence((DNS, b"*.example")),
        sequence((URI, b"acme.example")),
        sequence((EMAIL, b"acme.example")),
        sequence((DNS, b"")),
        sequence((DNS, b"other.example"), (DNS, b"")),
    ],
)
def test_names_that_only_look_like_somebodys(authority, raw):
    cert = certificate(authority, raw_names=raw, subject=name(cn="acme.example"))
    assert conclude(shown(cert), known(acme=("san:dns:acme.example",), nobody=("san:dns:",))) == "certificate_unknown"


@pytest.mark.parametrize(
    "subject",
    [
        name(cn="acme\0"),
        name(cn="acme", o="Acme"),
        name(o="Acme", cn="acme\\,O=Acme"),
        name(cn="acme,O=Acme"),
        name(cn="ACME"),
        name(cn=" acme"),
        x509.Name([]),
    ],
)
def test_subjects_that_only_look_like_somebodys(authority, subject):
    consumers = known(acme=("subject:CN=acme,O=Acme",), short=("subject:CN=acme",), empty=("subject:",))
    assert conclude(shown(certificate(authority, subject=subject)), consumers) == "certificate_unknown"


def test_each_kind_of_name_finds_its_consumer(authority):
    cert = certificate(
        authority,
        x509.DNSName("A.example"),
        x509.DNSName("b.example"),
        x509.UniformResourceIdentifier("spiffe://acme/desk"),
        x509.RFC822Name("desk@acme.example"),
        subject=name(o="Acme", cn="desk"),
    )
    for key in (
        f"fingerprint:{fingerprint(cert)}",
        "subject:CN=desk,O=Acme",
        "san:dns:a.example",
        "san:dns:b.example",
        "san:uri:spiffe://acme/desk",
        "san:email:desk@acme.example",
    ):
        kind = key.split(":")[1] if key.startswith("san") else key.partition(":")[0]
        others = [each for each in ALL if each != kind]
        assert conclude(shown(cert), known(acme=(key,))) == "acme"
        assert conclude(shown(cert), known(acme=(key,)), by=[kind]) == "acme"
        assert conclude(shown(cert), known(acme=(key,)), by=others) == "certificate_unknown"


def test_what_counts_most_comes_first(authority):
    cert = certificate(authority, x509.DNSName("a.example"))
    consumers = known(by_print=(f"fingerprint:{fingerprint(cert)}",), by_name=("san:dns:a.example",))
    assert conclude(shown(cert), consumers) == "by_print"
    assert conclude(shown(cert), consumers, by=["dns", "fingerprint"]) == "by_name"


def test_the_identity_says_by_what_it_was_found(authority):
    cert = certificate(authority)
    consumers = known(acme=("subject:CN=acme", {"scopes": frozenset({"read"})}))
    identity = Certificates(consumers, ALL, "mtls").conclude(shown(cert), NONE, never, NOW).identity
    assert (identity.method, identity.credential, identity.scopes) == ("mtls", "subject:CN=acme", {"read"})
    assert identity.claims == {"x5t#S256": fingerprint(cert), "subject": "CN=acme"}


def test_names_looked_at_are_bounded(authority):
    cert = certificate(authority, *[x509.DNSName(f"n{number}.example") for number in range(NAMES + 5)])
    assert len(read_(cert).names["dns"]) == NAMES


def test_no_certificate_is_no_credential():
    concluded = Certificates(known(), ALL, "mtls").conclude(shown(None), NONE, never, NOW)
    assert (concluded.identity, concluded.reason) == (None, "")


# -- for how long -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "ends", "reason", "holds"),
    [
        (NOW - DAY, NOW + DAY, "acme", (NOW - DAY, NOW + DAY)),
        (NOW, NOW + 1, "acme", (NOW, NOW + 1)),
        (NOW - DAY, NOW, "certificate_expired", (NOW, math.inf)),
        (NOW + 1, NOW + DAY, "certificate_expired", (0, NOW + 1)),
    ],
)
def test_a_certificate_holds_while_it_is_valid(authority, begins, ends, reason, holds):
    tls = shown(certificate(authority, begins=begins, ends=ends))
    assert conclude(tls, known(acme=("subject:CN=acme",))) == reason
    assert (tls.concluded.begins, tls.concluded.ends) == holds


@pytest.mark.parametrize(
    ("not_before", "expires", "reason"),
    [(NOW, 0, "acme"), (NOW + 9, 0, "certificate_unknown"), (0, NOW + 9, "acme"), (0, NOW, "certificate_unknown")],
)
def test_a_credential_has_its_own_times(authority, not_before, expires, reason):
    tls = shown(certificate(authority))
    consumers = known(acme=("subject:CN=acme", {"not_before": not_before, "expires": expires}))
    assert conclude(tls, consumers) == reason
    if reason == "acme":
        assert tls.concluded.ends == (expires or ENDS)
    elif not_before:
        assert tls.concluded.ends == NOW + 9, "then it is looked at again"


def test_a_revocation_decides_before_names(authority):
    tls = shown(certificate(authority))
    consumers = known(acme=("subject:CN=acme",))
    assert (
        conclude(tls, consumers, status=lambda presented, now: ("certificate_revoked", math.inf))
        == "certificate_revoked"
    )
    assert conclude(tls, consumers, status=lambda presented, now: ("", NOW + 60)) == "acme"
    assert tls.concluded.ends == NOW + 60


def test_a_connection_pays_once(authority, monkeypatch):
    """The certificate is read once, whatever is asked about it; and nothing at all while the conclusion holds."""
    reads = []
    tls = shown(certificate(authority))
    monkeypatch.setattr(
        "gatewayd.identity.certificates.read", lambda *arguments: reads.append(arguments) or read(*arguments)
    )
    rules = Certificates(known(acme=("subject:CN=acme",)), ALL, "mtls")
    first = rules.conclude(tls, NONE, never, NOW)
    assert tls.concluded is first
    assert first.holds(rules, NONE, NOW + 1)
    assert not first.holds(rules, object(), NOW + 1), "other lists"
    assert not first.holds(object(), NONE, NOW + 1), "a reload"
    assert not first.holds(rules, NONE, ENDS), "it has ended"
    assert not first.holds(rules, NONE, BEGINS - 1), "the clock went back"
    other = Certificates(known(), ALL, "mtls")
    assert other.conclude(tls, NONE, never, NOW).reason == "certificate_unknown"
    assert rules.conclude(tls, NONE, never, NOW).identity.consumer.id == "acme"
    assert len(reads) == 1


def test_what_could_not_be_read_is_not_forgotten(authority):
    tls = shown(certificate(authority, raw_names=b"\x04\x01x"))
    assert [conclude(tls, known()) for _ in range(2)] == ["certificate_unreadable"] * 2
    assert isinstance(tls.concluded, Concluded)
