"""What the control process is made of: parts with questions they answer, figures they show, and a life."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from aiohttp import web
from prometheus_client.core import Metric

from gatewayd.config.model import Document


class Part(Protocol):
    """One part of the control process. Its methods run on the loop; what takes long goes to a thread."""

    def routes(self) -> Iterable[web.RouteDef]:
        """What it answers on the control listener."""
        ...

    def operations(self) -> dict[str, Any]:
        """The same as OpenAPI 3.1 path items, by path."""
        ...

    def families(self) -> Iterable[Metric]:
        """What it shows on `/metrics`."""
        ...

    async def apply(self, document: Document) -> None:
        """Go by `document` from now on: once before anything else, then at every reload."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...
