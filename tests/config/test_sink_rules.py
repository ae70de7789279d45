from __future__ import annotations

from typing import Any

import pytest

from gatewayd.config.check import check
from gatewayd.config.model import decode

from .authority import make_pair

ON = {"listeners": {"http": {"address": "127.0.0.1:8080"}}, "audit": {"enabled": True}}
POSTGRES = "postgresql://user:pass-word@db:5432/logs"
RIGHT: dict[str, dict[str, Any]] = {
    "postgres": {"url": POSTGRES},
    "clickhouse": {"url": "http://db:8123"},
    "syslog": {"address": "logs:514"},
}


def faults_of(sinks: dict[str, Any], **more: Any) -> list[str]:
    """What is wrong with a document with these sinks."""
    return [str(fault) for fault in check(decode({**ON, **more, "sinks": sinks}))]


def only(kind: str, **options: Any) -> list[str]:
    """What is wrong with a sink that is right but for these options."""
    return faults_of({"a": {"kind": kind, **RIGHT.get(kind, {}), **options}})


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("postgres", {}),
        ("postgres", {"url": "postgresql://user@/logs?host=/run/postgresql", "tls": "off"}),
        ("clickhouse", {"url": "https://db/"}),
        ("syslog", {"address": "unix:/dev/log", "transport": "udp"}),
        ("syslog", {"transport": "tls", "server_name": "logs.example"}),
        ("syslog", {"fields": ["client", "status"], "personal": True}),
    ],
)
def test_what_is_right(kind, options):
    assert only(kind, **options) == []


@pytest.mark.parametrize(
    ("kind", "options", "fault"),
    [
        ("syslog", {"fields": ["status", "client"]}, "sinks.a.fields[1]: it could tell of a person"),
        ("syslog", {"fields": ["captured"], "personal": True}, "sinks.a.fields[0]: it is too long for a syslog"),
        ("postgres", {"url": "mysql://db/x"}, "sinks.a.url: this is no URL of a PostgreSQL server"),
        ("postgres", {"url": "postgresql:///x"}, "sinks.a.url: this is no URL of a PostgreSQL server"),
        ("postgres", {"url": "postgresql://db:port/x"}, "sinks.a.url: this is no URL of a PostgreSQL server"),
        ("postgres", {"url": "postgresql://db"}, "sinks.a.url: it names no database"),
        ("postgres", {"url": f"{POSTGRES}?sslmode=disable"}, "sinks.a.url: this option cannot be set here"),
        ("postgres", {"ca": "/nowhere.pem"}, "sinks.a.ca: cannot be read"),
        ("clickhouse", {"url": "db:8123"}, "sinks.a.url: this is no URL of a ClickHouse server"),
        ("clickhouse", {"url": "http://db/path"}, "sinks.a.url: this is no URL of a ClickHouse server"),
        ("clickhouse", {"url": "http://u:p@db"}, "sinks.a.url: it names a user"),
        ("clickhouse", {"url": "http://db?x=1"}, "sinks.a.url: it says more than where"),
        ("clickhouse", {"table": "a.b"}, "sinks.a.table: the database stands in an option of its own"),
        ("syslog", {"address": "logs"}, "sinks.a.address: no port"),
        ("syslog", {"address": "logs:0"}, "sinks.a.address: the port is 0"),
        ("syslog", {"address": "unix:/dev/log", "transport": "tls"}, "sinks.a.transport: a unix socket has no TLS"),
        ("syslog", {"server_name": "x"}, 'sinks.a.server_name: nothing is encrypted by transport = "tcp"'),
        ("syslog", {"transport": "tls", "key": "/x"}, "sinks.a.cert: a key needs its certificate"),
        ("file", {"path": "/nowhere/at/all"}, "sinks.a.path: cannot be written"),
        ("file", {"path": "/tmp"}, "sinks.a.path: cannot be written"),
        ("file", {"path": "stdout"}, "sinks.a.path: cannot be written"),
    ],
)
def test_what_is_wrong(kind, options, fault):
    found = only(kind, **options)
    assert len(found) == 1
    assert found[0].startswith(fault)
    assert "pass-word" not in found[0]


def test_certificates(tmp_path):
    cert, key = map(str, make_pair(tmp_path, "logs.example"))
    other = str(make_pair(tmp_path, "other.example")[0])
    assert only("syslog", transport="tls", cert=cert, key=key, ca=other) == []
    assert only("syslog", transport="tls", cert=key)[0].startswith("sinks.a.cert: no PEM certificate")


def test_two_to_one_file(tmp_path):
    path = str(tmp_path / "x")
    sinks = {"a": {"kind": "file", "path": path}, "b": {"kind": "file", "path": f"{tmp_path}/./x"}}
    assert faults_of({"a": sinks["a"]}) == []
    assert faults_of(sinks)[0].startswith("sinks.b.path: sinks.a writes there already")


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"audit": {}}, "sinks: no call is recorded that could be sent"),
        ({"collector": {"enabled": False}}, "sinks: records are sent from the call store, and there is none"),
        ({"control": {"enabled": False}}, "sinks: the control process sends records, and it is off"),
    ],
)
def test_nothing_would_be_sent(more, fault):
    (found,) = faults_of({"a": {"kind": "syslog", **RIGHT["syslog"]}}, **more)
    assert found.startswith(fault)
    assert faults_of({}, **more) == []


def test_without_the_extra(monkeypatch):
    monkeypatch.setattr("gatewayd.config.sink_rules.find_spec", lambda name: None)
    (found,) = only("postgres")
    assert "sinks.a: sqlalchemy is not installed" in found
    assert only("syslog") == []
