"""`gatewayd demo`: all of the insurer starts behind gatewayd, says what to try, and leaves nothing behind."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.process

CONF = Path(__file__).parents[2] / "conf.toml"
START = "import sys; from gatewayd.demo import main; main(sys.argv[1], int(sys.argv[2]))"


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody has, all different."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def free_base() -> int:
    """A port with the next twenty free as well."""
    for base in range(20_000, 32_000, 20):
        try:
            for port in range(base, base + 20):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return base
    raise AssertionError("no twenty ports in a row are free")


@pytest.fixture
def moved(tmp_path) -> tuple[Path, int, str, str]:
    """The repository's configuration on ports of its own: file, base of the services' ports, two URLs."""
    base, (http, control) = free_base(), free_ports(2)
    text = CONF.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{http}")
    text = text.replace("127.0.0.1:9901", f"127.0.0.1:{control}")
    text = re.sub(r"127\.0\.0\.1:91(\d\d)", lambda found: f"127.0.0.1:{base + int(found[1])}", text)
    conf = tmp_path / "conf.toml"
    conf.write_text(text)
    return conf, base, f"http://127.0.0.1:{http}", f"http://127.0.0.1:{control}"


def start(conf: Path, base: int) -> subprocess.Popen[str]:
    """The demo as a process of its own."""
    command = [sys.executable, "-c", START, str(conf), str(base)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_everything_answers_and_everything_ends(moved, number):
    conf, base, url, control = moved
    demo = start(conf, base)
    try:
        said = next(line for line in demo.stdout if "gatewayd listens on" in line)
        assert url in said
        statuses = [
            httpx.get(f"{url}{path}").status_code
            for path in (
                "/v1/policies/POL-000123",
                "/v1/claims/CLM-000007",
                "/v1/quotes/QUO-000001",
                "/v1/billing/accounts/POL-000001",
                "/v1/documents/DOC-000123?pages=1",
                "/v1/telematics/vehicles/VEH-000042",
                "/v2",
            )
        ]
        assert statuses == [200] * 6 + [404]
        assert "gatewayd_" in httpx.get(f"{control}/metrics").text
    finally:
        demo.send_signal(number)
        out, err = demo.communicate(timeout=30)
    assert demo.returncode == 0, err
    assert out.endswith("stopping\n")
    assert '"status":404' in (conf.parent / "run" / "access.log").read_text()
    assert not [port for port in range(base, base + 20) if answers(port)]


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_in_use_is_said_and_nothing_is_left_running(moved):
    conf, base, _, _ = moved
    with socket.create_server(("127.0.0.1", base + 2)):
        demo = start(conf, base)
        _, err = demo.communicate(timeout=30)
    assert demo.returncode != 0
    assert f"ports in use: {base + 2} (claims)" in err
    assert not [port for port in range(base, base + 20) if answers(port)]


def test_what_gatewayd_cannot_serve_ends_the_demo(moved):
    conf, base, _, _ = moved
    conf.write_text(conf.read_text().replace('service = "claims"', 'service = "claimz"'))
    demo = start(conf, base)
    _, err = demo.communicate(timeout=30)
    assert "claimz" in err
    assert "a process ended with exit code 2 before it answered" in err
    assert not [port for port in range(base, base + 20) if answers(port)]


def test_a_demo_that_is_killed_takes_its_processes_along(moved):
    conf, base, _, _ = moved
    demo = start(conf, base)
    next(line for line in demo.stdout if "starting gatewayd" in line)
    assert [port for port in range(base, base + 20) if answers(port)]
    demo.kill()
    demo.communicate(timeout=30)  # at the end of the output, which all of them share: when the last one has ended
    assert not [port for port in range(base, base + 20) if answers(port)]
