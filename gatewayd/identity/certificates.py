"""Client certificates as credentials: what one says of its holder, and whose it is.

The TLS handshake has shown that the caller holds the certificate's key, and that an authority the listener trusts
signed it. All that is left is to read it, once per connection; what was concluded stays with the connection
(`TlsFacts`), with the time until which it holds. Names are taken whole, each as its length says: what stands behind a
NUL is a part of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gatewayd.core.identity import Identity
from gatewayd.core.policy import Consumers
from gatewayd.identity.jose import Refused

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Name

By = Literal["fingerprint", "uri", "dns", "email", "subject"]
"""What a consumer may be recognised by."""
NAMES = 100
"""Alternative names looked at; further ones count for nothing."""


class Presented(NamedTuple):
    """What a certificate says. Times are seconds since the epoch."""

    names: dict[str, list[str]]
    """What consumers' certificates may be found under, by kind."""
    issuer: Name
    serial: int
    begins: float
    ends: float


def read(der: bytes, fingerprint: bytes) -> Presented:
    """The certificate `der`, whose SHA-256 is `fingerprint`. Raises `Refused` if it cannot be read in full."""
    from cryptography import x509

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on names and numbers that RFC 5280 does not like but that can be read
            certificate = x509.load_der_x509_certificate(der)
            names = {"fingerprint": [fingerprint.hex()], "subject": [certificate.subject.rfc4514_string()]}
            return Presented(
                names | _alternatives(certificate),
                certificate.issuer,
                certificate.serial_number,
                certificate.not_valid_before_utc.timestamp(),
                certificate.not_valid_after_utc.timestamp(),
            )
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Refused("certificate_unreadable") from None


def _alternatives(certificate: Certificate) -> dict[str, list[str]]:
    """Its alternative names (RFC 5280 §4.2.1.6)."""
    from cryptography import x509

    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {}
    dns = said.get_values_for_type(x509.DNSName)[:NAMES]
    uris = said.get_values_for_type(x509.UniformResourceIdentifier)[:NAMES]
    addresses = said.get_values_for_type(x509.RFC822Name)[:NAMES]
    if not all(each.isascii() for each in (*dns, *uris, *addresses)):  # some letters turn into ASCII in lower case
        raise Refused("certificate_unreadable")
    found = {"dns": dns, "uri": uris, "email": addresses}
    return {kind: [folded(kind, each) for each in names] for kind, names in found.items()}


def folded(kind: str, name: str) -> str:
    """The one spelling of an alternative name: case does not count in DNS names and mail domains (§7.2, §7.5)."""
    if kind == "dns":
        return name.lower()
    local, at, domain = name.rpartition("@")
    return local + at + domain.lower() if kind == "email" else name


class Concluded:
    """What was made of a connection's certificate, for as long as `rules` and `revoked` are those in force."""

    __slots__ = ("begins", "ends", "identity", "presented", "reason", "revoked", "rules")

    def __init__(self, rules: object, presented: Presented | None, revoked: object) -> None:
        self.rules = rules
        self.presented = presented  # None: there is none, or it cannot be read
        self.revoked = revoked
        self.identity: Identity | None = None
        self.reason = ""  # why there is no identity though there is a certificate
        self.begins, self.ends = 0.0, math.inf  # seconds since the epoch between which it may stay so

    def holds(self, rules: object, revoked: object, now: float) -> bool:
        """Whether it need not be looked at again."""
        return self.rules is rules and self.revoked is revoked and self.begins <= now < self.ends

    def within(self, begins: float, ends: float) -> None:
        """It holds no longer than that."""
        self.begins, self.ends = max(self.begins, begins), min(self.ends, ends)


class Certificates:
    """Whose certificates are."""

    def __init__(self, consumers: Consumers, by: Sequence[By], method: str) -> None:
        """`by`: what counts, the first that somebody is known under. `method` is the name of the policy."""
        self._consumers = consumers
        self._by = tuple(by)
        self._method = method

    def conclude(
        self, tls: Any, revoked: object, status: Callable[[Presented, float], tuple[str, float]], now: float
    ) -> Concluded:
        """What to make of the certificate shown on the connection `tls`, which remembers it.

        `status` says whether one is revoked ("" if not) and until when that may be believed, going by `revoked`.
        """
        before = tls.concluded
        presented, reason = (before.presented, before.reason) if isinstance(before, Concluded) else (None, "")
        if presented is None:
            presented, reason = _presented(tls)
        tls.concluded = concluded = Concluded(self, presented, revoked)
        concluded.reason = reason
        if presented is not None:
            concluded.reason = self._judge(concluded, presented, status, now)
        return concluded

    def _judge(
        self,
        concluded: Concluded,
        presented: Presented,
        status: Callable[[Presented, float], tuple[str, float]],
        now: float,
    ) -> str:
        if not presented.begins <= now < presented.ends:
            concluded.within(*((-math.inf, presented.begins) if now < presented.begins else (presented.ends, math.inf)))
            return "certificate_expired"
        reason, until = status(presented, now)
        concluded.within(presented.begins, min(presented.ends, until))
        return reason or self._find(concluded, presented, now)

    def _find(self, concluded: Concluded, presented: Presented, now: float) -> str:
        for kind, name in self._candidates(presented):
            found = self._consumers.by_credential("certificate", f"{kind}:{name}".encode(errors="surrogatepass"))
            if found is None:
                continue
            if now < found.not_before:
                concluded.within(-math.inf, found.not_before)
                continue
            if 0 < found.expires <= now:
                continue
            concluded.within(found.not_before, found.expires or math.inf)
            claims = {"x5t#S256": presented.names["fingerprint"][0], "subject": presented.names["subject"][0]}
            concluded.identity = Identity(found.consumer, self._method, found.id, found.scopes, claims)
            return ""
        return "certificate_unknown"

    def _candidates(self, presented: Presented) -> Iterator[tuple[str, str]]:
        """Every name that counts, the preferred ones first."""
        for kind in self._by:
            prefix = kind if kind in ("fingerprint", "subject") else f"san:{kind}"
            for name in presented.names.get(kind, ()):
                if name:
                    yield prefix, name


def _presented(tls: Any) -> tuple[Presented | None, str]:
    """The certificate shown on a connection, or why it cannot be read; neither if there is none."""
    der = tls.client_certificate
    if not der:
        return None, ""
    try:
        return read(der, tls.client_fingerprint), ""
    except Refused as error:
        return None, error.reason
