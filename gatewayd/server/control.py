"""The control process: /livez /readyz /status /metrics and POST /reload, over aiohttp. No traffic depends on it.

It knows nothing itself: it reads the metrics' shared memory and asks the supervisor for the rest.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from prometheus_client import Metric

from gatewayd.audit.actions import user
from gatewayd.collect.part import Part
from gatewayd.config import address as addresses
from gatewayd.config.model import Document, decode
from gatewayd.errors import ConfigError
from gatewayd.observe import metrics
from gatewayd.observe.metrics import Totals
from gatewayd.server import control_parts, exposition, log, shared_memory
from gatewayd.server.channel import AnyMessage, Channel, ChannelError, Observe, Ready, Reload, Status, Tell
from gatewayd.server.control_parts import MakeParts
from gatewayd.server.process import ignore_signals, numbers
from gatewayd.server.top import Top

_log = logging.getLogger(__name__)
_PEER = struct.Struct("3i")
_NICENESS = 10
"""Where workers want a whole core, what collects has a tenth of it at most: calls come first, records can wait."""
_PATIENCE = 5.0
"""Seconds the supervisor gets to answer anything but a reload."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Purge(msgspec.Struct, forbid_unknown_fields=True):
    """What is to be purged (`cache.store.Store.purge`)."""

    kind: Literal["url", "prefix", "tag", "all"]
    value: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "all") == bool(self.value):
            raise ValueError("a value belongs to every kind but all")


class Control:
    """The application. `observe` is what the supervisor said of the metrics, and where it thinks this listens."""

    def __init__(self, memory: memoryview, make_parts: MakeParts = lambda document, everyone: ()) -> None:
        """`memory` holds the metrics; `make_parts` makes what else it consists of, by the first document."""
        self._memory = memory
        self._make_parts = make_parts
        self._parts: list[Part] = []
        self._recorded = False  # whether calls are; the supervisor starts another where that changes
        self._briefed = asyncio.Event()
        self._observe = Observe("", {})
        self._channel: Channel | None = None
        self._over = asyncio.Event()
        self.app = web.Application(middlewares=[_plain_errors, self._guard])
        self.app.on_response_prepare.append(_unbranded)
        self.app.router.add_get("/livez", self.livez)
        self.app.router.add_get("/readyz", self.readyz)
        self.app.router.add_get("/status", self.status)
        self.app.router.add_get("/metrics", self.metrics)
        self.app.router.add_get("/usage", self.usage)
        self.app.router.add_post("/reload", self.reload)
        self.app.router.add_post("/cache/purge", self.purge)

    async def run(self, channel: socket.socket, listening: socket.socket) -> None:
        """Serve on `listening` until the supervisor hangs up."""
        self._channel = Channel(channel, self.serve, self._hung_up)
        await self._briefed.wait()
        runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        await self._over.wait()
        await runner.cleanup()
        for part in reversed(self._parts):
            await part.close()

    async def serve(self, message: AnyMessage, _: list[socket.socket]) -> bytes | None:
        """What the supervisor says."""
        if not isinstance(message, Observe):
            raise ChannelError(f"the control process does not know {type(message).__name__}")
        self._observe = message
        document = decode(msgspec.msgpack.decode(message.document))
        if not self._parts:
            self._begin(document)
        for part in self._parts:
            try:
                await part.apply(document)
            except Exception:
                _log.exception("%s does not go by the new generation", type(part).__name__)
        self._briefed.set()
        return None

    def _begin(self, document: Document) -> None:
        self._recorded = document.audit.enabled
        self._parts = [Top(self._observed), *self._make_parts(document, lambda: self._parts)]
        for part in self._parts:
            self.app.router.add_routes(part.routes())
        self.app.router.add_route("*", "/v1/{rest:.*}", self.unknown)

    def _hung_up(self) -> None:
        self._over.set()
        self._briefed.set()

    async def unknown(self, _: web.Request) -> web.Response:
        """What no part answers."""
        if not self._recorded:
            raise web.HTTPServiceUnavailable(text="calls are not recorded: audit.enabled is false")
        raise web.HTTPNotFound

    async def livez(self, _: web.Request) -> web.Response:
        """The supervisor answers."""
        await self._ask(Ready())
        return web.json_response({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 when every worker serves the current generation, else 503: starting, draining, a worker down."""
        found = await self._ask(Ready())
        return _json(found, 200 if msgspec.json.decode(found)["ready"] else 503)

    async def status(self, _: web.Request) -> web.Response:
        """Everything the supervisor and its workers say of themselves."""
        return _json(await self._ask(Status()))

    async def metrics(self, request: web.Request) -> web.Response:
        """The page for Prometheus. Made in a thread: with thousands of routes it takes a while."""
        form = exposition.wanted(request.headers.get("Accept", ""))
        status, totals = await self._observed()
        page = await asyncio.to_thread(exposition.page, status, totals, self._families(), form)
        return web.Response(body=page, headers={"Content-Type": form.content_type, "Vary": "Accept"})

    async def usage(self, request: web.Request) -> web.Response:
        """What `?consumer=<id>` has used of each limit counted by consumer; 404 if there is none of that id."""
        consumer = request.query.get("consumer", "")
        said = msgspec.json.decode(await self._ask(Tell("usage", consumer.encode())), type=list[dict[str, Any] | None])
        found = next((each for each in said if each is not None), None)
        if found is None:
            raise web.HTTPNotFound(text=f"there is no consumer {consumer}")
        return _json(msgspec.json.encode(found))

    async def reload(self, request: web.Request) -> web.Response:
        """Load the configuration again: 200 and the generation, or 422 and what is wrong with it."""
        try:
            return _json(await self._ask(Reload(actor_of(request))))
        except ConfigError as error:
            return _json(msgspec.json.encode({"faults": error.faults}), 422)

    async def purge(self, request: web.Request) -> web.Response:
        """Have all workers forget stored replies: `{"kind": "url" | "prefix" | "tag" | "all", "value": "…"}`.

        200 and how many they were, 400 for another body, 415 for what a web page could send without asking first.
        """
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="the body is to be application/json")
        try:
            order = msgspec.json.decode(await request.read(), type=_Purge)
        except msgspec.DecodeError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        told = Tell("cache/purge", msgspec.json.encode(order), actor_of(request))
        said = msgspec.json.decode(await self._ask(told), type=list[int])
        return _json(msgspec.json.encode({"purged": sum(said)}))

    def _families(self) -> list[Metric]:
        """What the parts show; a part that fails is left out, and the page is there without."""
        found: list[Metric] = []
        for part in self._parts:
            try:
                found += part.families()
            except Exception:
                _log.exception("%s shows no metrics", type(part).__name__)
        return found

    async def _observed(self) -> tuple[dict[str, Any], Totals]:
        """The supervisor's status, and what the workers counted."""
        status = msgspec.json.decode(await self._ask(Status()))
        parts = msgspec.convert(status["parts"], list[int])
        return status, await asyncio.to_thread(metrics.read, self._memory, self._observe.slots, parts)

    async def _ask(self, message: AnyMessage) -> bytes:
        assert self._channel is not None
        try:
            async with asyncio.timeout(None if isinstance(message, Reload) else _PATIENCE):
                return await self._channel.call(message)
        except (ChannelError, TimeoutError) as error:
            text = f"the supervisor does not answer: {error}" if str(error) else "the supervisor does not answer"
            raise web.HTTPServiceUnavailable(text=text) from error

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What changes something, or tells of calls and consumers, is refused to web pages: to names that only point
        here, and to other origins."""
        guarded = request.method == "POST" or request.path == "/usage" or request.path.startswith("/v1/")
        if guarded and ("Origin" in request.headers or not trusted_host(request.host, self._observe.address)):
            raise web.HTTPForbidden(text="not from there: ask by an IP address, by localhost or by the configured name")
        return await handler(request)


def actor_of(request: web.Request) -> str:
    """Who asks, as actions have it: an address or, at a unix socket, the user behind it (unix(7): SO_PEERCRED)."""
    sock = request.get_extra_info("socket") if request.transport else None
    if sock is not None and sock.family == socket.AF_UNIX:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        return user(_PEER.unpack(credentials)[1])
    peer = request.get_extra_info("peername")
    return str(addresses.Address(peer[0], peer[1])) if peer else "unknown"


def trusted_host(host: str, configured: str) -> bool:
    """Whether a Host header names this machine by an IP address, as localhost, or by the name that is `configured`.

    A name that somebody's DNS points at this machine is none of these (DNS rebinding).
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        known = addresses.parse(configured)
    except ValueError:
        return False
    if name in ("localhost", known.host) and name:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON, for programs."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        body = msgspec.json.encode({"error": error.text or error.reason})
        allow = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return web.Response(status=error.status, body=body, content_type="application/json", headers=allow)


async def _unbranded(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "gatewayd"


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def main() -> None:
    """Run as the control process that the command line describes."""
    ignore_signals()
    os.nice(_NICENESS)
    options = numbers(sys.argv[1:])
    log.set_up("control")

    async def run() -> None:
        control = Control(shared_memory.attach(options["memory"]), control_parts.make)
        await control.run(socket.socket(fileno=options["channel"]), socket.socket(fileno=options["socket"]))

    asyncio.run(run())


if __name__ == "__main__":
    main()
