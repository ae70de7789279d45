"""What is shown reads back as the same configuration, and holds no secret."""

from __future__ import annotations

import tomllib
from pathlib import Path

from msgspec import Struct

from gatewayd.config.load import load
from gatewayd.config.show import effective
from gatewayd.config.units import Duration

TEXT = """\
include = ["more.toml"]
[limits]
head = "1 KiB"
headers = "${env:HEADERS:-70}"
[listeners.http]
address = "127.0.0.1:0"
[upstreams.a]
targets = [{ address = "127.0.0.1:1" }]
[services.a]
upstream = "a"
[routes."a.b"]
path = "/$${x}"
service = "a"
[policies.limit]
key = "Bearer ${file:secret}"
[policies.second]
policy = "limit"
keys = ["${env:SECRET}", "plain"]
"""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy's options."""

    key: str = "none"
    keys: list[str] = []
    wait: Duration = Duration(90)


def write(folder: Path) -> Path:
    """The configuration above; where it is."""
    (folder / "secret").write_text("hunter2\n")
    (folder / "more.toml").write_text('[routes.more]\npath = "/more"\nreply = { body = "hi" }\n')
    (folder / "conf.toml").write_text(TEXT)
    return folder / "conf.toml"


def test_it_reads_back_the_same(tmp_path):
    environ = {"SECRET": "hunter3", "GATEWAYD__GATEWAY__NAME": "hunter4"}
    first = load(write(tmp_path), environ, {"limit": Config})
    shown = effective(first, {"limit": Config})
    (tmp_path / "conf.toml").write_text(shown)
    again = load(tmp_path / "conf.toml", {"SECRET": "hunter3", "GATEWAYD__GATEWAY__NAME": "hunter4"})
    plain = {name: table.copy() for name, table in again.document.policies.items()}
    assert plain["limit"].pop("wait") == "90s"
    assert plain["limit"]["key"] == "Bearer hunter2"
    assert again.document.gateway == first.document.gateway
    assert again.document.limits == first.document.limits
    assert again.document.routes == first.document.routes
    assert again.document.upstreams == first.document.upstreams
    assert effective(again, {"limit": Config}) == shown


def test_secrets_stand_as_they_were_written(tmp_path):
    environ = {"SECRET": "hunter3", "GATEWAYD__GATEWAY__NAME": "hunter4"}
    shown = effective(load(write(tmp_path), environ, {"limit": Config}), {"limit": Config})
    assert "hunter" not in shown
    plain = tomllib.loads(shown)
    assert plain["policies"]["limit"]["key"] == "Bearer ${file:secret}"
    assert plain["policies"]["second"]["keys"] == ["${env:SECRET}", "plain"]
    assert plain["limits"]["headers"] == "${env:HEADERS:-70}"
    assert plain["gateway"]["name"] == "${env:GATEWAYD__GATEWAY__NAME}"
    assert plain["routes"]["a.b"]["path"] == "/$${x}"


def test_defaults_are_filled_in(tmp_path):
    found = load(write(tmp_path), {"SECRET": "x"}, {"limit": Config})
    plain = tomllib.loads(effective(found, {"limit": Config}))
    assert plain["timeouts"]["head"] == "10s"
    assert plain["policies"]["second"]["mode"] == "enforce"
    assert plain["policies"]["second"]["wait"] == "90s"
    assert "include" not in plain
    assert "tls" not in plain["listeners"]["http"]


def test_without_policies_their_tables_stand_as_they_are(tmp_path):
    plain = tomllib.loads(effective(load(write(tmp_path), {"SECRET": "x"})))
    assert plain["policies"]["limit"] == {"key": "Bearer ${file:secret}"}
