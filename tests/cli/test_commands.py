"""The commands: what they print and how they end. One real daemon for those that talk to it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from gatewayd.cli import main

CONF = """\
[gateway]
workers = 1
[control]
address = "unix:{folder}/control.sock"
[access_log]
enabled = false
[listeners.http]
address = "127.0.0.1:{port}"
[upstreams.policies]
targets = [{{ address = "127.0.0.1:9" }}]
[services.policies]
upstream = "policies"
[routes.policies]
path = "/v1/policies/{{id}}"
methods = ["GET"]
service = "policies"
[routes.hello]
path = "/hello"
reply = {{ body = "hello" }}
"""


@pytest.fixture
def conf(tmp_path):
    """A function that writes the configuration, with `more` behind it, and gives its path."""

    def write(more="", port=0):
        (tmp_path / "conf.toml").write_text(CONF.format(folder=tmp_path, port=port) + more)
        return f"{tmp_path}/conf.toml"

    return write


@pytest.fixture
def gatewayd(monkeypatch, capsys):
    """A function that runs a command here; exit code, stdout and stderr."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gatewayd", *words])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_good_configuration(gatewayd, conf):
    path = conf()
    assert gatewayd("-c", path, "check") == (0, f"{path}: fine\n", "")
    assert gatewayd("check", "-c", path) == (0, f"{path}: fine\n", "")
    assert gatewayd("-t", "-c", path) == (0, f"{path}: fine\n", "")


def test_everything_wrong_is_said_at_once(gatewayd, conf):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        path = conf('[routes.broken]\npath = "no-slash"\nreply = {}\n', port)
        code, out, err = gatewayd("-t", "-c", path)
    assert (code, out) == (2, "")
    assert f"{path}:8: listeners.http.address: cannot listen there: in use by another process" in err
    assert f"{path}:21: routes.broken.path: " in err


def test_a_file_that_is_not_there(gatewayd, tmp_path):
    code, _, err = gatewayd("-c", f"{tmp_path}/nowhere.toml", "check")
    assert code == 2
    assert "nowhere.toml" in err


@pytest.mark.parametrize(
    "words",
    [
        ("explode",),
        ("-t", "routes"),
        ("explain", "GET"),
        ("explain", "GET", "/", "-H", "nonsense"),
        ("explain", "GET", "/", "--from", "nowhere"),
        ("config", "show"),
        ("status", "--colour"),
    ],
)
def test_wrong_usage(gatewayd, conf, words):
    code, _, err = gatewayd("-c", conf(), *words)
    assert code == 2
    assert "Error: " in err


def test_help_and_version(gatewayd):
    code, out, _ = gatewayd("--help")
    assert code == 0
    commands = set(re.findall(r"^  (\w+) ", out, re.MULTILINE))
    assert commands >= {"run", "check", "reload", "status", "routes", "explain", "version", "demo", "config"}
    code, out, _ = gatewayd("version")
    assert code == 0
    assert re.match(r"gatewayd \d+\.\d+\.\d+ \(CPython 3\.\d+", out)


def test_routes(gatewayd, conf):
    code, out, _ = gatewayd("-c", conf(), "routes")
    assert code == 0
    assert re.search(r"policies +GET +any +/v1/policies/\{id\} +service policies → upstream policies", out)


def test_explain(gatewayd, conf):
    path = conf(
        '[listeners.public]\naddress = "127.0.0.1:8081"\n'
        '[routes.public]\npath = "/p"\nlisteners = ["public"]\nreply = {}\n'
    )
    code, out, _ = gatewayd("-c", path, "explain", "GET", "/v1/policies/7", "-H", "Host: a.example", "--from", "::1")
    assert code == 0
    assert "GET /v1/policies/7 from ::1 at listener http" in out
    assert "id = 7" in out
    assert "sent      GET /v1/policies/7  host a.example" in out
    code, out, _ = gatewayd("-c", path, "explain", "POST", "/hello/../v1/policies/7")
    assert code == 0
    assert "405 method_not_allowed" in out
    assert "at listener public" in gatewayd("-c", path, "explain", "GET", "http://127.0.0.1:8081/p")[1]
    assert "at listener http" in gatewayd("-c", path, "explain", "GET", "http://127.0.0.1:99999/p")[1]
    assert gatewayd("-c", path, "explain", "--listener", "none", "GET", "/p")[0] == 2


def test_the_schema_and_what_counts(gatewayd, conf):
    code, out, _ = gatewayd("config", "schema")
    assert code == 0
    assert "cors" in json.dumps(json.loads(out))
    code, out, _ = gatewayd("-c", conf(), "config", "show", "--effective")
    assert code == 0
    assert 'drain_timeout = "30s"' in out


def test_no_file_to_say_whom_to_talk_to(gatewayd, tmp_path):
    for command in ("status", "reload"):
        code, _, err = gatewayd("-c", f"{tmp_path}/none.toml", command)
        assert code == 2
        assert err == f"{tmp_path}/none.toml: configuration: cannot be read: No such file or directory\n"
        code, _, err = gatewayd("-c", f"{tmp_path}/none.toml", command, "--control", f"unix:{tmp_path}/control.sock")
        assert code == 1
        assert "no daemon answers" in err


def test_nobody_to_talk_to(gatewayd, conf, tmp_path):
    for command in ("status", "reload"):
        code, _, err = gatewayd("-c", conf(), command)
        assert code == 1
        assert f"no daemon answers at unix:{tmp_path}/control.sock" in err
    (tmp_path / "off.toml").write_text(
        CONF.format(folder=tmp_path, port=0).replace("[control]", "[control]\nenabled = false")
    )
    code, _, err = gatewayd("-c", f"{tmp_path}/off.toml", "reload")
    assert code == 1
    assert "SIGHUP" in err


def test_a_start_that_fails(conf):
    """Faults come from the workers, which build; they are told as `check` tells them."""
    path = conf(
        '[policies.odd]\npolicy = "no-such-policy"\n[routes.odd]\npath = "/odd"\nreply = {}\npolicies = ["odd"]\n'
    )
    runs = [
        subprocess.run(
            [sys.executable, "-m", "gatewayd", "-c", path, word], capture_output=True, text=True, check=False
        )
        for word in ("check", "run")
    ]
    assert [done.returncode for done in runs] == [2, 2]
    assert f"{path}:21: policies.odd.policy: " in runs[0].stderr
    assert runs[0].stderr == runs[1].stderr


@pytest.fixture
def daemon(conf):
    """A daemon that serves `conf()`."""
    command = [sys.executable, "-m", "gatewayd", "-c", conf()]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if "generation 1 serves" in line:
                break
        yield process, "".join(said)
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 0, rest


@pytest.mark.process
def test_a_running_daemon(gatewayd, conf, daemon, tmp_path):
    process, said = daemon
    port = re.search(r"listener http: http://127\.0\.0\.1:(\d+)", said)[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/hello") as reply:
        assert reply.read() == b"hello"

    path = conf()
    code, out, _ = gatewayd("-c", path, "status")
    assert code == 0
    assert f"process {process.pid}, serving, generation 1" in out
    found = json.loads(gatewayd("-c", path, "status", "--json")[1])
    assert found["pid"] == process.pid
    assert len(found["workers"]) == 1

    assert gatewayd("-c", path, "check")[0] == 0  # beside the daemon that holds the control address
    assert gatewayd("-c", path, "reload") == (0, "generation 2 serves\n", "")
    conf('[routes.broken]\npath = "no-slash"\nreply = {}\n')
    code, out, err = gatewayd("-c", path, "reload")
    assert (code, out) == (2, "")
    assert err.startswith(f"{path}:21: routes.broken.path: ")
    assert err.endswith("gatewayd: the daemon serves on with the configuration it had\n")
    conf("]")
    code, _, err = gatewayd("-c", path, "reload", "--control", f"unix:{tmp_path}/control.sock")
    assert code == 2
    assert f"{path}:20: " in err
    assert "serves on" in err
    for command in ("reload", "status"):  # who would know which daemon is meant?
        code, _, err = gatewayd("-c", path, command)
        assert code == 2
        assert err.startswith(f"{path}:20: TOML: ")
    conf()
    assert gatewayd("-c", path, "reload")[1] == "generation 3 serves\n"
