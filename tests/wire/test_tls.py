"""TLS with real handshakes: a uvloop server on the context, a blocking client in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import uvloop

from gatewayd.config.model import Certificate, ListenerTls, UpstreamTls
from gatewayd.errors import ConfigError
from gatewayd.wire import tls, tls_tickets
from gatewayd.wire.tls import ListenerContexts, peer_facts, server_name, upstream_context
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


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("certificates")
    ca, stranger = Authority(folder), Authority(folder, "Strange CA")
    return House(
        ca,
        stranger,
        first=ca.issue("first.example", "deep.wild.example"),
        wild=ca.issue("*.wild.example"),
        client=ca.issue(common="partner-7", client=True),
        strange_client=stranger.issue(common="partner-7", client=True),
    )


class Greeter(asyncio.Protocol):
    """Says who is there, then answers each byte."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        facts = peer_facts(transport.get_extra_info("ssl_object"))
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(
            f"{facts.version}|{facts.server_name}|{facts.resumed}|{facts.client_subject}\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@contextlib.asynccontextmanager
async def served(contexts: ListenerContexts) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Greeter, "127.0.0.1", 0, ssl=contexts.context, ssl_handshake_timeout=5)
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


# -- certificates by server name ------------------------------------------------------------------------------


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


# -- profiles -------------------------------------------------------------------------------------------------


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


# -- client certificates --------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("name", ["first.example", "a.wild.example", None])
def test_a_required_client_certificate_cannot_be_left_out_by_any_name(
    house: House, name: str | None, version: ssl.TLSVersion
) -> None:
    failures: list[str] = []

    async def main() -> None:
        config = house.config(client_auth="require")
        async with served(
            ListenerContexts(config, failed=lambda error: failures.append(error.reason))
        ) as port:
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


# -- sessions -------------------------------------------------------------------------------------------------


@VERSIONS
def test_workers_resume_each_others_sessions(house: House, version: ssl.TLSVersion) -> None:
    if tls_tickets._library() is None:
        pytest.skip("this Python's OpenSSL cannot be reached")

    async def main() -> None:
        workers = [ListenerContexts(house.config(), "https", SECRET) for _ in range(2)]
        assert all(each.tickets_shared for each in workers)
        async with served(workers[0]) as one, served(workers[1]) as two:
            context, session = client_context(house), None
            for port, resumed in ((one, False), (two, True), (one, True)):
                seen = await visit(port, context, "a.wild.example", version, session)
                session = seen.session
                assert (seen.resumed, seen.greeting[2]) == (resumed, str(resumed))

    run(main())


@VERSIONS
@pytest.mark.parametrize(
    ("name", "secret", "options"),
    [
        ("https", b"t" * 32, {}),
        ("https", b"", {}),
        ("partners", SECRET, {}),
        ("https", SECRET, {"client_auth": "optional"}),
        ("https", SECRET, {"session_tickets": False}),
    ],
)
def test_sessions_of_others_are_not_resumed(
    house: House, name: str, secret: bytes, options: dict[str, Any], version: ssl.TLSVersion
) -> None:
    async def main() -> None:
        ours = ListenerContexts(house.config(), "https", SECRET)
        others = ListenerContexts(house.config(**options), name, secret)
        async with served(ours) as one, served(others) as two:
            context = client_context(house)
            session = (await visit(one, context, version=version)).session
            assert not (await visit(two, context, version=version, session=session)).resumed

    run(main())


@pytest.mark.parametrize(
    ("version", "reachable"),
    [(V12, True), (V13, True), (V13, False)],
    ids=["tls12", "tls13", "tls13, keys out of reach"],
)
def test_without_tickets_nothing_is_resumed(
    house: House, version: ssl.TLSVersion, reachable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not reachable:
        monkeypatch.setattr(tls_tickets, "_library", lambda: None)

    async def main() -> None:
        async with served(ListenerContexts(house.config(session_tickets=False), "https", SECRET)) as port:
            context = client_context(house)
            session = (await visit(port, context, version=version)).session
            assert not session.has_ticket
            assert not (await visit(port, context, version=version, session=session)).resumed

    run(main())


@VERSIONS
@pytest.mark.parametrize("reachable", [True, False], ids=["keys set", "keys out of reach"])
def test_stricter_rules_void_the_sessions_from_before(
    house: House, version: ssl.TLSVersion, reachable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed session shows no certificate, so one from before must not open the door."""
    if not reachable:
        monkeypatch.setattr(tls_tickets, "_library", lambda: None)

    async def main() -> None:
        contexts = ListenerContexts(house.config(), "https", SECRET)
        async with served(contexts) as port:
            context = client_context(house)
            session = (await visit(port, context, version=version)).session
            assert (await visit(port, context, version=version, session=session)).resumed
            contexts.swap(house.config(client_auth="require"))
            assert await refused(port, context, version=version, session=session)
            seen = await visit(port, client_context(house, house.client), version=version)
            assert seen.greeting[3] == "CN=partner-7"

    run(main())


def test_out_of_reach_keys_are_no_fault(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_tickets, "_library", lambda: None)
    assert not ListenerContexts(house.config(), "https", SECRET).tickets_shared


# -- swapping -------------------------------------------------------------------------------------------------


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
        prepared = ListenerContexts(
            house.config(certificates=[house.wild], profile="modern"), "https", SECRET
        )
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


# -- what goes wrong ------------------------------------------------------------------------------------------


def test_plain_http_on_a_tls_port_is_cut_off_at_once(house: House) -> None:
    failures: list[str] = []

    async def main() -> None:
        contexts = ListenerContexts(house.config(), failed=lambda error: failures.append(error.reason))
        async with served(contexts) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: first.example\r\n\r\n")
            assert await reader.read() == b""
            writer.close()

    run(main())
    assert failures == ["HTTP_REQUEST"]


async def s_client(port: int, *arguments: str, speak: bytes = b"") -> str:
    process = await asyncio.create_subprocess_exec(
        "openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(speak), 20)
    return out.decode(errors="replace")


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes_at_another_worker(house: House, tmp_path: Path, version: str) -> None:
    if tls_tickets._library() is None:
        pytest.skip("this Python's OpenSSL cannot be reached")
    file = str(tmp_path / "session")

    async def main() -> None:
        workers = [ListenerContexts(house.config(), "https", SECRET) for _ in range(2)]
        async with served(workers[0]) as one, served(workers[1]) as two:
            arguments = (version, "-servername", "first.example")
            # s_client has its ticket of TLS 1.3 when it has read the greeting: its own echo comes after that.
            assert "New, TLS" in await s_client(one, *arguments, "-sess_out", file, "-ign_eof", speak=b"Q\n")
            assert "Reused, TLS" in await s_client(
                two, *arguments, "-sess_in", file, "-ign_eof", speak=b"Q\n"
            )

    class Closing(Greeter):
        def data_received(self, data: bytes) -> None:
            self.transport.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(served.__wrapped__.__globals__, "Greeter", Closing)  # type: ignore[attr-defined]
        run(main())


@needs_openssl
def test_renegotiation_is_refused(house: House) -> None:
    async def main() -> None:
        async with served(ListenerContexts(house.config())) as port:
            assert "no renegotiation" in await s_client(port, "-tls1_2", speak=b"R\n")

    run(main())


@needs_openssl
def test_a_server_name_that_is_not_ascii_is_refused_quietly(
    house: House, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", tls.unraisable)

    async def main() -> None:
        async with served(ListenerContexts(house.config())) as port:
            assert "alert" in await s_client(port, "-servername", "fi\u00efrst.example")

    run(main())
    assert capfd.readouterr().err == ""


def test_other_unraisable_errors_are_still_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr(sys, "__unraisablehook__", shown.append)
    error = SimpleNamespace(exc_value=ValueError(), object=b"name")
    tls.unraisable(error)  # type: ignore[arg-type]
    assert shown == [error]


def test_faults_of_a_listener_come_all_at_once(house: House, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    missing = str(tmp_path / "missing")
    nameless = house.ca.issue(common="nameless")
    locked = house.ca.issue("locked.example", password=b"secret")
    cases = {
        "certificates[0].cert": Certificate(cert=missing, key=house.first.key),
        "certificates[1].key": Certificate(cert=house.first.cert, key=missing),
        "certificates[2].cert": Certificate(cert=str(empty), key=house.first.key),
        "certificates[3].key": Certificate(cert=house.first.cert, key=str(empty)),
        "certificates[4].key": Certificate(cert=house.first.cert, key=house.wild.key),
        "certificates[5].key": locked,
        "certificates[6].cert": nameless,
        "client_ca": None,
    }
    config = ListenerTls(
        certificates=[case for case in cases.values() if case], client_auth="optional", client_ca=missing
    )
    with pytest.raises(ConfigError) as caught:
        ListenerContexts(config, path="listeners.https.tls")
    found = {fault.path.removeprefix("listeners.https.tls."): fault.message for fault in caught.value.faults}
    assert sorted(found) == sorted(cases)
    assert "not the key" in found["certificates[4].key"]
    assert "encrypted" in found["certificates[5].key"]
    assert "names no host" in found["certificates[6].cert"]
    assert "cannot be read" in found["client_ca"]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"certificates": []}, "tls.certificates"),
        ({"client_auth": "require", "client_ca": ""}, "tls.client_ca"),
        ({"client_auth": "none", "client_ca": "ca.pem"}, "tls.client_ca"),
    ],
)
def test_options_that_do_not_go_together(house: House, options: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ListenerContexts(house.config(**options))
    assert [fault.path for fault in caught.value.faults] == [path]


def test_a_single_certificate_needs_no_names(house: House) -> None:
    async def main() -> None:
        nameless = house.ca.issue(common="nameless")
        contexts = ListenerContexts(house.config(certificates=[nameless]))
        assert list(contexts.expires) == [nameless.cert]
        assert contexts.expires[nameless.cert] == 4102444800.0
        async with served(contexts) as port:
            assert (await visit(port, client_context(house), "any.example")).certificate == "nameless"

    run(main())


# -- towards targets ------------------------------------------------------------------------------------------


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
