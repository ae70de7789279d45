"""`GET /v1/top`: what `gatewayd top` shows, a part of the control process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import Metric

from gatewayd.config.model import Document
from gatewayd.observe.metrics import Totals
from gatewayd.server.overview import Overview, overview

Observed = Callable[[], Awaitable[tuple[Mapping[str, Any], Totals]]]
"""Asks for the supervisor's status and what the workers counted."""


class Top:
    """See `collect.part.Part`."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.get("/v1/top", self.top)]

    def operations(self) -> dict[str, Any]:
        (schema,), components = msgspec.json.schema_components([Overview], ref_template="#/$defs/{name}")
        content = {"application/json": {"schema": {**schema, "$defs": components}}}
        said = {"description": "Everything counted since the start, and how things are.", "content": content}
        return {"/v1/top": {"get": {"summary": "The daemon at this moment", "responses": {"200": said}}}}

    def families(self) -> Iterable[Metric]:
        return ()

    async def apply(self, document: Document) -> None:
        """Nothing here depends on the configuration."""

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def top(self, _: web.Request) -> web.Response:
        """An `overview.Overview`."""
        status, totals = await self._observed()
        return web.Response(body=msgspec.json.encode(overview(status, totals)), content_type="application/json")
