"""What is packaged fits the daemon: its commands, its deadlines, its probes, and no more rights than it needs."""

from __future__ import annotations

import ast
import re
import shlex

from gatewayd.cli.commands import cli
from gatewayd.config.model import Document
from gatewayd.config.units import Duration

from .tree import read

UNIT = read("packaging/gatewayd.service")
IMAGE = read("packaging/Dockerfile")


def options(text: str) -> dict[str, list[str]]:
    """Every option of a unit file with its values; systemd lets some stand several times."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"^([A-Za-z]+)=(.*)$", text, re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


SERVICE = options(UNIT)


def seconds(name: str) -> float:
    """A time of the unit file."""
    return float(Duration.parse(SERVICE[name][0]))


def test_the_unit_runs_commands_there_are():
    for name in ("ExecStart", "ExecReload"):
        program, option, path, command = shlex.split(SERVICE[name][0])
        assert (program, option) == ("/opt/gatewayd/bin/gatewayd", "-c")
        assert path.startswith("/etc/gatewayd/")
        assert command in cli.commands


def test_the_unit_waits_for_the_drain():
    assert SERVICE["Type"] == ["notify"]
    assert SERVICE["KillMode"] == ["mixed"]  # or workers would be signalled, too
    assert seconds("TimeoutStopSec") > float(Document().gateway.drain_timeout) + 2


def test_the_unit_grants_one_capability():
    assert SERVICE["CapabilityBoundingSet"] == SERVICE["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert SERVICE["NoNewPrivileges"] == ["yes"]
    assert SERVICE["ProtectSystem"] == ["strict"]
    assert SERVICE["User"] != ["root"]


def test_the_image_runs_as_nobody_special_and_holds_no_tools_of_its_making():
    stages = re.findall(r"^FROM (\S+)", IMAGE, re.MULTILINE)
    assert len(stages) == 2
    last = IMAGE[IMAGE.rindex("FROM ") :]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert "pip install" not in last


def test_the_image_is_checked_where_the_control_listener_is():
    check = ast.literal_eval(re.search(r"HEALTHCHECK.*\n  CMD (\[.*\])", IMAGE)[1])
    compile(check[2], "healthcheck", "exec")
    assert f"http://{Document().control.address}/readyz" in check[2]


def test_both_have_a_place_for_what_outlives_the_daemon():
    assert (SERVICE["StateDirectory"], SERVICE["StateDirectoryMode"]) == (["gatewayd"], ["0700"])
    (volume,) = re.findall(r"^VOLUME (\S+)$", IMAGE, re.MULTILINE)
    assert f"STATE_DIRECTORY={volume}" in IMAGE
    assert IMAGE.index(f"-m 0700 {volume}") < IMAGE.index("VOLUME") < IMAGE.index("USER 10001")


def test_the_image_starts_the_daemon():
    entry = ast.literal_eval(re.search(r"^ENTRYPOINT (\[.*\])", IMAGE, re.MULTILINE)[1])
    assert entry[0] == "gatewayd"
    assert ast.literal_eval(re.search(r"^CMD (\[.*\])", IMAGE, re.MULTILINE)[1])[0] in cli.commands
