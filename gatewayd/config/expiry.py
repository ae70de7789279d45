"""Certificates that have expired or will soon: warnings and no faults, for a late one must not take all else down."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gatewayd.config import certificates
from gatewayd.config.certificates import PemError
from gatewayd.config.faults import Faults, Locate, nowhere
from gatewayd.config.keys import Key
from gatewayd.config.model import Document
from gatewayd.errors import Fault

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

SOON = datetime.timedelta(days=14)
"""Less than this is left: time to look why nobody has renewed it."""


def expiring(document: Document, locate: Locate = nowhere, now: datetime.datetime | None = None) -> list[Fault]:
    """What is to be said, at `now` (aware), of certificates that we show. Files that cannot be read are passed over."""
    now = now or datetime.datetime.now(datetime.UTC)
    faults = Faults(locate)
    for key, path in _shown(document):
        try:
            message = _warning(certificates.check_chain(path), now)
        except PemError:
            continue
        if message:
            faults.add(key, message, path)
    return faults.found


def _shown(document: Document) -> Iterator[tuple[Key, str]]:
    """Each certificate file that callers or targets are shown, and where it is named."""
    for name, listener in document.listeners.items():
        for index, pair in enumerate(listener.tls.certificates if listener.tls else ()):
            yield ("listeners", name, "tls", "certificates", index, "cert"), pair.cert
    for name, upstream in document.upstreams.items():
        if upstream.tls is not None and upstream.tls.cert:
            yield ("upstreams", name, "tls", "cert"), upstream.tls.cert


def _warning(certificate: Certificate, now: datetime.datetime) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end <= now:
        return f"the certificate expired at {end:%Y-%m-%d %H:%M} UTC"
    if start > now:
        return f"the certificate is not valid before {start:%Y-%m-%d %H:%M} UTC"
    return f"the certificate expires at {end:%Y-%m-%d %H:%M} UTC" if end - now < SOON else ""
