"""Certificates, keys and authorities that a configuration names: whether they can serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


class PemError(ValueError):
    """A file that cannot serve; the message says why and holds nothing of its content."""


def read(path: str) -> bytes:
    """The content of a file. Raises `PemError` if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PemError(f"cannot be read: {error.strerror}") from None


def check_chain(path: str) -> Certificate:
    """The first certificate of a PEM file. Raises `PemError`. Whether it has expired is `config.expiry`'s to say."""
    return _certificates(path)[0]


def check_authorities(path: str) -> None:
    """Raise `PemError` unless the file holds certificates to trust. Expired ones among them do no harm."""
    _certificates(path)


def check_key(path: str, certificate: Certificate | None) -> None:
    """Raise `PemError` unless the file holds a private key, that of `certificate` if there is one."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:
        raise PemError("the key is encrypted: only plain keys can be read without asking") from None
    except (ValueError, UnsupportedAlgorithm):
        raise PemError("no PEM private key") from None
    if certificate is not None and key.public_key() != certificate.public_key():
        raise PemError("the key is not the certificate's")


def _certificates(path: str) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    data = read(path)
    try:
        return load_pem_x509_certificates(data)
    except ValueError:
        raise PemError("no PEM certificate") from None
