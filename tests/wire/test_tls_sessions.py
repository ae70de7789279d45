"""Session resumption: between workers, and not past stricter rules."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from gatewayd.wire import tls_tickets
from gatewayd.wire.tls import ListenerContexts
from tests.wire.handshakes import (
    SECRET,
    V12,
    V13,
    VERSIONS,
    Greeter,
    House,
    client_context,
    needs_openssl,
    refused,
    run,
    s_client,
    served,
    visit,
)


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


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_resumes_at_another_worker(house: House, tmp_path: Path, version: str) -> None:
    if tls_tickets._library() is None:
        pytest.skip("this Python's OpenSSL cannot be reached")
    file = str(tmp_path / "session")

    class Closing(Greeter):
        def data_received(self, data: bytes) -> None:
            self.transport.close()

    async def main() -> None:
        workers = [ListenerContexts(house.config(), "https", SECRET) for _ in range(2)]
        async with served(workers[0], Closing) as one, served(workers[1], Closing) as two:
            # s_client has read its ticket of TLS 1.3 by the time the greeting and the end come behind it.
            arguments = (version, "-servername", "first.example", "-ign_eof")
            assert "New, TLS" in await s_client(one, *arguments, "-sess_out", file, speak=b"Q\n")
            assert "Reused, TLS" in await s_client(two, *arguments, "-sess_in", file, speak=b"Q\n")

    run(main())
