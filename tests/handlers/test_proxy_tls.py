"""TLS towards targets, over real sockets: who is believed, what they are shown, and what a caller sees of failures."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatewayd.config.model import Certificate
from tests.support.edge import EdgeThread, proxied
from tests.support.raw import Answer, Caller
from tests.support.targets import TlsUpstream, UnixUpstream, serving
from tests.support.upstream import Peer, ScriptedUpstream, answer
from tests.wire.certificates import Authority


class House(NamedTuple):
    """A CA, a target's certificate for `inner.example` and 127.0.0.1, and one of ours."""

    ca: Authority
    stranger: Authority
    target: Certificate
    ours: Certificate


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("certificates")
    ca, stranger = Authority(folder), Authority(folder, "Strange CA")
    return House(ca, stranger, ca.issue("inner.example", "127.0.0.1"), ca.issue(common="gateway", client=True))


def document(port: int, tls: dict[str, Any], **service: Any) -> dict[str, Any]:
    """Everything to the TLS target at `port`."""
    made = proxied(port, **service)
    made["upstreams"]["up"]["tls"] = tls
    return made


def asked(up: TlsUpstream, tls: dict[str, Any], **service: Any) -> Answer:
    with EdgeThread(document(up.port, tls, **service)) as edge, Caller(edge.port) as caller:
        return caller.ask()


def test_a_verified_target_answers_and_its_connection_is_kept(house: House) -> None:
    with (
        TlsUpstream(serving(house.target)) as up,
        EdgeThread(document(up.port, {"ca": house.ca.file})) as edge,
        Caller(edge.port) as caller,
    ):
        assert [caller.ask().status for _ in range(3)] == [200, 200, 200]
        assert len(up.sessions) == 1
        assert up.sessions[0].version() == "TLSv1.3"
        assert up.asked == [None], "an address is no server name"


def test_the_configured_name_is_asked_for_and_verified(house: House) -> None:
    with TlsUpstream(serving(house.target)) as up:
        assert asked(up, {"ca": house.ca.file, "sni": "inner.example"}).status == 200
        assert up.asked == ["inner.example"]


@pytest.mark.parametrize(
    "tls",
    [
        {"sni": "other.example"},
        {"ca": "stranger"},
        {"ca": ""},
    ],
    ids=["another name", "another CA", "the system's CAs"],
)
def test_a_target_that_cannot_be_verified_gets_nothing(house: House, tls: dict[str, Any]) -> None:
    files = {"stranger": house.stranger.file, "": ""}
    tls = {**tls, "ca": files[tls["ca"]] if "ca" in tls else house.ca.file}
    with TlsUpstream(serving(house.target)) as up:
        found = asked(up, tls, retries={"attempts": 1})
        assert (found.status, found.code) == (502, "tls_failed")
        assert house.target.cert.encode() not in found.body
        assert up.received == b""


def test_verification_can_be_turned_off(house: House) -> None:
    with TlsUpstream(serving(house.target)) as up:
        assert asked(up, {"verify": False, "sni": "whoever.example"}).status == 200


def test_our_certificate_is_shown_to_targets_that_want_it(house: House) -> None:
    with TlsUpstream(serving(house.target, house.ca.file)) as up:
        shown = {"ca": house.ca.file, "cert": house.ours.cert, "key": house.ours.key}
        assert asked(up, shown).status == 200
        assert up.shown == ["gateway"]


def test_a_target_that_wants_a_certificate_and_gets_none(house: House) -> None:
    """In TLS 1.3 the refusal comes when the handshake is over for us already."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = serving(house.target, house.ca.file)
        context.maximum_version = version
        with TlsUpstream(context) as up:
            found = asked(up, {"ca": house.ca.file}, retries={"attempts": 0})
            assert found.status == 502
            assert found.code in ("tls_failed", "connect_failed", "closed_before_reply")
            assert up.received == b""


def test_a_target_that_speaks_no_tls_is_a_failed_handshake(house: House) -> None:
    def script(peer: Peer) -> None:
        peer.read(1)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with ScriptedUpstream(script) as up:
        found = asked(up, {"ca": house.ca.file}, retries={"attempts": 0})
        assert (found.status, found.code) == (502, "tls_failed")


def test_tls_over_a_unix_socket_without_a_name_fails_at_once(house: House, tmp_path: Path) -> None:
    """`gatewayd check` refuses that; should it come all the same, nothing may hang or be lost count of."""
    path = str(tmp_path / "target")
    made = document(1, {"ca": house.ca.file})
    made["upstreams"]["up"]["targets"] = [{"address": f"unix:{path}"}]
    with UnixUpstream(path), EdgeThread(made) as edge, Caller(edge.port) as caller:
        found = caller.ask()
        assert (found.status, found.code) == (502, "connect_failed")
        assert edge.edge._upstreams["up"].targets[0].pool.open == 0


def test_tls_over_a_unix_socket(house: House, tmp_path: Path) -> None:
    path = str(tmp_path / "target")
    made = document(1, {"ca": house.ca.file, "sni": "inner.example"})
    made["upstreams"]["up"]["targets"] = [{"address": f"unix:{path}"}]
    with UnixUpstream(path) as plain, EdgeThread(made) as edge, Caller(edge.port) as caller:
        context = serving(house.target)

        def script(peer: Peer) -> None:
            peer.sock = context.wrap_socket(peer.sock, server_side=True)
            answer()(peer)

        plain.script = script
        assert caller.ask().body == b"ok"


def test_a_target_whose_location_is_http_or_https_is_told_apart(house: House) -> None:
    """`Location` is rewritten by the scheme that is spoken to the target."""
    with TlsUpstream(serving(house.target)) as up:
        up.script = answer(
            b"HTTP/1.1 302 Found\r\nlocation: https://127.0.0.1:%d/inner/x\r\ncontent-length: 0\r\n\r\n" % up.port
        )
        made = document(up.port, {"ca": house.ca.file})
        made["routes"]["all"] |= {"path": "/v1/*", "strip_prefix": "/v1", "add_prefix": "/inner"}
        with EdgeThread(made) as edge, Caller(edge.port) as caller:
            assert caller.ask("/v1/y").headers["location"] == "http://test/v1/x"
