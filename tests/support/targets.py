"""Scripted upstreams that are reached in other ways: over unix sockets, and over TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable

from gatewayd.config.model import Certificate
from tests.support.upstream import Peer, ScriptedUpstream


class UnixUpstream(ScriptedUpstream):
    """Listens on the unix socket `path`."""

    def __init__(self, path: str, script: Callable[[Peer], None] | None = None) -> None:
        super().__init__(script)
        self._listening.close()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen(64)


class TlsUpstream(ScriptedUpstream):
    """Speaks TLS with `context`; what was negotiated with each peer stands in `sessions`. Failed handshakes do not."""

    def __init__(self, context: ssl.SSLContext, script: Callable[[Peer], None] | None = None) -> None:
        super().__init__(script)
        self.context = context
        self.asked: list[str | None] = []  # server names, handshake by handshake
        self.sessions: list[ssl.SSLSocket] = []
        self.shown: list[str] = []  # common names of the certificates shown to it
        context.sni_callback = lambda sock, name, context: self.asked.append(name)

    def _serve(self, peer: Peer) -> None:
        with contextlib.suppress(OSError):
            peer.sock = wrapped = self.context.wrap_socket(peer.sock, server_side=True)
            self.sessions.append(wrapped)
            found = dict(pair for part in (wrapped.getpeercert() or {}).get("subject", ()) for pair in part)
            self.shown += [found["commonName"]] if found else []
            super()._serve(peer)
        peer.sock.close()


def serving(certificate: Certificate, client_ca: str = "") -> ssl.SSLContext:
    """A target's context that shows `certificate`, and asks for one signed by `client_ca` if that is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
