"""Certificates by server name, profiles, client certificates, hot swap."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from gatewayd.config.model import Certificate
from gatewayd.errors import ConfigError
from gatewayd.wire.tls import ListenerContexts, TlsFacts
from tests.wire.handshakes import (
    SECRET,
    V12,
    VERSIONS,
    House,
    client_context,
    refused,
    run,
    served,
    visit,
)


@VERSIONS
@pytest.mark.parametrize(
    ("name", "certificate"),
    [
        ("first.example", "first.example"),
        ("FIRST.example", "first.example"),
        ("a.wild.example", "*.wild.example"),
        ("A.Wild.Example", "*.wild.example"),
        ("deep.wild.example", "first.example"),  # exact before wildcard
        ("a.b.wild.example", "first.example"),  # a wildcard stands for one label
        ("wild.example", "first.example"),
        ("elsewhere.example", "first.example"),
        ("localhost", "first.example"),
        (None, "first.example"),
    ],
)
def test_the_certificate_follows_the_server_name(
    house: House, name: str | None, certificate: str, version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        async with served(ListenerContexts(house.config())) as port:
            seen = await visit(port, client_context(house), name, version)
        assert seen.certificate == certificate
        assert seen.greeting == [f"TLSv1.{2 if version == V12 else 3}", (name or "").lower(), "False", ""]
        assert seen.alpn == "http/1.1"

    run(main())


def test_an_ecdsa_and_an_rsa_certificate_stand_side_by_side(house: House) -> None:
    pair = [
        house.ca.issue("both.example", common="elliptic"),
        house.ca.issue("both.example", common="classic", key_type="rsa"),
    ]

    async def main() -> None:
        async with served(ListenerContexts(house.config(certificates=pair))) as port:
            for cipher, common in (("ECDHE-RSA-AES128-GCM-SHA256", "classic"), ("ECDHE+ECDSA", "elliptic")):
                for name in ("both.example", None):
                    context = client_context(house)
                    context.set_ciphers(cipher)
                    assert (await visit(port, context, name, V12)).certificate == common

    run(main())


def test_of_two_certificates_for_a_name_the_first_serves(house: House) -> None:
    second = house.ca.issue("first.example", "other.example", common="second")

    async def main() -> None:
        async with served(ListenerContexts(house.config(certificates=[house.first, second]))) as port:
            assert (await visit(port, client_context(house), "first.example")).certificate == "first.example"
            assert (await visit(port, client_context(house), "other.example")).certificate == "second"

    run(main())


def test_profiles_set_the_lowest_version(house: House) -> None:
    async def main() -> None:
        async with served(ListenerContexts(house.config(profile="modern"))) as port:
            assert (await visit(port, client_context(house))).greeting[0] == "TLSv1.3"
            assert "PROTOCOL_VERSION" in await refused(port, client_context(house), version=V12)
        async with served(ListenerContexts(house.config())) as port:
            old = client_context(house)
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.minimum_version = ssl.TLSVersion.TLSv1_1
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                reason = await refused(port, old, version=ssl.TLSVersion.TLSv1_1)
            assert "PROTOCOL_VERSION" in reason

    run(main())


def test_tls_1_2_has_forward_secrecy_and_aead_only(house: House) -> None:
    async def main() -> None:
        async with served(ListenerContexts(house.config())) as port:
            for cipher in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
                context = client_context(house)
                context.set_ciphers(cipher)
                assert "HANDSHAKE_FAILURE" in await refused(port, context, version=V12)

    run(main())


def test_the_callers_cipher_order_counts(house: House) -> None:
    async def main() -> None:
        contexts = ListenerContexts(house.config())
        async with served(contexts) as port:
            for cipher in ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384"):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=preferring(house, cipher), server_hostname="first.example"
                )
                await reader.readline()
                assert writer.get_extra_info("cipher")[0] == cipher
                writer.close()

    def preferring(house: House, cipher: str) -> ssl.SSLContext:
        context = client_context(house)
        context.maximum_version = V12
        context.set_ciphers(f"{cipher}:ECDHE+AESGCM:ECDHE+CHACHA20")
        return context

    run(main())


@VERSIONS
@pytest.mark.parametrize("name", ["first.example", "a.wild.example", None])
def test_a_required_client_certificate_cannot_be_left_out_by_any_name(
    house: House, name: str | None, version: ssl.TLSVersion
) -> None:
    failures: list[str] = []

    async def main() -> None:
        config = house.config(client_auth="require")
        async with served(ListenerContexts(config, failed=lambda error: failures.append(error.reason))) as port:
            seen = await visit(port, client_context(house, house.client), name, version)
            assert seen.greeting[3] == "CN=partner-7"
            nobody = await refused(port, client_context(house), name, version)
            strange = await refused(port, client_context(house, house.strange_client), name, version)
        # The caller is told why, which uvloop alone does not do.
        assert "HANDSHAKE_FAILURE" in nobody if version == V12 else "CERTIFICATE_REQUIRED" in nobody
        assert "UNKNOWN_CA" in strange

    run(main())
    assert failures == ["PEER_DID_NOT_RETURN_A_CERTIFICATE", "CERTIFICATE_VERIFY_FAILED"]


@VERSIONS
def test_an_optional_client_certificate_must_be_good_if_shown(house: House, version: ssl.TLSVersion) -> None:
    async def main() -> None:
        async with served(ListenerContexts(house.config(client_auth="optional"))) as port:
            assert (await visit(port, client_context(house), "a.wild.example", version)).greeting[3] == ""
            known = client_context(house, house.client)
            assert (await visit(port, known, "a.wild.example", version)).greeting[3] == "CN=partner-7"
            strange = client_context(house, house.strange_client)
            assert "UNKNOWN_CA" in await refused(port, strange, "a.wild.example", version)

    run(main())


def test_nobody_is_asked_for_a_certificate_by_default(house: House) -> None:
    async def main() -> None:
        async with served(ListenerContexts(house.config())) as port:
            assert (await visit(port, client_context(house, house.client))).greeting[3] == ""

    run(main())


def test_a_swap_changes_new_connections_and_leaves_open_ones(house: House) -> None:
    fresh = [house.ca.issue("first.example", common="new first"), house.ca.issue("*.new.example")]

    async def main() -> None:
        contexts = ListenerContexts(house.config(), "https", SECRET)
        async with served(contexts) as port:
            context = client_context(house)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname="first.example"
            )
            await reader.readline()
            contexts.swap(house.config(certificates=fresh))
            writer.write(b"still here\n")
            assert await reader.readline() == b"still here\n"
            writer.close()
            for name, common in (
                ("first.example", "new first"),
                ("a.new.example", "*.new.example"),
                ("a.wild.example", "new first"),
                (None, "new first"),
            ):
                assert (await visit(port, context, name)).certificate == common

    run(main())


def test_a_swap_that_fails_changes_nothing(house: House, tmp_path: Path) -> None:
    async def main() -> None:
        contexts = ListenerContexts(house.config(), "https", SECRET)
        bad = Certificate(cert=str(tmp_path / "none.crt"), key=house.first.key)
        with pytest.raises(ConfigError):
            contexts.swap(house.config(certificates=[bad], profile="modern"))
        async with served(contexts) as port:
            assert (await visit(port, client_context(house), version=V12)).certificate == "first.example"

    run(main())


def test_what_was_read_before_can_be_adopted(house: House) -> None:
    async def main() -> None:
        contexts = ListenerContexts(house.config(), "https", SECRET)
        prepared = ListenerContexts(house.config(certificates=[house.wild], profile="modern"), "https", SECRET)
        async with served(contexts) as port:
            contexts.adopt(prepared)
            assert (await visit(port, client_context(house))).certificate == "*.wild.example"
            assert "PROTOCOL_VERSION" in await refused(port, client_context(house), version=V12)

    run(main())


def test_a_connection_from_before_a_swap_cannot_shake_hands_by_the_old_rules(house: House) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made = loop.create_future()
        contexts = ListenerContexts(house.config(), "https", SECRET)
        wrapped = contexts.context.sslobject_class

        class Noticing(wrapped):  # type: ignore[misc, valid-type]
            @classmethod
            def _create(cls, *args: Any, **kwargs: Any) -> Any:
                made.set_result(None)
                return super()._create(*args, **kwargs)

        contexts.context.sslobject_class = Noticing
        async with served(contexts) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
                await made
                contexts.swap(house.config(client_auth="require"))
                with pytest.raises(ssl.SSLError):
                    await asyncio.to_thread(client_context(house).wrap_socket, plain, server_hostname="x")

    run(main())


@pytest.mark.parametrize("der", [b"a certificate", None])
def test_a_certificate_is_asked_for_by_whom_it_concerns_and_hashed_once(der: bytes | None) -> None:
    class Connection:
        asked = 0

        def version(self) -> str:
            return "TLSv1.3"

        def getpeercert(self, binary_form: bool) -> bytes | None:
            self.asked += binary_form
            return der

    connection = Connection()
    facts = TlsFacts(connection)  # type: ignore[arg-type]
    assert (connection.asked, facts.concluded) == (0, None)
    assert {facts.client_fingerprint for _ in range(3)} == {hashlib.sha256(der).digest() if der else b""}
    assert connection.asked == 1
