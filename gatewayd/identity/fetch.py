"""Side calls to other services: key sets, discovery documents, introspection. And one call for all who wait for it.

aiohttp is the client, imported when the first call is made or announced (`load_client`), for most workers make none.
One session per event loop keeps connections alive; `close` ends it. Redirections are followed within the origin only
(RFC 9110 §4.3.1): an answer from elsewhere is not the answer that was configured.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Coroutine, Hashable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

from gatewayd.core.exchange import Headers
from gatewayd.core.tasks import spawn
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

T = TypeVar("T")

LIMIT = 1024 * 1024
"""Bytes of an answer's body, decoded, unless the caller says otherwise."""
REDIRECTS = 3
CONNECTIONS = 32
"""Open at once, per worker; more calls wait for one within their timeout."""
AT_ONCE = 1024
"""Different things one `Shared` fetches at the same time, unless its maker says otherwise."""

prevented: ContextVar[list[str] | None] = ContextVar("prevented", default=None)
"""Where a list stands no call is made: its URL is noted there instead (`gatewayd explain`)."""

_sessions: dict[asyncio.AbstractEventLoop, ClientSession] = {}
_contexts: dict[str, tuple[int, ssl.SSLContext]] = {}


class FetchError(GatewaydError):
    """There is no answer. `reason` is a token for logs; neither it nor the text holds anything that was sent.

    "bad_url", "bad_request" (a header that cannot be sent), "bad_ca", "connect_failed", "tls_failed", "timeout",
    "closed" (a kept connection, before any answer: what may be repeated may be tried again), "broken", "too_large",
    "redirected" (elsewhere, or too often), "too_many" (`Shared`), "prevented".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Fetched(NamedTuple):
    """An answer, whatever its status."""

    status: int
    headers: Headers
    body: bytes
    """Content codings undone."""


def load_client() -> None:
    """Import the client now, at load, rather than within the first exchange that needs it: that takes 0.3 s."""
    import aiohttp  # noqa: F401


async def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    timeout: float = 5.0,  # noqa: ASYNC109 - the whole call, whatever awaits it
    limit: int = LIMIT,
    ca: str = "",
) -> Fetched:
    """Ask `url` (http or https) and read the whole answer, within `timeout` seconds in all.

    `ca` is a PEM file of authorities to trust instead of the system's. Proxies and netrc files of the environment are
    not used. Raises `FetchError`.
    """
    noted = prevented.get()
    if noted is not None:
        noted.append(url)
        raise FetchError("prevented")
    import aiohttp

    try:
        async with asyncio.timeout(timeout):
            return await _follow(url, method, list(headers), body, limit, _context(ca))
    except TimeoutError:
        raise FetchError("timeout") from None
    except aiohttp.InvalidURL:
        raise FetchError("bad_url") from None
    except aiohttp.ClientSSLError:
        raise FetchError("tls_failed") from None
    except aiohttp.ClientConnectorError:
        raise FetchError("connect_failed") from None
    except aiohttp.ServerDisconnectedError:
        raise FetchError("closed") from None
    except (aiohttp.ClientError, OSError):
        raise FetchError("broken") from None
    except ValueError:
        raise FetchError("bad_request") from None


async def _follow(
    url: str, method: str, headers: Headers, body: bytes, limit: int, context: ssl.SSLContext | bool
) -> Fetched:
    origin = _origin(url)
    for _ in range(REDIRECTS + 1):
        async with _session().request(
            method,
            url,
            data=body or None,
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
            allow_redirects=False,
            ssl=context,
        ) as answer:
            location = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or location is None:
                return await _read(answer, limit)
        url = urljoin(url, location)
        if method != "GET" or _origin(url) != origin:
            break
    raise FetchError("redirected")


async def _read(answer: ClientResponse, limit: int) -> Fetched:
    pieces: list[bytes] = []
    room = limit
    async for piece in answer.content.iter_any():
        room -= len(piece)
        if room < 0:
            answer.close()
            raise FetchError("too_large")
        pieces.append(piece)
    headers = [(name.lower(), value) for name, value in answer.raw_headers]
    return Fetched(answer.status, headers, b"".join(pieces))


def _origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port. Raises `FetchError` for what is no http or https URL, or carries userinfo."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchError("bad_url") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise FetchError("bad_url")
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def is_url(url: str) -> bool:
    """Whether `fetch` would take it."""
    with suppress(FetchError):
        _origin(url)
        return True
    return False


def _context(ca: str) -> ssl.SSLContext | bool:
    """What verifies servers; True: aiohttp's, with the system's authorities."""
    if not ca:
        return True
    try:
        changed = os.stat(ca).st_mtime_ns
        if ca not in _contexts or _contexts[ca][0] != changed:
            _contexts[ca] = changed, ssl.create_default_context(cafile=ca)
    except OSError:  # ssl.SSLError is one
        raise FetchError("bad_ca") from None
    return _contexts[ca][1]


def _session() -> ClientSession:
    import aiohttp

    loop = asyncio.get_running_loop()
    session = _sessions.get(loop)
    if session is None:
        session = _sessions[loop] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `fetch` has one around all
            headers={"User-Agent": "gatewayd"},
        )
    return session


async def close() -> None:
    """Close what this event loop's calls have kept open. Calls made afterwards open it anew."""
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session is not None:
        await session.close()


class Shared(Generic[T]):
    """Single flight: who asks for a key that is being fetched already waits for that call's result.

    The call goes on if one who waits gives up. Nothing is remembered once it is over.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """`at_once`: how many keys may be under way; more are refused, for keys may come from callers."""
        self._at_once = at_once
        self._under_way: dict[Hashable, asyncio.Future[T]] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def get(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make()` returns, or raises. Raises `FetchError` ("too_many")."""
        return await asyncio.shield(self.begin(key, make))

    def begin(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Future[T]:
        """Have it under way, without waiting: for a refresh in the background. Raises `FetchError` ("too_many")."""
        future = self._under_way.get(key)
        if future is None:
            if len(self._under_way) >= self._at_once:
                raise FetchError("too_many")
            future = self._under_way[key] = asyncio.get_running_loop().create_future()
            spawn(self._run(key, future, make), "side call")
        return future

    async def _run(self, key: Hashable, future: asyncio.Future[T], make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        try:
            result = await make()
        except BaseException as error:  # whoever waits is told; if nobody does, nobody misses it
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
                raise
            future.set_exception(error)
            future.exception()
        else:
            future.set_result(result)
        finally:
            del self._under_way[key]
