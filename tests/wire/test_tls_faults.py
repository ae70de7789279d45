"""What goes wrong: odd handshakes, files that cannot serve, options that do not go together."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayd.config.model import Certificate, ListenerTls
from gatewayd.errors import ConfigError
from gatewayd.wire import tls
from gatewayd.wire.tls import ListenerContexts
from tests.wire.handshakes import (
    House,
    client_context,
    needs_openssl,
    run,
    s_client,
    served,
    visit,
)


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


def test_a_certificate_with_a_weak_key_is_said_to_be_that(house: House) -> None:
    weak = house.ca.issue("weak.example", key_type="weak")
    with pytest.raises(ConfigError) as raised:
        ListenerContexts(ListenerTls(certificates=[weak]))
    ((path, message, found),) = [(fault.path, fault.message, fault.found) for fault in raised.value.faults]
    assert (path, found) == ("tls.certificates[0].cert", weak.cert)
    assert message == "OpenSSL refuses the certificate: ee_key_too_small"


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
