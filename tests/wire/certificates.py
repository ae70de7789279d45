"""Certificates for tests: a CA and what it signs, made afresh as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gatewayd.config.model import Certificate

_BORN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_DIES = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(key: Key, password: bytes = b"") -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@dataclass
class Authority:
    """A CA whose files lie in `folder`."""

    folder: Path
    common: str = "Test CA"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    made: int = 0

    def __post_init__(self) -> None:
        self.certificate = self._sign(_name(self.common), self.key.public_key(), [], ca=True)
        self.file = str(self.folder / f"{self.common.replace(' ', '-')}.pem")
        Path(self.file).write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        *names: str,
        common: str = "",
        key_type: str = "ec",
        password: bytes = b"",
        client: bool = False,
        until: datetime.datetime = _DIES,
    ) -> Certificate:
        """A certificate and key for DNS names and addresses, good `until` then."""
        key: Key
        if key_type in ("rsa", "weak"):
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048 if key_type == "rsa" else 1024)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
        self.made += 1
        subject = _name(common or next(iter(names), "nobody"))
        leaf = self._sign(subject, key.public_key(), list(names), client=client, until=until)
        stem = self.folder / f"{self.common.replace(' ', '-')}-{self.made}"
        cert, pem = stem.with_suffix(".crt"), stem.with_suffix(".key")
        cert.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        pem.write_bytes(_pem(key, password))
        return Certificate(cert=str(cert), key=str(pem))

    def _sign(
        self,
        subject: x509.Name,
        key: object,
        names: list[str],
        *,
        ca: bool = False,
        client: bool = False,
        until: datetime.datetime = _DIES,
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(_name(self.common))
            .public_key(key)  # type: ignore[arg-type]
            .serial_number(x509.random_serial_number())
            .not_valid_before(_BORN)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        if client:
            usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(usage, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
