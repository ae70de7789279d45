"""Client certificates and revocation lists, right ones and odd ones, signed by a test's authority."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.tokens import NOW
from tests.wire.certificates import Authority

DAY = 86_400
BEGINS, ENDS = NOW - 3650 * DAY, NOW + 7300 * DAY
"""When certificates hold; handshakes go by the true time."""
KEY = ec.generate_private_key(ec.SECP256R1())
"""Of all certificates made here."""


def at(seconds: float) -> datetime.datetime:
    """A time, from seconds since the epoch."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def name(**parts: str) -> x509.Name:
    """A distinguished name of `cn`, `o`, `c` in this order of giving."""
    kinds = {"cn": NameOID.COMMON_NAME, "o": NameOID.ORGANIZATION_NAME, "c": NameOID.COUNTRY_NAME}
    return x509.Name([x509.NameAttribute(kinds[kind], value) for kind, value in parts.items()])


def certificate(
    authority: Authority,
    *names: x509.GeneralName,
    subject: x509.Name | None = None,
    begins: float = BEGINS,
    ends: float = ENDS,
    serial: int = 0,
    raw_names: bytes = b"",
) -> x509.Certificate:
    """A certificate for `KEY`; `raw_names` is the DER of its alternative names, whatever that says."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(cn="acme") if subject is None else subject)
        .issuer_name(authority.certificate.subject)
        .public_key(KEY.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(at(begins))
        .not_valid_after(at(ends))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if raw_names:
        oid = x509.oid.ExtensionOID.SUBJECT_ALTERNATIVE_NAME
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, raw_names), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def sequence(*items: tuple[int, bytes]) -> bytes:
    """DER of a sequence of short items, each with its tag."""
    content = b"".join(bytes((tag, len(data))) + data for tag, data in items)
    return bytes((0x30, len(content))) + content


def shown(cert: x509.Certificate | None) -> Any:
    """What policies know of a connection on which a certificate was shown (`wire.tls.TlsFacts`)."""
    der = cert.public_bytes(serialization.Encoding.DER) if cert is not None else b""
    print_ = hashlib.sha256(der).digest() if der else b""
    return SimpleNamespace(client_certificate=der, client_fingerprint=print_, concluded=None)


def fingerprint(cert: x509.Certificate) -> str:
    """SHA-256, in hexadecimal."""
    return cert.fingerprint(hashes.SHA256()).hex()


def revocations(
    authority: Authority,
    *revoked: x509.Certificate,
    issued: float = NOW - DAY,
    due: float | None = NOW + DAY,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
    key: Any = None,
) -> x509.CertificateRevocationList:
    """A list of the authority's, signed by `key` if that is another."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(at(issued)).next_update(at(NOW + DAY if due is None else due))
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(at(issued)).build()
        builder = builder.add_revoked_certificate(entry)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key or authority.key, hashes.SHA256())


def pem(*things: Any) -> bytes:
    """Certificates or lists, one after the other."""
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in things)


def caller(authority: Authority, folder: Path, cert: x509.Certificate | None = None) -> ssl.SSLContext:
    """TLS of a caller that trusts `authority` and shows `cert`."""
    context = ssl.create_default_context(cafile=authority.file)
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cert is not None:
        file = folder / f"{fingerprint(cert)}.pem"
        key = KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(pem(cert) + key)
        context.load_cert_chain(file)
    return context
