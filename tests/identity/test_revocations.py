"""Revocation lists: which are taken, what they say, and what becomes of a file that changes."""

from __future__ import annotations

import asyncio
import datetime
import logging
import math
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gatewayd.core.clock import FakeClock
from gatewayd.identity.certificates import read as read_certificate
from gatewayd.identity.revocations import LOOK_EVERY, CrlError, Revocations, read
from tests.support.holders import DAY, certificate, name, pem, revocations, shown
from tests.support.tokens import NOW
from tests.wire.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who signs."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """Who signs elsewhere."""
    return Authority(tmp_path_factory.mktemp("stranger"), "Stranger")


@pytest.fixture
def file(tmp_path):
    """Where lists stand."""
    return tmp_path / "lists.crl"


def presented(cert):
    """What a certificate says."""
    tls = shown(cert)
    return read_certificate(tls.client_certificate, tls.client_fingerprint)


class Held:
    """Lists in force."""

    def __init__(self, file, *authorities, accept=False):
        self.clock = FakeClock()
        trusted = [each.certificate for each in authorities]
        self.revocations = Revocations(str(file), trusted, read(str(file), trusted), accept, self.clock.monotonic)

    def status(self, cert, now=NOW):
        """What they say about a certificate."""
        return self.revocations.status(presented(cert), now)


@pytest.mark.parametrize("form", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_what_was_taken_back_is_refused(authority, file, form):
    good, bad = certificate(authority), certificate(authority)
    file.write_bytes(revocations(authority, certificate(authority), bad).public_bytes(form))
    held = Held(file, authority)
    assert held.status(good) == ("", NOW + DAY)
    assert held.status(bad) == ("certificate_revoked", math.inf)


def test_a_list_may_be_empty(authority, file):
    file.write_bytes(pem(revocations(authority)))
    assert Held(file, authority).status(certificate(authority))[0] == ""


def test_each_authority_has_its_own_list(authority, stranger, file):
    one, other = certificate(authority, serial=7), certificate(stranger, serial=7)
    file.write_bytes(b"# some text\n" + pem(revocations(authority, one), revocations(stranger)))
    held = Held(file, authority, stranger)
    assert held.status(one)[0] == "certificate_revoked"
    assert held.status(other)[0] == "", "a number counts for one issuer only"


def test_without_a_list_of_its_issuer_nothing_is_known_about_a_certificate(authority, stranger, file):
    file.write_bytes(pem(revocations(authority)))
    assert Held(file, authority, stranger).status(certificate(stranger)) == ("crl_missing", math.inf)
    assert Held(file, authority, stranger, accept=True).status(certificate(stranger))[0] == "crl_missing"


def test_a_list_that_is_overdue_says_nothing_about_today(authority, file):
    good, bad = certificate(authority), certificate(authority)
    file.write_bytes(pem(revocations(authority, bad, due=NOW + 60)))
    held, lenient = Held(file, authority), Held(file, authority, accept=True)
    assert [held.status(good, NOW + 59)[0], held.status(good, NOW + 60)[0]] == ["", "crl_expired"]
    assert lenient.status(good, NOW + 60) == ("", math.inf)
    assert [each.status(bad, NOW + 60)[0] for each in (held, lenient)] == ["certificate_revoked"] * 2


def test_of_two_lists_of_one_authority_the_newer_counts(authority, file):
    cert = certificate(authority)
    old, new = revocations(authority, issued=NOW - 2 * DAY), revocations(authority, cert)
    for order in ((old, new), (new, old)):
        file.write_bytes(pem(*order))
        assert Held(file, authority).status(cert)[0] == "certificate_revoked"


def scope(**more):
    """An issuing distribution point."""
    plain = dict.fromkeys(
        ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False
    )
    whole = {"full_name": None, "relative_name": None, "only_some_reasons": None, **plain, **more}
    return x509.IssuingDistributionPoint(**whole)


REASONS = frozenset({x509.ReasonFlags.key_compromise})
PARTS = {
    "a delta": (x509.DeltaCRLIndicator(1), True),
    "authorities only": (scope(only_contains_ca_certs=True), True),
    "of others": (scope(indirect_crl=True), True),
    "attributes": (scope(only_contains_attribute_certs=True), True),
    "some reasons": (scope(only_some_reasons=REASONS), True),
    "what nobody knows": (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), True),
}


@pytest.mark.parametrize("extension", PARTS.values(), ids=PARTS)
def test_a_list_that_is_but_a_part_is_not_taken(authority, file, extension):
    file.write_bytes(pem(revocations(authority, extensions=(extension,))))
    with pytest.raises(CrlError, match="is but a part"):
        Held(file, authority)


@pytest.mark.parametrize(
    "extension",
    [
        (scope(only_contains_user_certs=True), True),
        (x509.CRLNumber(4), False),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\0"), False),
    ],
)
def test_other_extensions_do_no_harm(authority, file, extension):
    cert = certificate(authority)
    file.write_bytes(pem(revocations(authority, cert, extensions=(extension,))))
    assert Held(file, authority).status(cert)[0] == "certificate_revoked"


def test_a_list_that_nobody_we_trust_signed_is_not_taken(authority, stranger, file):
    forged = revocations(authority, key=stranger.key)
    for content, trusted in ((forged, authority), (revocations(stranger), authority), (forged, stranger)):
        file.write_bytes(pem(content))
        with pytest.raises(CrlError, match="no authority that is trusted"):
            Held(file, trusted)
    with pytest.raises(CrlError):
        read(str(file), [])


def test_an_authority_that_may_not_sign_lists(authority, file, tmp_path):
    usages = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage = dict.fromkeys((*usages, "crl_sign", "encipher_only", "decipher_only"), False) | {"key_cert_sign": True}
    limited = Authority(tmp_path)
    limited.certificate = (
        x509.CertificateBuilder()
        .subject_name(limited.certificate.subject)
        .issuer_name(limited.certificate.subject)
        .public_key(limited.key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .sign(limited.key, hashes.SHA256())
    )
    file.write_bytes(pem(revocations(limited)))
    with pytest.raises(CrlError):
        Held(file, limited)


def test_an_authority_of_the_same_name_and_another_key(authority, file, tmp_path):
    twin = Authority(tmp_path)
    assert twin.certificate.subject == authority.certificate.subject
    file.write_bytes(pem(revocations(authority)))
    with pytest.raises(CrlError):
        Held(file, twin)
    assert Held(file, twin, authority).status(certificate(authority))[0] == ""


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", b"\x30\x03abc"]
)
def test_a_file_of_something_else(authority, file, content):
    file.write_bytes(content)
    with pytest.raises(CrlError):
        Held(file, authority)


def test_a_file_that_is_not_there(authority, file):
    with pytest.raises(CrlError, match="No such file"):
        read(str(file), [authority.certificate])


def test_a_list_cannot_be_cut_short(authority, file):
    content = pem(revocations(authority, certificate(authority)))
    file.write_bytes(content + content[: len(content) // 2])
    with pytest.raises(CrlError):
        Held(file, authority)


# -- a file that changes ----------------------------------------------------------------------------------------------


def replace(file, content, mark):
    """Put a new file in its place, as `mv` does; `mark` tells its time from others'."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    os.utime(new, ns=(mark, mark))
    new.replace(file)


def looked(held, seconds):
    """Let time pass and a request come; whether it had to wait."""

    async def run():
        held.clock.advance(seconds)
        looking = held.revocations.look()
        if looking is not None:
            await looking
            return True
        while len(held.revocations._flight):
            await asyncio.to_thread(lambda: None)
        return False

    return asyncio.run(run())


def test_a_list_that_is_replaced_comes_into_force(authority, file):
    cert = certificate(authority)
    file.write_bytes(pem(revocations(authority)))
    held = Held(file, authority)
    before = held.revocations.lists
    replace(file, pem(revocations(authority, cert)), 1)
    assert not looked(held, LOOK_EVERY - 0.1)
    assert held.status(cert)[0] == "", "nobody has looked yet"
    assert not looked(held, 0.1), "it is looked at beside the request"
    assert held.status(cert)[0] == "certificate_revoked"
    assert held.revocations.lists is not before


def test_after_a_pause_a_request_waits_for_the_look(authority, file):
    cert = certificate(authority)
    file.write_bytes(pem(revocations(authority)))
    held = Held(file, authority)
    replace(file, pem(revocations(authority, cert)), 1)
    assert looked(held, 3600)
    assert held.status(cert)[0] == "certificate_revoked"


def test_all_that_come_after_a_pause_wait(authority, file):
    file.write_bytes(pem(revocations(authority)))
    held = Held(file, authority)

    async def run():
        held.clock.advance(3600)
        waiting = [held.revocations.look() for _ in range(3)]
        assert all(each is not None for each in waiting)
        await asyncio.gather(*waiting)
        assert held.revocations.look() is None

    asyncio.run(run())


def test_a_file_that_stays_is_not_read_again(authority, file):
    file.write_bytes(pem(revocations(authority)))
    held = Held(file, authority)
    before = held.revocations.lists
    assert looked(held, 3600)
    assert held.revocations.lists is before


def test_what_cannot_be_used_leaves_the_old_lists_in_force(authority, stranger, file, caplog):
    cert = certificate(authority)
    file.write_bytes(pem(revocations(authority, cert)))
    held = Held(file, authority)
    for mark, content in enumerate((b"nonsense", pem(revocations(authority, key=stranger.key)), None), 1):
        if content is None:
            file.unlink()
        else:
            replace(file, content, mark)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            looked(held, 3600)
            looked(held, 3600)
        assert len(caplog.records) == 1, "it is said once"
        assert "stay in force" in caplog.text
        assert held.status(cert)[0] == "certificate_revoked"
        assert held.status(certificate(authority))[0] == ""
    replace(file, pem(revocations(authority)), 9)
    looked(held, 3600)
    assert held.status(cert)[0] == ""


def test_names_are_compared_as_names(file, tmp_path):
    """However their letters are encoded (RFC 5280 §7.1)."""
    printable = x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test CA", x509.name._ASN1Type.PrintableString)
    authority = Authority(tmp_path)
    other = x509.Name([printable])
    assert other.public_bytes() != authority.certificate.subject.public_bytes()
    builder = x509.CertificateRevocationListBuilder().issuer_name(other)
    builder = builder.last_update(datetime.datetime(2026, 1, 1)).next_update(datetime.datetime(2100, 1, 1))
    file.write_bytes(pem(builder.sign(authority.key, hashes.SHA256())))
    assert Held(file, authority).status(certificate(authority))[0] == ""


def test_keys_that_sign_no_lists(authority, file, tmp_path):
    from cryptography.hazmat.primitives.asymmetric import x25519

    odd = Authority(tmp_path)
    exchange = x25519.X25519PrivateKey.generate().public_key()
    odd.certificate = odd._sign(odd.certificate.subject, exchange, [], ca=True)
    file.write_bytes(pem(revocations(authority)))
    assert odd.certificate.subject == name(cn="Test CA")
    with pytest.raises(CrlError):
        Held(file, odd)
    assert isinstance(authority.key, ec.EllipticCurvePrivateKey)
