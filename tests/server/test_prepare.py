"""What `run`, a reload and `gatewayd check` do alike."""

from __future__ import annotations

import os
import socket

import msgspec
import pytest

from gatewayd.config.model import decode
from gatewayd.core.arena import Arena
from gatewayd.errors import ConfigError, Fault
from gatewayd.server.prepare import Rules, prepare, wanted
from gatewayd.server.sockets import CONTROL

CONF = """\
[gateway]
workers = {workers}
[control]
enabled = false
[listeners.http]
address = "{address}"
[routes.all]
path = "/*"
reply = {{ body = "hello" }}
"""


@pytest.fixture
def conf(tmp_path):
    def write(workers="2", address="127.0.0.1:0"):
        (tmp_path / "conf.toml").write_text(CONF.format(workers=workers, address=address))
        return f"{tmp_path}/conf.toml"

    return write


def refused(path, *rest):
    with pytest.raises(ConfigError) as error:
        prepare(path, {}, *rest)
    return [(fault.path, os.path.basename(fault.file), fault.line, fault.message) for fault in error.value.faults]


def test_a_good_configuration(conf):
    prepared = prepare(conf(), {})
    assert decode(msgspec.msgpack.decode(prepared.packed)) == prepared.document
    assert prepared.document.routes["all"].reply.body == "hello"
    assert "hello" not in repr(prepared)


def test_what_can_never_take_effect_is_a_warning_with_its_place(conf):
    path = conf()
    with open(path, "a") as file:
        file.write('policies = ["mtls"]\n[policies.mtls]\n')
    (found,) = prepare(path, {}).warnings
    assert (found.path, os.path.basename(found.file), found.line) == ("policies.mtls", "conf.toml", 11)


def test_the_environment_counts(conf):
    assert prepare(conf(), {"GATEWAYD__GATEWAY__WORKERS": "3"}).document.gateway.workers == 3


def test_everything_wrong_is_said_at_once(conf):
    rules = Rules({}, lambda document, locate: [Fault("routes.all.path", "is odd", document.routes["all"].path)])
    with socket.create_server(("127.0.0.1", 0)) as sock:
        path = conf(workers="1000", address=f"127.0.0.1:{sock.getsockname()[1]}")
        assert refused(path, rules) == [
            ("gateway.workers", "conf.toml", 2, "so many cannot run"),
            ("listeners.http.address", "conf.toml", 6, "cannot listen there: in use by another process"),
            ("routes.all.path", "conf.toml", 8, "is odd"),
        ]


def test_addresses_the_daemon_holds_are_free(conf):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        path = conf(address=address)
        assert len(refused(path)) == 1
        assert prepare(path, {}, None, lambda document: {document.listeners["http"].address}).document


def test_a_host_nobody_knows(conf):
    ((key, _, _, message),) = refused(conf(address="no-such-host.invalid:80"))
    assert key == "listeners.http.address"
    assert message.startswith("cannot listen there: unknown host")


def test_faults_of_a_worker_are_put_where_they_stand(conf):
    path = conf()
    error = ConfigError([Fault("listeners.http.tls", "is odd"), Fault("a", "placed", file="x.toml", line=3)])
    found = prepare(path, {}).located(error).faults
    assert [(fault.file, fault.line) for fault in found] == [(path, 5), ("x.toml", 3)]


def test_addresses_wanted():
    raw = {"listeners": {"a": {"address": "127.0.0.1:80", "backlog": 7}}}
    found = wanted(decode(raw))
    assert [(name, each.address, each.backlog, each.share) for name, each in found.items()] == [
        ("a", "127.0.0.1:80", 7, True),
        (CONTROL, "127.0.0.1:9901", 128, False),
    ]
    assert CONTROL not in wanted(decode({**raw, "control": {"enabled": False}}))


def test_verifying_is_told_of_the_shared_memory_if_there_is_some(conf):
    told = []

    def verify(document, locate, **more):
        told.append(more)
        return []

    arena = Arena(size=1 << 20)
    prepare(conf(), {}, Rules({}, verify))
    prepare(conf(), {}, Rules({}, verify, arena))
    assert told == [{}, {"contents": arena}]
