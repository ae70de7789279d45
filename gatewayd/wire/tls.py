"""TLS at listeners and towards targets (docs/tls.md), with the standard library's `ssl`.

A listener's sockets are made once with one `SSLContext`, so that one never holds a certificate: at each ClientHello its
callback puts the context in place that serves the server name asked for (RFC 6066 §3). Exchanging the table behind
the callback is all a hot swap is; connections that are open keep what they have.

What OpenSSL takes from where, after a context was put in place: from the first one the protocol versions, whether a
client certificate is asked for, and the ticket keys; from the second the certificate, the client CAs, ALPN, ciphers.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import sys
from collections.abc import Callable
from typing import Any, Literal

from gatewayd.config.model import ListenerTls, UpstreamTls
from gatewayd.errors import ConfigError, Fault
from gatewayd.wire import tls_files, tls_tickets
from gatewayd.wire.tls_files import Chain

CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)
"""TLS 1.2 ciphers of Mozilla's intermediate profile: forward secrecy and AEAD throughout."""
ALPN = ["http/1.1"]

ClientAuth = Literal["none", "optional", "require"]
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}
_WITHOUT_ALERT = ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST")  # what OpenSSL answers with nothing
_LOWEST = {"modern": ssl.TLSVersion.TLSv1_3, "intermediate": ssl.TLSVersion.TLSv1_2}


class ServerSide(ssl.SSLObject):
    """The server's end of a connection; each listener has its own classes of it, one per kind of `client_auth`."""

    client_auth: ClientAuth = "none"
    failed: Callable[[ssl.SSLError], None]
    sessions_void = False
    """Whether sessions may be older than the rules for client certificates, and cannot be told apart."""
    server_name = ""
    """What the caller asked for, lower case; "" if nothing."""
    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """Go on with the handshake. A failure shows as a wish to read first, for only then uvloop sends the alert."""
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._failure = error
            self.failed(error)
            if error.reason in _WITHOUT_ALERT:
                raise
            raise ssl.SSLWantReadError from error
        if self.sessions_void and self.session_reused:
            raise ssl.SSLError(1, "the session is older than the rules for client certificates")


def _sides(failed: Callable[[ssl.SSLError], None]) -> dict[str, type[ServerSide]]:
    return {
        auth: type("ServerSide", (ServerSide,), {"client_auth": auth, "failed": staticmethod(failed)})
        for auth in _VERIFY
    }


class ListenerContexts:
    """TLS of one listener: `context` is for `loop.create_server`, for as long as the listener lives.

    `ticket_secret`, the same in all workers, lets them resume each other's sessions (`tickets_shared` says whether
    that came true); without it each worker resumes its own. `name` is the listener's. `failed` is called for each
    handshake that fails. Raises `ConfigError`; `path` is where in the document the faults are.
    """

    def __init__(
        self,
        config: ListenerTls,
        name: str = "",
        ticket_secret: bytes = b"",
        path: str = "tls",
        failed: Callable[[ssl.SSLError], None] = lambda error: None,
    ) -> None:
        self._name = name
        self._secret = ticket_secret or os.urandom(32)
        self._path = path
        self._sides = _sides(failed)
        self._table = _Table(config, path)
        self.context = _listening_context()
        self.context.sni_callback = self._choose
        self.tickets_shared = self._set_up(self._table) and bool(ticket_secret)

    @property
    def expires(self) -> dict[str, float]:
        """Each certificate file, and when it ceases to be valid: seconds since the epoch."""
        return self._table.expires

    def swap(self, config: ListenerTls) -> None:
        """Serve new connections by `config` from now on. Raises `ConfigError`, and then changes nothing."""
        self._serve(_Table(config, self._path))

    def adopt(self, prepared: ListenerContexts) -> None:
        """`swap` to what `prepared` has read already; cannot fail."""
        self._serve(prepared._table)

    def _serve(self, table: _Table) -> None:
        old, self._table = self._table, table
        if not self._set_up(table) and table.clients != old.clients:
            for side in self._sides.values():
                side.sessions_void = True

    def _set_up(self, table: _Table) -> bool:
        """Prepare `context` for a table; whether the keys of sessions could be set."""
        context, config = self.context, table.config
        context.minimum_version = _LOWEST[config.profile]
        context.verify_mode = _VERIFY[config.client_auth]
        context.sslobject_class = self._sides[config.client_auth]
        context.num_tickets = 2 if config.session_tickets else 0
        if config.session_tickets:
            context.options &= ~ssl.OP_NO_TICKET
        else:
            context.options |= ssl.OP_NO_TICKET
        purpose = "\0".join((self._name, *table.clients))
        return tls_tickets.share(context, self._secret, purpose.encode())

    def _choose(self, side: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        table = self._table
        if not isinstance(side, ServerSide) or side.client_auth != table.clients[0]:
            # It connected before a swap, and would not be asked for the certificate that is due now.
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        side.server_name = (name or "").lower()
        side.context = table.find(side.server_name)
        return None


class _Table:
    """A listener's contexts of one generation, by server name.

    `clients` says who must show which certificate: sessions made under other rules must not be resumed.
    """

    __slots__ = ("clients", "config", "default", "exact", "expires", "wildcard")

    def __init__(self, config: ListenerTls, path: str) -> None:
        faults: list[Fault] = []
        self.config = config
        trusted = _client_ca(config, path, faults)
        chains = [
            Chain(each, f"{path}.certificates[{i}]", _listening_context(), faults)
            for i, each in enumerate(config.certificates)
        ]
        if not chains:
            faults.append(Fault(f"{path}.certificates", "TLS needs at least one certificate"))
        for chain in chains[1:]:
            if chain.key_type and not chain.names:
                what = "it names no host, so it would never be used"
                faults.append(Fault(f"{chain.path}.cert", what, found=chain.file.cert))
        if faults:
            raise ConfigError(faults)
        self.clients = (config.client_auth, hashlib.sha256(trusted.encode()).hexdigest())
        self.expires = {chain.file.cert: chain.expires for chain in chains}
        by_name = _by_name(chains)
        contexts = {
            chosen: _serving(config.client_auth, trusted, [chains[i] for i in chosen], faults)
            for chosen in {(0,), *by_name.values()}
        }
        if faults:  # a file changed since it was looked into
            raise ConfigError(faults)
        first = by_name[chains[0].names[0]] if chains[0].names else (0,)
        self.default = contexts[first]
        self.exact = {name: contexts[chosen] for name, chosen in by_name.items() if name[0] != "*"}
        self.wildcard = {name[1:]: contexts[chosen] for name, chosen in by_name.items() if name[0] == "*"}

    def find(self, name: str) -> ssl.SSLContext:
        """The context for a server name: its own, else a wildcard's in place of the first label, else the first."""
        found = self.exact.get(name)
        if found is None and "." in name:
            found = self.wildcard.get(name[name.index(".") :])
        return found or self.default


def _by_name(chains: list[Chain]) -> dict[str, tuple[int, ...]]:
    """Which chains serve each name: the first of each type of key, so that ECDSA and RSA can stand side by side."""
    found: dict[str, dict[str, int]] = {}
    for i, chain in enumerate(chains):
        for name in chain.names:
            found.setdefault(name, {}).setdefault(chain.key_type, i)
    return {name: tuple(by_type.values()) for name, by_type in found.items()}


def _bare_context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Private CAs often miss what RFC 5280 wants of them; strict is a default of some Python versions and not of others.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate CA may be the one that is trusted
    context.set_alpn_protocols(ALPN)
    return context


def _listening_context() -> ssl.SSLContext:
    context = _bare_context(ssl.PROTOCOL_TLS_SERVER)
    # All ciphers offered are good, so the caller's taste counts: phones without AES instructions know what they like.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    return context


def _serving(client_auth: ClientAuth, trusted: str, chains: list[Chain], faults: list[Fault]) -> ssl.SSLContext:
    context = _listening_context()
    context.verify_mode = _VERIFY[client_auth]
    if trusted:
        context.load_verify_locations(cadata=trusted)
    for chain in chains:
        tls_files.load(context, chain.file.cert, chain.file.key, chain.path, faults)
    return context


def _client_ca(config: ListenerTls, path: str, faults: list[Fault]) -> str:
    """The PEM text of the CAs that callers' certificates must come from."""
    where = f"{path}.client_ca"
    if config.client_auth == "none":
        if config.client_ca:
            what = 'it is not looked at while client_auth is "none"'
            faults.append(Fault(where, what, allowed='"optional" or "require" beside it'))
        return ""
    if not config.client_ca:
        faults.append(Fault(where, f'client_auth = "{config.client_auth}" needs a file of CA certificates'))
        return ""
    return tls_files.trusted(config.client_ca, where, faults)


def upstream_context(config: UpstreamTls, path: str = "tls") -> ssl.SSLContext:
    """TLS towards an upstream's targets. Raises `ConfigError`; `path` is where in the document the faults are."""
    faults: list[Fault] = []
    context = _bare_context(ssl.PROTOCOL_TLS_CLIENT)
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca:
        trusted = tls_files.trusted(config.ca, f"{path}.ca", faults)
        if trusted:
            context.load_verify_locations(cadata=trusted)
    else:
        context.load_default_certs()
    if config.cert:
        tls_files.certificates(config.cert, f"{path}.cert", faults)
        tls_files.load(context, config.cert, config.key, path, faults)
    elif config.key:
        faults.append(Fault(f"{path}.cert", "a key needs its certificate"))
    if faults:
        raise ConfigError(faults)
    return context


def server_name(config: UpstreamTls, host: str) -> str:
    """The name to ask a target for and to verify (`server_hostname`); `host` is the target's, without port."""
    return (config.sni or host).strip("[]").removesuffix(".")


class TlsFacts:
    """What is known of a caller's TLS connection. Only `version` is looked up before somebody asks."""

    __slots__ = ("_fingerprint", "_object", "_subject", "concluded", "recorded", "version")

    def __init__(self, ssl_object: ssl.SSLObject) -> None:
        self._object = ssl_object
        self._fingerprint: bytes | None = None
        self._subject: str | None = None
        self.concluded: Any = None
        """What a policy made of the certificate, so that it is read once per connection."""
        self.recorded: Any = None
        """What the call log made of all this."""
        self.version = ssl_object.version() or ""
        """`TLSv1.2` or `TLSv1.3`."""

    @property
    def cipher(self) -> str:
        """OpenSSL's name of the cipher suite."""
        found = self._object.cipher()
        return found[0] if found else ""

    @property
    def server_name(self) -> str:
        """The server name the caller asked for, lower case; "" if it asked for none."""
        return self._object.server_name if isinstance(self._object, ServerSide) else ""

    @property
    def resumed(self) -> bool:
        """Whether the handshake took an earlier session up."""
        return bool(self._object.session_reused)

    @property
    def client_certificate(self) -> bytes:
        """The caller's verified certificate, DER; b"" if it showed none."""
        return self._object.getpeercert(binary_form=True) or b""

    @property
    def client_fingerprint(self) -> bytes:
        """SHA-256 of the caller's verified certificate; b"" if it showed none."""
        if self._fingerprint is None:
            der = self.client_certificate
            self._fingerprint = hashlib.sha256(der).digest() if der else b""
        return self._fingerprint

    @property
    def client_subject(self) -> str:
        """The subject of the caller's verified certificate (RFC 4514); "" if it showed none."""
        if self._subject is None:
            self._subject = _subject(self.client_certificate)
        return self._subject


def unraisable(found: sys.UnraisableHookArgs) -> None:
    """For `sys.unraisablehook`: a server name that is not ASCII fails its handshake, but need not fill stderr."""
    if not (isinstance(found.exc_value, UnicodeDecodeError) and isinstance(found.object, bytes)):
        sys.__unraisablehook__(found)


def peer_facts(ssl_object: ssl.SSLObject) -> TlsFacts:
    """The facts of a connection after its handshake (`transport.get_extra_info("ssl_object")`)."""
    return TlsFacts(ssl_object)


def _subject(der: bytes) -> str:
    from cryptography import x509

    return x509.load_der_x509_certificate(der).subject.rfc4514_string() if der else ""
