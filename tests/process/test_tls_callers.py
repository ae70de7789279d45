"""TLS as callers meet it: names, client certificates, a certificate that is exchanged under load."""

from __future__ import annotations

import datetime
import ssl
import subprocess

import httpx
import pytest

from tests.support.daemon import WAIT, Daemon, proxied
from tests.support.echo import EchoUpstream
from tests.support.peers import program
from tests.wire.certificates import Authority

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who signs the listeners' certificates, and the callers'."""
    return Authority(tmp_path_factory.mktemp("authority"))


def pair(certificate):
    """A certificate as the document has it."""
    return {"cert": certificate.cert, "key": certificate.key}


@pytest.fixture(scope="module")
def daemon(authority):
    """Two TLS listeners; at `closed` one has to show a certificate."""
    names = [pair(authority.issue("a.test")), pair(authority.issue("*.b.test", key_type="rsa"))]
    tls = {"certificates": names}
    strict = {**tls, "client_auth": "require", "client_ca": authority.file}
    with EchoUpstream() as upstream:
        document = proxied(upstream.address)
        with Daemon({**document, "listeners": {"open": {"tls": tls}, "closed": {"tls": strict}}}) as daemon:
            yield daemon


def curl(daemon, authority, name, *words, listener="open"):
    """Status of curl and what it printed, for `https://name/echo/token`."""
    port = daemon.port(listener)
    where = ["--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/echo/token"]
    command = [program("curl"), "-sS", "--max-time", "30", "--cacert", authority.file, *words, *where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", ["a.test", "www.b.test"])
@pytest.mark.parametrize("version", ["--tls-max=1.2", "--tlsv1.3"])
def test_curl_gets_the_certificate_of_the_name_it_asks_for(daemon, authority, name, version):
    assert curl(daemon, authority, name, *version.split("=")) == (0, "token")


def test_curl_is_turned_away_for_names_nobody_has(daemon, authority):
    assert curl(daemon, authority, "c.test") == (60, "")  # CURLE_PEER_FAILED_VERIFICATION


def test_curl_must_show_its_certificate_where_one_is_required(daemon, authority, tmp_path):
    status, out = curl(daemon, authority, "a.test", listener="closed")
    assert status != 0
    assert out == ""
    mine = authority.issue(common="claims desk", client=True)
    words = ("--cert", mine.cert, "--key", mine.key)
    assert curl(daemon, authority, "a.test", *words, listener="closed") == (0, "token")
    strangers = Authority(tmp_path, "Strangers")
    theirs = strangers.issue(common="stranger", client=True)
    assert curl(daemon, authority, "a.test", "--cert", theirs.cert, "--key", theirs.key, listener="closed")[0] != 0


def trusting(authority, *chain):
    """A context of a caller's that trusts `authority`, with its own certificate if one is given."""
    context = ssl.create_default_context(cafile=authority.file)
    if chain:
        context.load_cert_chain(*chain)
    return context


def test_httpx_with_and_without_a_certificate(daemon, authority):
    mine = authority.issue(common="quotes desk", client=True)
    sni = {"sni_hostname": "a.test"}
    with httpx.Client(verify=trusting(authority, mine.cert, mine.key), timeout=WAIT) as client:
        for listener in ("open", "closed"):
            url = daemon.url("/echo/token", listener).replace("http:", "https:")
            for _ in range(3):
                assert client.get(url, extensions=sni).text == "token"
    with httpx.Client(verify=trusting(authority), timeout=WAIT) as client, pytest.raises(httpx.TransportError):
        client.get(daemon.url("/echo/token", "closed").replace("http:", "https:"), extensions=sni)


def test_a_certificate_is_exchanged_and_nobody_notices(authority):
    """Connections that are open go on; new ones get the new certificate."""
    with EchoUpstream() as upstream:
        first, second = (pair(authority.issue("a.test")) for _ in range(2))
        with Daemon(documented(upstream, first)) as daemon:
            url = daemon.url("/echo/token").replace("http:", "https:")
            with httpx.Client(verify=trusting(authority), timeout=WAIT) as kept:
                assert serial(kept, url) == serial_of(first)
                daemon.write(documented(upstream, second))
                daemon.reload()
                assert serial(kept, url) == serial_of(first)
                with httpx.Client(verify=trusting(authority), timeout=WAIT) as new:
                    assert serial(new, url) == serial_of(second)


@pytest.mark.parametrize(("days", "said"), [(-1, "the certificate expired at"), (3, "the certificate expires at")])
def test_a_certificate_that_expires_is_served_and_said(authority, days, said):
    """A start and a reload do not fail for it: what else there is goes on."""
    end = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=days)
    with EchoUpstream() as upstream:
        old = pair(authority.issue("a.test", until=end))
        with Daemon(documented(upstream, old)) as daemon:
            assert said in daemon.log
            assert daemon.metric("gatewayd_certificate_expires_timestamp_seconds") == end.timestamp()
            checked = daemon.call("check")
            assert (checked.returncode, said in checked.stderr) == (0, True)
            assert checked.stderr.startswith(f"warning: {daemon.conf}:")
            url = daemon.url("/echo/token").replace("http:", "https:")
            with httpx.Client(verify=False, timeout=WAIT) as client:
                assert client.get(url).text == "token"
            daemon.write(documented(upstream, pair(authority.issue("a.test"))))
            daemon.reload()
            assert daemon.log.count(said) == 1
            assert daemon.metric("gatewayd_certificate_expires_timestamp_seconds") > end.timestamp() + 10**6


def documented(upstream, certificate):
    """A TLS listener with this certificate."""
    return {**proxied(upstream.address), "listeners": {"http": {"tls": {"certificates": [certificate]}}}}


def serial(client, url):
    """The serial number of the certificate on the connection that a reply came by."""
    reply = client.get(url, extensions={"sni_hostname": "a.test"})
    assert reply.text == "token"
    return reply.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()["serialNumber"]


def serial_of(certificate):
    """A certificate file's serial number, as `getpeercert` writes it."""
    return ssl._ssl._test_decode_cert(certificate["cert"])["serialNumber"]
