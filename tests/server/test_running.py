"""A daemon that runs already, as commands see it."""

from __future__ import annotations

import http.server
import io
import json
import os
import socket
import socketserver
import threading

import pytest

from gatewayd.config.model import decode
from gatewayd.server.running import NotRunning, ask, fetch, held


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with `server.page`, or with what was asked."""

    def do_GET(self):
        page = self.server.page
        body = page if isinstance(page, bytes) else json.dumps(page or [self.command, self.path]).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        self.server.got = (self.headers.get("Content-Type"), self.rfile.read(length))
        self.do_GET()

    def log_message(self, *_):
        """Quiet."""


class UnixServer(socketserver.UnixStreamServer):
    """HTTP over a unix socket."""


@pytest.fixture(params=["tcp", "unix"])
def control(request, tmp_path):
    """A control listener: its address and the server."""
    path = f"{tmp_path}/control.sock"
    tcp = request.param == "tcp"
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler) if tcp else UnixServer(path, Handler)
    if not tcp:
        server.get_request = lambda: (socketserver.UnixStreamServer.get_request(server)[0], ("here", 0))
    server.page, server.status = None, 200
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield (f"127.0.0.1:{server.server_port}" if tcp else f"unix:{path}"), server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_fetched(control):
    address, server = control
    server.page = bytes(range(256)) * 4000
    file = io.BytesIO()
    assert fetch(address, "/v1/export", 3.0, file) == (200, None)
    assert file.getvalue() == server.page


def test_what_is_no_file_is_told(control):
    address, server = control
    server.page, server.status = {"error": "no"}, 503
    file = io.BytesIO()
    assert fetch(address, "/v1/export", 3.0, file) == (503, {"error": "no"})
    assert file.getvalue() == b""


@pytest.mark.parametrize(
    "reply", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 503 X\r\n\r\nno"]
)
def test_a_file_that_does_not_come_whole(reply):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(NotRunning):
            fetch(f"127.0.0.1:{listening.getsockname()[1]}", "/v1/export", 3.0, io.BytesIO())
        thread.join()


def document(**tables):
    return decode({"listeners": {"http": {"address": "127.0.0.1:80"}}, **tables})


def test_asking(control):
    address, server = control
    assert ask(address, "POST", "/reload", 5.0) == (200, ["POST", "/reload"])
    server.status = 503
    assert ask(address, "GET", "/readyz", 5.0) == (503, ["GET", "/readyz"])
    server.page = b"<html>"
    with pytest.raises(NotRunning):
        ask(address, "GET", "/status", 5.0)


def test_a_body_is_json(control):
    address, server = control
    ask(address, "POST", "/x", 20.0, {"kind": "all"})
    assert server.got == ("application/json", b'{"kind":"all"}')
    ask(address, "POST", "/x", 20.0)
    assert server.got == (None, b"")


def test_a_daemon_that_listens_everywhere_is_asked_here():
    with http.server.HTTPServer(("0.0.0.0", 0), Handler) as server:
        server.page, server.status = ["here"], 200
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert ask(f"0.0.0.0:{server.server_port}", "GET", "/", 5.0) == (200, ["here"])
        thread.join()


def test_nobody_there(tmp_path):
    for address in (f"unix:{tmp_path}/control.sock", "127.0.0.1:1"):
        with pytest.raises(NotRunning, match="no daemon answers at"):
            ask(address, "GET", "/status", 5.0)


def test_what_the_daemon_says_it_holds(control):
    address, server = control
    server.page = {"held": ["127.0.0.1:80", "unix:/run/a.sock"]}
    assert held(document(control={"address": address})) == {"127.0.0.1:80", "unix:/run/a.sock"}
    server.page = ["another program"]
    assert held(document(control={"address": address})) == set()
    server.page = {"held": ["127.0.0.1:80"]}
    assert held(document(control={"address": address, "enabled": False})) == set()


def test_what_the_process_of_the_pid_file_holds(tmp_path):
    pid_file = tmp_path / "gatewayd.pid"
    pid_file.write_text(f"{os.getpid()}\n")
    path = f"{tmp_path}/a.sock"
    with socket.create_server(("127.0.0.1", 0)) as mine, socket.socket(socket.AF_UNIX) as mine_too:
        mine_too.bind(path)
        mine_too.listen()
        here = f"127.0.0.1:{mine.getsockname()[1]}"
        listeners = {
            "mine": {"address": here},
            "mine-too": {"address": f"unix:{path}"},
            "free": {"address": "127.0.0.1:1"},
            "any": {"address": "127.0.0.1:0"},
        }
        raw = {"listeners": listeners, "gateway": {"pid_file": str(pid_file)}, "control": {"enabled": False}}
        assert held(decode(raw)) == {here, f"unix:{path}"}
        pid_file.write_text("1\n")
        assert here not in held(decode(raw)) or os.getpid() == 1
        pid_file.unlink()
        assert held(decode(raw)) == set()
