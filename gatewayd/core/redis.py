"""A Redis server that several machines share: asked beside requests, given up soon, tried again later.

redis-py is the client, imported where a configuration uses it (`RedisServer.of`). It is told neither to try again nor
to wait for longer than `redis.timeout`, for by itself it does both for seconds. After a failure nobody asks for a while
(`ready`), which doubles as long as it lasts. What fails is said in a word that holds nothing of what was sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from gatewayd.config.model import Redis as Config
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError, Fault, GatewaydError

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECTIONS = 16
"""Open at once, per worker."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds without asking after a failure; twice as long after each further one."""

_log = logging.getLogger(__name__)
_clients: dict[asyncio.AbstractEventLoop, dict[RedisServer, Redis]] = {}


class Unreachable(GatewaydError):
    """There is no answer. `reason`: "timeout", "connect_failed", "refused" (our name or password), "resting",
    "closed", or the word with which Redis begins its errors, such as "READONLY".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Script:
    """A Lua script. Redis knows it by its digest once it has run there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Call(NamedTuple):
    """A script to run (`keys` without the prefix), or with `script` None a command: name and `arguments`."""

    script: Script | None
    keys: Sequence[bytes]
    arguments: Sequence[bytes | int | float | str]


class RedisServer:
    """The server of a configuration, as one worker sees it."""

    def __init__(self, config: Config, monotonic: Callable[[], float], use: str = "limits") -> None:
        """`monotonic` tells seconds. `use`, for logs: what it is for."""
        self.config = config
        self.prefix = config.prefix.encode()
        self.up = True
        """False from a failure to the next answer."""
        self.outages = 0
        """How many came to an end."""
        self.failures = 0
        self._monotonic = monotonic
        self._place = f"{_place(config.url)}, for the {use},"
        self._pause = SHORTEST_PAUSE
        self._rests_until = self._down_since = 0.0
        self._closed = False

    def __repr__(self) -> str:
        """Without the password."""
        return f"<RedisServer {self._place} {'up' if self.up else 'down'}>"

    @classmethod
    def of(cls, context: BuildContext, use: str) -> RedisServer:
        """The one of the configuration, kept over reloads; each `use` finds out by itself whether it answers.

        Raises `ConfigError` if there is none, or no library.
        """
        config = context.document.redis
        if not config.url:
            raise ConfigError([Fault("", "it needs a Redis server, and there is none", hint="set redis.url")])
        try:
            import redis.asyncio  # noqa: F401 - now, at load: it takes a while
        except ImportError:
            hint = "pip install 'gatewayd[redis]'"
            raise ConfigError([Fault("", "the library redis is not installed", hint=hint)]) from None
        found: RedisServer | None = context.kept.get(("", f"redis {use}"))
        if found is None or found.config != config:
            found = context.kept[("", f"redis {use}")] = cls(config, context.clock.monotonic, use)
        return found

    def ready(self) -> bool:
        """Whether it may be asked: it is up, or it is time to see if it is again."""
        return self.up or self._monotonic() >= self._rests_until

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """The answers to `calls`, sent in one round trip. Raises `Unreachable`; then all, some or none were done."""
        if not self.ready():
            raise Unreachable("resting")
        if self._closed:
            raise Unreachable("closed")
        if not self.up:
            self._rests_until = self._monotonic() + self._pause  # one at a time finds out
        try:
            answers = await self._answers(calls)
        except Exception as error:
            raise self._failed(error) from None
        self._succeeded()
        return answers

    async def _answers(self, calls: Sequence[Call]) -> list[Any]:
        from redis.exceptions import NoScriptError

        client = self._client()
        async with asyncio.timeout(self.config.timeout):
            answers = await self._send(client, calls, whole=False)
            unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if unknown:
                again = await self._send(client, [calls[at] for at in unknown], whole=True)
                for at, answer in zip(unknown, again, strict=True):
                    answers[at] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _send(self, client: Redis, calls: Sequence[Call], whole: bool) -> list[Any]:
        """`whole`: scripts go as text, not as digests."""
        async with client.pipeline(transaction=False) as pipeline:
            for script, keys, arguments in calls:
                if script is None:
                    pipeline.execute_command(*arguments)
                else:
                    name, text = ("EVAL", script.text) if whole else ("EVALSHA", script.digest)
                    pipeline.execute_command(name, text, len(keys), *[self.prefix + key for key in keys], *arguments)
            return await pipeline.execute(raise_on_error=False)

    def _client(self) -> Redis:
        """The client of the running loop."""
        clients = _clients.setdefault(asyncio.get_running_loop(), {})
        if self not in clients:
            clients[self] = _connect(self.config)
        return clients[self]

    def _failed(self, error: Exception) -> Unreachable:
        reason = _reason(error)
        self.failures += 1
        now = self._monotonic()
        if self.up:
            self.up, self._pause, self._down_since = False, SHORTEST_PAUSE, now
            _log.warning("Redis at %s does not answer (%s)", self._place, reason)
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._rests_until = now + self._pause
        return Unreachable(reason)

    def _succeeded(self) -> None:
        if not self.up:
            self.up = True
            self.outages += 1
            seconds = self._monotonic() - self._down_since
            _log.warning("Redis at %s answers again, after %.1f s", self._place, seconds)

    def close(self) -> None:
        """Ask no more."""
        self._closed = True


async def close() -> None:
    """Close the connections of the running loop; nobody there asks any more."""
    for server, client in _clients.pop(asyncio.get_running_loop(), {}).items():
        server.close()
        with suppress(Exception):
            await client.aclose()


def _connect(config: Config) -> Redis:
    """A client that connects when it first sends."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    seconds = float(config.timeout)
    client: Redis = Redis.from_url(
        config.url,
        socket_timeout=seconds,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        max_connections=CONNECTIONS,
        protocol=2,
    )
    return client


def _reason(error: Exception) -> str:
    """A word for logs. Texts of errors are not for them: some tell what was sent."""
    from redis import exceptions

    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "timeout"
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return "refused"
    if isinstance(error, exceptions.ResponseError):
        word = str(error).partition(" ")[0]
        known = word.isupper() and word.isascii() and word.isalpha()
        return word if known else type(error).__name__
    if isinstance(error, OSError | exceptions.ConnectionError):
        return "connect_failed"
    return type(error).__name__


def _place(url: str) -> str:
    """Where a server is, without name, password and options."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
