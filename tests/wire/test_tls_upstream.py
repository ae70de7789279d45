"""TLS towards targets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from gatewayd.config.model import Certificate, UpstreamTls
from gatewayd.errors import ConfigError
from gatewayd.wire.tls import ListenerContexts, server_name, upstream_context
from tests.wire.handshakes import (
    House,
    run,
)


@contextlib.asynccontextmanager
async def target(house: House, certificate: Certificate, client_ca: str = "") -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def dial(port: int, config: UpstreamTls, host: str = "first.example") -> ssl.SSLObject:
    context = upstream_context(config)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname=server_name(config, host)
    )
    try:
        if await reader.readline() != b"hello\n":
            raise ssl.SSLError(1, "cut off")
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return found
    finally:
        writer.close()


def test_targets_are_verified(house: House) -> None:
    async def main() -> None:
        async with target(house, house.first) as port:
            good = UpstreamTls(ca=house.ca.file)
            assert (await dial(port, good)).selected_alpn_protocol() == "http/1.1"
            assert await dial(port, msgspec.structs.replace(good, sni="first.example"), "10.0.0.7")
            assert await dial(port, UpstreamTls(verify=False), "elsewhere.example")
            for config, host in (
                (good, "elsewhere.example"),
                (good, "127.0.0.1"),
                (UpstreamTls(ca=house.stranger.file), "first.example"),
                (UpstreamTls(), "first.example"),
            ):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await dial(port, config, host)

    run(main())


def test_a_target_known_by_its_address_is_verified_by_it(house: House) -> None:
    async def main() -> None:
        async with target(house, house.ca.issue("127.0.0.1", "::1")) as port:
            for host in ("127.0.0.1", "[::1]"):
                assert await dial(port, UpstreamTls(ca=house.ca.file), host)

    run(main())


def test_a_client_certificate_is_shown_to_targets(house: House) -> None:
    async def main() -> None:
        async with target(house, house.first, house.ca.file) as port:
            shown = UpstreamTls(ca=house.ca.file, cert=house.client.cert, key=house.client.key)
            assert await dial(port, shown)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await dial(port, UpstreamTls(ca=house.ca.file))

    run(main())


def test_certificate_and_key_may_share_a_file(house: House, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(house.client.cert).read_bytes() + Path(house.client.key).read_bytes())
    assert upstream_context(UpstreamTls(cert=str(both)))
    assert ListenerContexts(house.config(certificates=[Certificate(cert=str(both), key="")]))


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"ca": "/missing"}, ["tls.ca"]),
        ({"cert": "/missing"}, ["tls.cert"]),
        ({"cert": "/missing", "key": "/missing-too"}, ["tls.cert", "tls.key"]),
        ({"key": "/missing"}, ["tls.cert"]),
        ({"ca": "/missing", "key": "/missing"}, ["tls.ca", "tls.cert"]),
    ],
)
def test_faults_towards_targets(options: dict[str, str], paths: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        upstream_context(UpstreamTls(**options))
    assert [fault.path for fault in caught.value.faults] == paths


@pytest.mark.parametrize(
    ("sni", "host", "expected"),
    [
        ("", "api.example", "api.example"),
        ("", "api.example.", "api.example"),
        ("", "[2001:db8::1]", "2001:db8::1"),
        ("other.example", "api.example", "other.example"),
    ],
)
def test_server_name(sni: str, host: str, expected: str) -> None:
    assert server_name(UpstreamTls(sni=sni), host) == expected
