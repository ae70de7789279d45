"""A server that speaks as much of ClickHouse's HTTP interface as a sink needs, and does as a test wants it to."""

from __future__ import annotations

import json
import socket
from typing import Any

from aiohttp import web


class Answer(Exception):
    """What to answer instead: a status, and ClickHouse's code."""

    def __init__(self, status: int, code: int = 0) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code


class ClickHouse:
    """`rows` are what it took. `script(rows)` before it does, and `after()` then, may raise `Answer`, or
    `ConnectionError` to hang up."""

    def __init__(self, script: Any = None, after: Any = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.statements: list[str] = []
        self.requests: list[tuple[dict[str, str], dict[str, str]]] = []
        self.tokens: list[str] = []
        self._script = script or (lambda rows: None)
        self._after = after or (lambda: None)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self._port = sock.getsockname()[1]
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """For a sink's `url`."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> ClickHouse:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), dict(request.query)))
        if "query" not in request.query:
            self.statements.append(body.decode())
            return web.Response()
        rows = [json.loads(line) for line in body.splitlines()]
        token = request.query["insert_deduplication_token"]
        try:
            self._script(rows)
            if token not in self.tokens:
                self.rows += rows
            self.tokens.append(token)
            self._after()
        except ConnectionError:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        except Answer as error:
            headers = {"X-ClickHouse-Exception-Code": str(error.code)} if error.code else {}
            return web.Response(status=error.status, text=f"Code: {error.code}. Secret value", headers=headers)
        return web.Response()
