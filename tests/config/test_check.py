"""Rules across values: each broken alone, in a document that is right otherwise."""

from __future__ import annotations

import copy
import os
from typing import Any

import pytest

from gatewayd.config.check import check
from gatewayd.config.model import decode
from gatewayd.config.sources import Sources

from .authority import make_pair

RIGHT: dict[str, Any] = {
    "gateway": {"policies": ["limit"]},
    "listeners": {"http": {"address": "127.0.0.1:8080"}},
    "upstreams": {"quotes": {"targets": [{"address": "127.0.0.1:9000"}]}},
    "services": {"quotes": {"upstream": "quotes"}},
    "routes": {"quotes": {"path": "/v1/quotes", "service": "quotes", "listeners": ["http"]}},
    "policies": {"limit": {}},
}


def faults_of(path: str, value: object) -> list[str]:
    """The faults of the right document with one option set."""
    raw = copy.deepcopy(RIGHT)
    *above, last = path.split(".")
    table: Any = raw
    for name in above:
        table = table.setdefault(name, {})
    table[last] = value
    return [str(fault) for fault in check(decode(raw))]


def test_the_right_document_has_no_fault():
    assert check(decode(RIGHT)) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        (
            "services.quotes.upstream",
            "quots",
            'services.quotes.upstream: there is no upstream of this name; found a text; allowed: "quotes" '
            '(did you mean "quotes"?)',
        ),
        ("routes.quotes.service", "quots", "routes.quotes.service: there is no service of this name"),
        ("routes.quotes.listeners", ["htp"], "routes.quotes.listeners[0]: there is no listener of this name"),
        (
            "routes.quotes.policies",
            ["limit", "x"],
            "routes.quotes.policies[1]: there is no policy instance of this",
        ),
        ("services.quotes.policies", ["x"], "services.quotes.policies[0]: there is no policy instance"),
        ("gateway.policies", ["x"], "gateway.policies[0]: there is no policy instance"),
        ("routes.quotes.service", "", "routes.quotes: nothing answers it; allowed: exactly one of service,"),
        ("routes.quotes.redirect", {"to": "/"}, "routes.quotes: service and redirect exclude each other"),
        ("routes.quotes.reply", {}, "routes.quotes: service and reply exclude each other"),
        (
            "routes.quotes.strip_prefix",
            "/v2",
            "routes.quotes.strip_prefix: the route's path does not start with it",
        ),
        (
            "routes.quotes.strip_prefix",
            "/v1/q",
            "routes.quotes.strip_prefix: the route's path does not start",
        ),
        (
            "listeners.http.address",
            "localhost",
            "listeners.http.address: no port; found a text; allowed: host:port",
        ),
        (
            "listeners.two",
            {"address": "127.0.0.1:8080"},
            "listeners.two.address: listeners.http listens there al",
        ),
        ("control.address", "127.0.0.1:8080", "control.address: listeners.http listens there already"),
        ("control.address", "x", "control.address: no port"),
        (
            "listeners.http.trusted_proxies",
            ["10.0.0.0/8", "x"],
            "listeners.http.trusted_proxies[1]: no network",
        ),
        (
            "listeners.http.proxy_protocol",
            True,
            "listeners.http: proxy_protocol without trusted_proxies refuses",
        ),
        (
            "upstreams.quotes.targets",
            [{"address": "a:0"}],
            "upstreams.quotes.targets[0].address: the port is 0",
        ),
        ("upstreams.quotes.targets", [{"address": "a"}], "upstreams.quotes.targets[0].address: no port"),
        (
            "upstreams.quotes.targets",
            [{"address": "a:1", "weight": 0}, {"address": "b:1", "weight": 0}],
            "upstreams.quotes.targets: every weight is 0",
        ),
        (
            "upstreams.quotes",
            {"targets": [{"address": "unix:/run/x"}], "tls": {"verify": False}},
            "upstreams.quotes.targets[0].address: a unix socket has no name that TLS could ask for",
        ),
        (
            "upstreams.quotes.hash_on",
            "header:x-id",
            'upstreams.quotes.hash_on: nothing is hashed by balance = "p2c_ewma"',
        ),
        (
            "routes.quotes.headers",
            {"X-Version": "1", "x-version": "2"},
            "routes.quotes.headers.x-version: it is the same header as X-Version",
        ),
        ("upstreams.quotes.tls", {"ca": "/missing"}, "upstreams.quotes.tls.ca: cannot be read: No such file"),
        ("gateway.pid_file", "/missing/x", "gateway.pid_file: cannot be written"),
        ("gateway.state_dir", "/dev/null/x/y", "gateway.state_dir: cannot be written"),
        ("access_log.path", "/missing/x", "access_log.path: cannot be written"),
        ("access_log.path", "/", "access_log.path: cannot be written"),
    ],
)
def test_one_rule_broken(path, value, fault):
    found = faults_of(path, value)
    assert len(found) == 1
    assert fault in found[0]


def test_somebody_must_be_able_to_connect():
    fault = check(decode({}))[0]
    assert str(fault) == "listeners: no listener: nobody could connect (add [listeners.http])"


def test_the_network_around_an_address_is_suggested_unless_it_is_a_secret():
    raw = {"listeners": {"http": {"address": "a:1", "trusted_proxies": ["10.1.0.0/8"]}}}
    sources = Sources("conf.toml")
    assert 'did you mean "10.0.0.0/8"?' in str(check(decode(raw), sources)[0])
    sources.substituted(("listeners", "http", "trusted_proxies", 0), "${env:NETWORK}")
    assert "10." not in str(check(decode(raw), sources)[0]).replace('"10.0.0.0/8"', "")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("routes.quotes.strip_prefix", "/v1"),
        ("routes.quotes.strip_prefix", "/v1/"),
        ("routes.quotes.strip_prefix", "/v1/quotes"),
        ("upstreams.quotes.targets", [{"address": "a:1", "weight": 0}, {"address": "unix:/run/x"}]),
        ("upstreams.quotes", {"targets": [{"address": "unix:/run/x"}], "tls": {"sni": "quotes.internal"}}),
        ("listeners.two", {"address": "127.0.0.2:8080"}),
        ("control", {"enabled": False, "address": "127.0.0.1:8080"}),
        ("access_log", {"enabled": False, "path": "/missing/x"}),
        ("listeners.http.trusted_proxies", ["10.0.0.0/8", "::1", "2001:db8::/32"]),
    ],
)
def test_what_is_allowed(path, value):
    assert faults_of(path, value) == []


def test_any_number_of_listeners_may_take_a_free_port():
    raw = {
        "listeners": {name: {"address": "127.0.0.1:0"} for name in "ab"},
        "control": {"address": "127.0.0.1:0"},
    }
    assert check(decode(raw)) == []


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        ({"file": "/missing"}, "routes.about.reply.file: cannot be read: No such file"),
        (
            {"headers": {"Content-Length": "1"}},
            "routes.about.reply.headers.Content-Length: the gateway frames",
        ),
    ],
)
def test_static_replies(reply, fault):
    found = faults_of("routes.about", {"path": "/about", "reply": reply})
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_a_reply_has_a_body_or_a_file(tmp_path):
    path = tmp_path / "body"
    path.write_text("x")
    route = {"path": "/about", "reply": {"file": str(path)}}
    assert faults_of("routes.about", route) == []
    route["reply"] = {"file": str(path), "body": "x"}
    assert "body and file exclude each other" in faults_of("routes.about", route)[0]


def tls_faults(**tls: Any) -> list[str]:
    """The faults of a listener with these TLS options."""
    return faults_of("listeners.https", {"address": "127.0.0.1:8443", "tls": tls})


def test_certificates_that_serve(tmp_path):
    pairs = [make_pair(tmp_path, name) for name in ("a.example", "b.example")]
    certificates = [{"cert": str(cert), "key": str(key)} for cert, key in pairs]
    assert tls_faults(certificates=certificates, client_auth="require", client_ca=str(pairs[0][0])) == []


def test_certificates_that_do_not(tmp_path):
    a, b = make_pair(tmp_path, "a.example"), make_pair(tmp_path, "b.example", days=-1)
    found = tls_faults(
        certificates=[
            {"cert": str(a[0]), "key": str(b[1])},
            {"cert": str(b[0]), "key": str(b[1])},
            {"cert": "/missing", "key": str(a[0])},
        ],
        client_auth="optional",
    )
    where = "listeners.https.tls"
    expected = [
        f"{where}.certificates[0].key: the key is not the certificate's",
        f"{where}.certificates[2].cert: cannot be read: No such file or directory",
        f"{where}.certificates[2].key: no PEM private key",
        f"{where}.client_ca: missing; allowed: a PEM file",
    ]
    assert len(found) == len(expected)
    for fault, text in zip(found, expected, strict=True):
        assert fault.startswith(text)


def test_an_upstream_s_certificate_needs_its_key(tmp_path):
    cert, key = make_pair(tmp_path, "a.example")
    tls = {"cert": str(cert), "key": str(key), "ca": str(cert)}
    assert faults_of("upstreams.quotes.tls", tls) == []
    found = faults_of("upstreams.quotes.tls", {"cert": str(cert)})
    assert [fault.partition(": ")[0] for fault in found] == ["upstreams.quotes.tls.key"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write anywhere")
def test_files_must_be_writable(tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written" in faults_of("gateway.pid_file", str(tmp_path / "x"))[0]


def test_files_that_can_be_written(tmp_path):
    assert faults_of("gateway.pid_file", str(tmp_path / "x")) == []
    (tmp_path / "x").touch()
    assert faults_of("access_log.path", str(tmp_path / "x")) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://host",
        "redis://me:secret@host:6379/3",
        "rediss://[::1]:6380?ssl_ca_certs=/a.pem&db=2",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_urls_of_redis(url):
    assert faults_of("redis.url", url) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@host",
        "redis://me:secret@host:secret",
        "redis://me:secret@host:0",
        "redis://me:secret@[host",
        "redis://",
        "secret",
        "unix:",
        "redis://me:secret@host/secret",
        "redis://me:secret@host?socket_timeout=secret",
        "rediss://me:secret@host?ssl_cert_reqs=none",
    ],
)
def test_wrong_urls_of_redis_are_told_without_what_stands_in_them(url):
    (found,) = faults_of("redis.url", url)
    assert found.startswith("redis.url")
    assert "secret" not in found


def test_a_directory_for_state_may_have_to_be_made(tmp_path):
    assert faults_of("gateway.state_dir", str(tmp_path)) == []
    assert faults_of("gateway.state_dir", str(tmp_path / "a" / "b")) == []
    (tmp_path / "x").touch()
    assert "cannot be written" in faults_of("gateway.state_dir", str(tmp_path / "x"))[0]


def test_tables_left_out_for_their_faults_can_be_referred_to():
    raw = copy.deepcopy(RIGHT)
    del raw["upstreams"], raw["listeners"], raw["policies"]
    broken = {"upstreams": {"quotes"}, "listeners": {"http"}, "policies": {"limit"}}
    assert check(decode(raw), broken=broken) == []
