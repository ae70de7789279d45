"""A server for side calls: key sets, discovery, introspection. It answers by path, and keeps what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple

WAIT = 20.0


class Asked(NamedTuple):
    """A request that came in; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: tuple[str, int]


class SideServer:
    """`with SideServer({"/jwks": {...}}) as server`: plain data is answered as JSON, a tuple is status, headers, body.

    `server.answers` may be changed meanwhile. While `server.gate` is cleared nothing is answered.
    """

    def __init__(self, answers: Mapping[str, Any] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, Any] = dict(answers or {})
        self.asked: list[Asked] = []
        self.gate = threading.Event()
        self.gate.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # callers may break off
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https" if tls is not None else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def url(self, path: str = "", host: str = "127.0.0.1") -> str:
        """The URL of `path`."""
        return f"{self._scheme}://{host}:{self._server.server_address[1]}{path}"

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [each.path for each in self.asked]

    def __enter__(self) -> SideServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            """Answers one connection's requests."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", 0)))
                server.asked.append(Asked(self.command, self.path, headers, body, self.client_address))
                server.gate.wait(WAIT)
                answer = server.answers.get(self.path, (404, {}, b"{}"))
                status, fields, content = (
                    answer if isinstance(answer, tuple) else (200, {}, json.dumps(answer).encode())
                )
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **fields}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                """Nothing is printed."""

        return Handler
