"""mtls: who calls by the certificate of the connection, over real TLS connections."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from typing import Any

import pytest
from cryptography import x509

from gatewayd.config.load import decode
from gatewayd.core.clock import FakeClock
from gatewayd.core.identity import Consumer
from gatewayd.core.policy import BuildContext, Credential
from gatewayd.errors import ConfigError
from gatewayd.identity import certificates
from gatewayd.policies import mtls
from tests.support.callers import Known, outcome
from tests.support.edge import EdgeThread
from tests.support.exchanges import make_exchange
from tests.support.holders import ENDS, caller, certificate, fingerprint, pem, revocations, sequence, shown
from tests.support.tokens import NOW
from tests.wire.certificates import Authority

WAIT = 20


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who signs the listener's certificate, and the callers'."""
    return Authority(tmp_path_factory.mktemp("authority"))


def document(authority, client_auth="optional", **options):
    """A route that wants a certificate; `acme` is known by a DNS name, `desk` by its subject."""
    server = authority.issue("gateway.test")
    tls = {"certificates": [{"cert": server.cert, "key": server.key}], "client_auth": client_auth}
    if client_auth != "none":
        tls["client_ca"] = authority.file
    return {
        "listeners": {"http": {"tls": tls}},
        "identity": {"failures_per_address": "0/m"},
        "routes": {
            "all": {"path": "/*", "reply": {"body": "in"}, "policies": ["mtls"]},
            "open": {"path": "/open", "reply": {"body": "open"}},
        },
        "policies": {"mtls": options},
        "consumers": {
            "acme": {"certificates": [{"san": "dns:acme.example"}]},
            "desk": {"certificates": [{"subject": "CN=desk"}]},
        },
    }


class Connection(http.client.HTTPSConnection):
    """A caller's connection; `ask` gives status, code and body."""

    def __init__(self, edge: EdgeThread, context: ssl.SSLContext) -> None:
        super().__init__("127.0.0.1", edge.port, context=context, timeout=WAIT)

    def ask(self, path: str = "/") -> tuple[int, str]:
        self.request("GET", path, headers={"Host": "gateway.test"})
        reply = self.getresponse()
        body = reply.read().decode()
        self.told = reply.headers
        return reply.status, body if reply.status == 200 else body.partition('"code":"')[2].partition('"')[0]


def asked(edge, authority, folder, cert=None, path="/"):
    """What a caller with this certificate is answered."""
    connection = Connection(edge, caller(authority, folder, cert))
    try:
        return connection.ask(path)
    finally:
        connection.close()


def test_callers_with_certificates(authority, tmp_path):
    edge = EdgeThread(document(authority), FakeClock())
    with edge:
        named = certificate(authority, x509.DNSName("ACME.example"))
        assert asked(edge, authority, tmp_path, named) == (200, "in")
        unknown = certificate(authority, x509.DNSName("other.example"))
        assert asked(edge, authority, tmp_path, unknown) == (401, "credential_invalid")
        nul = certificate(authority, raw_names=sequence((0x82, b"acme.example\0.evil.example")))
        assert asked(edge, authority, tmp_path, nul) == (401, "credential_invalid")
        odd = certificate(authority, raw_names=sequence((0x82, "acme.e\u212a".encode())))
        assert asked(edge, authority, tmp_path, odd) == (401, "credential_invalid")
        assert asked(edge, authority, tmp_path, odd, "/open") == (200, "open"), "routes that do not ask do not mind"


def test_callers_without_one_are_told_that_one_is_needed(authority, tmp_path):
    with EdgeThread(document(authority), FakeClock()) as edge:
        connection = Connection(edge, caller(authority, tmp_path))
        assert connection.ask() == (401, "credential_missing")
        assert connection.told["www-authenticate"] == 'ClientCertificate realm="gatewayd"'
        assert connection.ask("/open") == (200, "open")
        connection.close()


def test_a_certificate_that_strangers_signed_does_not_even_connect(authority, tmp_path):
    stranger = Authority(tmp_path, "Stranger")
    forged = certificate(stranger, x509.DNSName("acme.example"))
    with EdgeThread(document(authority), FakeClock()) as edge, pytest.raises((ssl.SSLError, OSError)):
        asked(edge, authority, tmp_path, forged)


def test_on_plain_http_nobody_has_one():
    plain = {"routes": {"all": {"path": "/*", "reply": {}, "policies": ["mtls"]}}, "policies": {"mtls": {}}}
    with EdgeThread(plain, FakeClock()) as edge:
        connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=WAIT)
        connection.request("GET", "/", headers={"X-Client-Cert": "CN=desk", "Client-Cert": ":AAAA:"})
        assert connection.getresponse().status == 401
        connection.close()


def test_a_connection_is_looked_at_once_and_a_reload_looks_again(authority, tmp_path, monkeypatch):
    reads = []
    read = certificates.read
    monkeypatch.setattr(certificates, "read", lambda *arguments: reads.append(1) or read(*arguments))
    clock = FakeClock()
    with EdgeThread(document(authority), clock) as edge:
        connection = Connection(edge, caller(authority, tmp_path, certificate(authority, x509.DNSName("acme.example"))))
        assert [connection.ask() for _ in range(3)] == [(200, "in")] * 3
        without = document(authority)
        without["listeners"] = edge.document["listeners"]
        del without["consumers"]["acme"]
        edge.apply(without)
        assert connection.ask() == (401, "credential_invalid")
        edge.apply({**document(authority), "listeners": edge.document["listeners"]})
        assert connection.ask() == (200, "in")
        clock.advance(ENDS - NOW)
        assert connection.ask() == (401, "credential_invalid"), "it has expired on an open connection"
        connection.close()
    assert len(reads) == 1


def test_a_certificate_that_is_taken_back_while_it_is_in_use(authority, tmp_path):
    file = tmp_path / "lists.crl"
    mine, other = certificate(authority, x509.DNSName("acme.example")), certificate(authority)
    file.write_bytes(pem(revocations(authority, other)))
    clock = FakeClock()
    with EdgeThread(document(authority, crl=str(file)), clock) as edge:
        assert asked(edge, authority, tmp_path, other) == (401, "credential_invalid")
        connection = Connection(edge, caller(authority, tmp_path, mine))
        assert connection.ask() == (200, "in")
        file.write_bytes(pem(revocations(authority, mine, other)))
        os.utime(file, ns=(1, 1))
        assert connection.ask() == (200, "in"), "it is not looked at all the time"
        clock.advance(60)
        assert connection.ask() == (401, "credential_invalid")
        connection.close()


@pytest.mark.parametrize(("option", "status"), [("refuse", 401), ("accept", 200)])
def test_when_the_next_list_does_not_come(authority, tmp_path, option, status):
    file = tmp_path / "lists.crl"
    file.write_bytes(pem(revocations(authority, due=NOW + 60)))
    clock = FakeClock()
    with EdgeThread(document(authority, crl=str(file), crl_expired=option), clock) as edge:
        connection = Connection(edge, caller(authority, tmp_path, certificate(authority, x509.DNSName("acme.example"))))
        assert connection.ask()[0] == 200
        clock.advance(60)
        assert connection.ask()[0] == status
        connection.close()


def test_resumed_sessions_bring_their_certificate(authority, tmp_path):
    context = caller(authority, tmp_path, certificate(authority, x509.DNSName("acme.example")))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with EdgeThread(document(authority), FakeClock()) as edge:
        first = Connection(edge, context)
        assert first.ask() == (200, "in")
        session = first.sock.session
        first.close()
        with (
            socket.create_connection(("127.0.0.1", edge.port), WAIT) as sock,
            context.wrap_socket(sock, session=session) as resumed,
        ):
            assert resumed.session_reused
            resumed.sendall(b"GET / HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: resumed.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")


# -- without a connection ---------------------------------------------------------------------------------------------


def hooks(context=None, **options):
    return mtls.build(mtls.Config(**options), context or BuildContext("m", clock=FakeClock()))


def test_consumers_are_found_in_the_order_of_by(authority):
    cert = certificate(authority, x509.DNSName("acme.example"))
    credentials = {
        ("certificate", f"fingerprint:{fingerprint(cert)}".encode()): Credential(Consumer("by-print"), "p"),
        ("certificate", b"san:dns:acme.example"): Credential(Consumer("by-name"), "n"),
    }
    context = BuildContext("m", clock=FakeClock(), consumers=Known(credentials))
    for by, expected in ((["fingerprint", "dns"], "by-print"), (["dns", "fingerprint"], "by-name")):
        exchange = make_exchange(tls=shown(cert))
        assert outcome(hooks(context, by=by).access(exchange)) is None
        assert exchange.identity.consumer.id == expected


def test_two_policies_on_one_connection_do_not_mix_up(authority):
    cert = certificate(authority, x509.DNSName("acme.example"))
    context = BuildContext(
        "m",
        clock=FakeClock(),
        consumers=Known({("certificate", b"san:dns:acme.example"): Credential(Consumer("acme"), "n")}),
    )
    by_name, by_print = hooks(context, by=["dns"]), hooks(context, by=["fingerprint"])
    tls = shown(cert)
    for _ in range(2):
        assert by_name.authenticate(make_exchange(tls=tls)).consumer.id == "acme"
        assert by_print.authenticate(make_exchange(tls=tls)).code == "credential_invalid"


def faults(**options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        hooks(**options)
    return [f"{fault.path}: {fault.message}" for fault in caught.value.faults]


def test_lists_that_cannot_be_used(authority, tmp_path):
    file = tmp_path / "lists.crl"
    assert faults(crl=str(file), crl_ca=authority.file)[0].startswith("crl: cannot be read")
    file.write_bytes(pem(revocations(authority)))
    assert "no authority that is trusted" in faults(crl=str(file))[0]
    assert "holds no PEM certificate" in faults(crl=str(file), crl_ca=str(file))[0]
    assert hooks(crl=str(file), crl_ca=authority.file).explain.endswith(f"revocations in {file}")


def test_the_listeners_authorities_sign_lists(authority, tmp_path):
    file = tmp_path / "lists.crl"
    file.write_bytes(pem(revocations(authority)))
    told = document(authority)
    told["listeners"]["http"]["address"] = "127.0.0.1:0"
    context = BuildContext("m", clock=FakeClock(), document=decode(told))
    assert hooks(context, crl=str(file)).access


def test_lists_are_read_again_only_if_something_changed(authority, tmp_path):
    file = tmp_path / "lists.crl"
    file.write_bytes(pem(revocations(authority)))
    context = BuildContext("m", clock=FakeClock())
    hooks(context, crl=str(file), crl_ca=authority.file)
    ((_, _, lists),) = context.kept["m", "lists"]
    hooks(context, crl=str(file), crl_ca=authority.file)
    assert context.kept["m", "lists"][0][2] is lists
    os.utime(file, ns=(1, 1))
    hooks(context, crl=str(file), crl_ca=authority.file)
    assert context.kept["m", "lists"][0][2] is not lists


def test_it_is_explained():
    assert hooks(by=["dns", "subject"]).explain == "by dns, subject"
