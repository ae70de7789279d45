"""What the insurer's services share: replies, the health check, and running one of them as a process."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

LONGEST_BODY = 1024 * 1024
"""Of a JSON request, bytes."""


def json_reply(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """`document` as JSON."""
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(status=status, body=body, headers=headers, content_type="application/json")


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as the services write it (RFC 9457)."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response = json_reply(document, status, headers)
    response.content_type = "application/problem+json"
    return response


async def json_body(request: web.Request) -> dict[str, Any] | None:
    """The request's JSON object; None if it is none."""
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def whole(text: str | None, default: int, least: int, most: int) -> int | None:
    """The whole number in `text`, `default` without one; None if it is no number or beyond least..most."""
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else -1
    return number if least <= number <= most else None


def application(name: str) -> web.Application:
    """An application that has /health and says in `X-Served-By` which process answered."""
    app = web.Application(client_max_size=LONGEST_BODY)

    async def health(request: web.Request) -> web.Response:
        return json_reply({"service": name, "status": "ok"})

    async def sign(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "insurer"
        response.headers["X-Served-By"] = f"{name}:{_port(request)}"

    app.router.add_get("/health", health)
    app.on_response_prepare.append(sign)
    return app


def _port(request: web.Request) -> int:
    address = request.transport.get_extra_info("sockname") if request.transport else None
    return address[1] if address else 0


def run(app: web.Application, port: int) -> None:
    """Serve `app` on the loopback address until SIGINT or SIGTERM."""
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, shutdown_timeout=0.5)


def options(name: str, port: int, **flags: str) -> argparse.Namespace:
    """The command line of a service: `--port`, and a switch for each of `flags` (its name and help)."""
    parser = argparse.ArgumentParser(prog=f"python -m gatewayd.demo.{name}")
    parser.add_argument("--port", type=int, default=port, help=f"on 127.0.0.1; {port} if not given")
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    return parser.parse_args()
