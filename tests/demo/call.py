"""Calling a demo service over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

T = TypeVar("T")
Client = TestClient[web.Request, web.Application]


def with_service(app: web.Application, talk: Callable[[Client], Awaitable[T]]) -> T:
    """What `talk` returns that is handed a client of `app`, which runs on a free port."""

    async def session() -> T:
        async with TestClient(TestServer(app)) as client:
            return await talk(client)

    return asyncio.run(session())
