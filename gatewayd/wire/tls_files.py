"""The PEM files that TLS is configured with. What is wrong with them becomes faults, with the key that named them.

`cryptography` is imported when the first file is read: a worker without TLS does not pay for it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from gatewayd.config.model import Certificate
from gatewayd.errors import Fault

if TYPE_CHECKING:
    from cryptography import x509

_REFUSED = "OpenSSL refuses the certificate"


class Chain:
    """A certificate with its key, looked into and tried on `context`.

    `names` are the hosts it serves, `expires` is when it ends, seconds since the epoch; `key_type` is "" if it cannot
    be used, and `faults` then has the reason.
    """

    def __init__(self, file: Certificate, path: str, context: ssl.SSLContext, faults: list[Fault]) -> None:
        self.file = file
        self.path = path
        self.names: list[str] = []
        self.key_type = ""
        self.expires = 0.0
        before = len(faults)
        leaf = next(iter(certificates(file.cert, f"{path}.cert", faults)), None)
        load(context, file.cert, file.key, path, faults)
        if leaf is not None and len(faults) == before:
            self.names = _host_names(leaf)
            self.key_type = type(leaf.public_key()).__name__
            self.expires = leaf.not_valid_after_utc.timestamp()


def _host_names(leaf: x509.Certificate) -> list[str]:
    """DNS names in the subject alternative name (RFC 6125 §6.4); the common name is not looked at any more."""
    from cryptography import x509

    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName) if name]


def trusted(file: str, where: str, faults: list[Fault]) -> str:
    """The certificates of a PEM file as text for `load_verify_locations`."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return "".join(each.public_bytes(Encoding.PEM).decode() for each in certificates(file, where, faults))


def certificates(file: str, where: str, faults: list[Fault]) -> list[x509.Certificate]:
    """The certificates of a PEM file; none, and a fault at `where`, if it cannot be used."""
    from cryptography import x509

    try:
        with open(file, "rb") as stream:
            return x509.load_pem_x509_certificates(stream.read())
    except OSError as error:
        faults.append(Fault(where, f"the file cannot be read: {error.strerror}", found=file))
    except ValueError:
        faults.append(Fault(where, "the file holds no certificates in PEM form", found=file))
    return []


def load(context: ssl.SSLContext, cert: str, key: str, path: str, faults: list[Fault]) -> None:
    """Load a chain, whose certificates were looked into before, and its key. With `key` empty `cert` holds both."""
    where, file = (f"{path}.key", key) if key else (f"{path}.cert", cert)
    why = _unreadable_key(file)
    if not why and not any(fault.path == f"{path}.cert" for fault in faults):
        try:
            context.load_cert_chain(cert, key or None)
        except ssl.SSLError as error:
            why = _why(error.reason or "")
            where, file = (f"{path}.cert", cert) if why.startswith(_REFUSED) else (where, file)
        except OSError as error:
            why = f"the file cannot be read: {error.strerror}"
    if why and not any(fault.path == where for fault in faults):
        faults.append(Fault(where, why, found=file))


def _unreadable_key(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            locked = b"ENCRYPTED" in stream.read()
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    return "the key is encrypted, and nobody is there to type its passphrase" if locked else ""


def _why(reason: str) -> str:
    if "MISMATCH" in reason:
        return "it is not the key of the certificate"
    if reason.startswith(("EE_", "CA_")):
        return f"{_REFUSED}: {reason.lower()}"
    return "the file holds no private key in PEM form"
