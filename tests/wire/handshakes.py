"""Real handshakes for tests of TLS: a uvloop server on a context, a blocking client in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, cast

import pytest
import uvloop

from gatewayd.config.model import Certificate, ListenerTls
from gatewayd.wire.tls import ListenerContexts, peer_facts
from tests.wire.certificates import Authority

SECRET = b"s" * 32
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["tls12", "tls13"])


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


@dataclass
class House:
    ca: Authority
    stranger: Authority
    first: Certificate
    wild: Certificate
    client: Certificate
    strange_client: Certificate

    def config(self, **options: Any) -> ListenerTls:
        if options.get("client_auth", "none") != "none":
            options.setdefault("client_ca", self.ca.file)
        return ListenerTls(**({"certificates": [self.first, self.wild]} | options))


class Greeter(asyncio.Protocol):
    """Says who is there, then answers each byte."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        facts = peer_facts(transport.get_extra_info("ssl_object"))
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(f"{facts.version}|{facts.server_name}|{facts.resumed}|{facts.client_subject}\n".encode())

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@contextlib.asynccontextmanager
async def served(contexts: ListenerContexts, protocol: type[Greeter] = Greeter) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=contexts.context, ssl_handshake_timeout=5)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@dataclass
class Seen:
    """What a client saw."""

    certificate: str
    greeting: list[str]
    resumed: bool
    session: ssl.SSLSession
    alpn: str | None


def client_context(house: House, certificate: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=house.ca.file)
    context.check_hostname = False
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2", "http/1.1"])
    if certificate is not None:
        context.load_cert_chain(certificate.cert, certificate.key)
    return context


def connect(
    port: int,
    context: ssl.SSLContext,
    name: str | None = "first.example",
    version: ssl.TLSVersion = V13,
    session: ssl.SSLSession | None = None,
) -> Seen:
    context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=name, session=session) as sock,
    ):
        data = sock.recv(1000)
        if not data:
            raise ssl.SSLError(1, "cut off")
        greeting = data.decode().strip().split("|")
        assert sock.session is not None
        subject = dict(pair for rdn in sock.getpeercert()["subject"] for pair in rdn)
        reused = bool(sock.session_reused)
        return Seen(subject["commonName"], greeting, reused, sock.session, sock.selected_alpn_protocol())


async def visit(port: int, context: ssl.SSLContext, *args: Any, **kwargs: Any) -> Seen:
    return await asyncio.to_thread(connect, port, context, *args, **kwargs)


async def refused(port: int, context: ssl.SSLContext, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        await asyncio.to_thread(connect, port, context, *args, **kwargs)
    return getattr(caught.value, "reason", None) or str(caught.value)


async def s_client(port: int, *arguments: str, speak: bytes = b"") -> str:
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(speak), 20)
    return out.decode(errors="replace")


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
