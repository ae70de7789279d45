"""Which certificates their authorities have taken back: revocation lists (CRL, RFC 5280 §5) in a file.

A list counts only if an authority we trust signed it. Who trusts several authorities and has a list of one only cannot
tell whether a certificate of another was taken back, so such a certificate is refused; and a list whose next issue is
overdue says nothing about today. The file is looked at again every few seconds while certificates are shown, in a
thread beside the exchanges; one that cannot be used leaves the lists in force that were read before.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gatewayd.errors import GatewaydError
from gatewayd.identity.certificates import Presented
from gatewayd.identity.fetch import Shared

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateRevocationList, Name

_log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""Seconds between two looks at the file."""
_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


class CrlError(GatewaydError):
    """A file of lists that cannot be used; the text says why."""


class Issued(NamedTuple):
    """One authority's list."""

    serials: frozenset[int]
    issued: float
    overdue: float
    """Seconds since the epoch when the next one should have been there."""


class Lists(NamedTuple):
    """The lists of a file as read at one time."""

    stamp: object
    by_issuer: Mapping[Name, Issued]


NONE = Lists(None, {})


def stamp(path: str) -> object:
    """Changes when the file does; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read(path: str, authorities: Iterable[Certificate]) -> Lists:
    """The lists in a file, PEM or DER, each signed by one of `authorities`. Raises `CrlError`."""
    from cryptography import x509

    mark = stamp(path)  # before the content: what changes meanwhile is read again
    known = list(authorities)
    found: dict[Name, Issued] = {}
    try:
        content = Path(path).read_bytes()
        blocks = _PEM.findall(content)
        if len(blocks) != content.count(b"-----BEGIN"):
            raise CrlError("holds something else than lists, or is cut short")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on numbers that RFC 5280 does not like but that can be read
            lists = [x509.load_pem_x509_crl(each) for each in blocks] or [x509.load_der_x509_crl(content)]
            for each in lists:
                issued = _issued(each, known)
                if each.issuer not in found or found[each.issuer].issued <= issued.issued:
                    found[each.issuer] = issued
    except OSError as error:
        raise CrlError(f"cannot be read: {error.strerror}") from None
    except (ValueError, x509.DuplicateExtension):
        raise CrlError("is no certificate revocation list, PEM or DER") from None
    return Lists(mark, found)


def _issued(crl: CertificateRevocationList, authorities: list[Certificate]) -> Issued:
    if not any(_signed(crl, authority) for authority in authorities):
        raise CrlError(f"no authority that is trusted signed the list of {crl.issuer.rfc4514_string()}")
    if not _is_complete(crl):
        raise CrlError(
            f"the list of {crl.issuer.rfc4514_string()} is but a part of one, or says what is not understood"
        )
    if crl.next_update_utc is None:
        raise CrlError(f"the list of {crl.issuer.rfc4514_string()} does not say when the next is due")
    serials = frozenset(each.serial_number for each in crl)
    return Issued(serials, crl.last_update_utc.timestamp(), crl.next_update_utc.timestamp())


def _signed(crl: CertificateRevocationList, authority: Certificate) -> bool:
    """Whether `authority` signed it, and may (RFC 5280 §6.3.3 f, g)."""
    from cryptography import x509

    if authority.subject != crl.issuer:
        return False
    try:
        if not authority.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass  # then its key may do anything (§4.2.1.3)
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except TypeError:  # a key that cannot sign
        return False


def _is_complete(crl: CertificateRevocationList) -> bool:
    """Whether it lists all end certificates of its issuer, and no others' (RFC 5280 §5.2.4, §5.2.5).

    An extension that is critical and not understood means that it must not be used (§5.2).
    """
    from cryptography import x509

    for extension in crl.extensions:
        scope = extension.value
        if isinstance(scope, x509.IssuingDistributionPoint):
            narrow = scope.only_contains_ca_certs or scope.only_contains_attribute_certs or scope.only_some_reasons
            if narrow or scope.indirect_crl:
                return False
        elif extension.critical:
            return False
    return True


class Revocations:
    """The lists in force."""

    def __init__(
        self,
        path: str,
        authorities: Iterable[Certificate],
        lists: Lists,
        accept_overdue: bool,
        monotonic: Callable[[], float],
    ) -> None:
        """`lists` are those of `path` as read already."""
        self.lists = lists
        self._path = path
        self._authorities = list(authorities)
        self._accept_overdue = accept_overdue
        self._monotonic = monotonic
        self._due = monotonic() + LOOK_EVERY
        self._stamp = lists.stamp  # of the file as last looked at, whether or not it could be used
        self._flight: Shared[None] = Shared()
        self._late: asyncio.Future[None] | None = None  # a look that has to be waited for

    def status(self, presented: Presented, now: float) -> tuple[str, float]:
        """Whether a certificate is refused ("" if not), and until when that holds. Seconds since the epoch."""
        issued = self.lists.by_issuer.get(presented.issuer)
        if issued is None:
            return "crl_missing", math.inf
        if presented.serial in issued.serials:
            return "certificate_revoked", math.inf
        if self._accept_overdue:
            return "", math.inf
        return ("", issued.overdue) if now < issued.overdue else ("crl_expired", math.inf)

    def look(self) -> asyncio.Future[None] | None:
        """Have the file looked at, if it is time. To be waited for only if nobody has looked for long.

        Otherwise a list that was replaced comes into force a moment later.
        """
        now = self._monotonic()
        if now >= self._due:
            idle = now >= self._due + LOOK_EVERY
            self._due = now + LOOK_EVERY
            looking = self._flight.begin("", self._look)
            self._late = looking if idle else None
        if self._late is None or self._late.done():
            return None
        return asyncio.shield(self._late)

    async def _look(self) -> None:
        if not await asyncio.to_thread(self._changed):
            return
        try:
            self.lists = await asyncio.to_thread(read, self._path, self._authorities)
            _log.info("%s: %d revocation lists are in force", self._path, len(self.lists.by_issuer))
        except CrlError as error:
            _log.warning("%s %s; the lists read before stay in force", self._path, error)

    def _changed(self) -> bool:
        before, self._stamp = self._stamp, stamp(self._path)
        return self._stamp != before
