"""Other people's programs beside a daemon: nginx, gunicorn with httpbin, HAProxy. Tests of missing ones are skipped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import WAIT, wait_for

_PLACES = ["/usr/sbin", "/usr/local/sbin"]


def program(name: str) -> str:
    """Where the program is; skips the test if it is nowhere."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *_PLACES]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """A port of the loopback address that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def said(*command: str, within: float = WAIT) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def running(command: list[str], port: int, folder: Path, pass_fds: tuple[int, ...] = ()) -> Iterator[None]:
    """The program runs, listens at `port`, and ends with the block; what it says stands in the folder."""
    said_path = folder / "said.log"
    home = {**os.environ, "HOME": str(folder)}  # where some programs leave files
    with said_path.open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, pass_fds=pass_fds, start_new_session=True, cwd=folder, env=home
        )
    try:
        wait_for(lambda: answers(port), command[0], lambda: said_path.read_text() if process.poll() is not None else "")
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(WAIT)


NGINX = """
daemon off; pid nginx.pid; worker_processes 1; error_log stderr; events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  types {{ text/html html; }} default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port}; root files; gzip on; gzip_types text/html; gzip_proxied any;
    location = /count {{ return 200 "$connection $connection_requests"; }}
    location = /token {{ return 200 "$arg_is"; }}
    location = /headers {{ return 200 "$http_host|$http_x_forwarded_for|$http_via|$http_x_request_id"; }}
  }}
}}
"""


@contextmanager
def nginx(files: dict[str, bytes]) -> Iterator[int]:
    """nginx with these files; its port."""
    binary, port = program("nginx"), free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder = Path(name)
        (folder / "files").mkdir()
        for file, content in files.items():
            (folder / "files" / file).write_bytes(content)
            os.utime(folder / "files" / file, (1_700_000_000, 1_700_000_000))
        folder.chmod(0o755)  # started by root, its worker is somebody else
        (folder / "nginx.conf").write_text(NGINX.format(port=port))
        with running([binary, "-p", name, "-c", "nginx.conf", "-e", "stderr"], port, folder):
            yield port


@contextmanager
def httpbin() -> Iterator[int]:
    """httpbin, served by gunicorn as its makers do; its port."""
    pytest.importorskip("gunicorn")
    pytest.importorskip("flask")
    with socket.create_server(("127.0.0.1", 0)) as listening, tempfile.TemporaryDirectory(prefix="httpbin-") as name:
        port: int = listening.getsockname()[1]
        descriptor = listening.fileno()
        bind = ["-b", f"fd://{descriptor}", "-k", "gthread", "--threads", "8"]
        command = [sys.executable, "-m", "gunicorn", *bind, "httpbin:app"]
        with running(command, port, Path(name), (descriptor,)):
            yield port


HAPROXY = """
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen front
  bind 127.0.0.1:{port}
  server gateway 127.0.0.1:{to} {option}
"""


@contextmanager
def haproxy(to: int, option: str) -> Iterator[int]:
    """HAProxy passing connections on to the port `to`; `option` is `send-proxy` or `send-proxy-v2`. Its own port."""
    binary, port = program("haproxy"), free_port()
    with tempfile.TemporaryDirectory(prefix="haproxy-") as name:
        folder = Path(name)
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, to=to, option=option))
        with running([binary, "-db", "-f", "haproxy.cfg"], port, folder):
            yield port
