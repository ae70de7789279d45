"""A table in ClickHouse, or what speaks its HTTP interface: `INSERT … FORMAT JSONEachRow`, gzip over HTTP.

Every batch has a token (`insert_deduplication_token`), by which the server drops what it has taken already. The batch
is planned before it is sent, so the token is the same after a crash of ours, too. The table that is made here remembers
1,000 tokens (`non_replicated_deduplication_window`; replicated tables remember 100 or more by themselves), and is a
`ReplacingMergeTree` by (instance, chain, number): what comes twice nevertheless is one row after a merge, or with
`FINAL`.
"""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Mapping
from typing import ClassVar

import aiohttp

from gatewayd.collect.sinks.fields import IDENTITY, Origin, chosen, json_expressions, json_lines
from gatewayd.collect.sinks.following import Batch
from gatewayd.collect.sinks.sink import Blocking, Memory, RefusedError, SinkError
from gatewayd.config.sinks import ClickhouseSink

MOMENT = """strftime("at", '%Y-%m-%d %H:%M:%S.%f')"""
TOKEN = "insert_deduplication_token"  # noqa: S105
SETTINGS = {
    "insert_deduplicate": "1",
    "async_insert": "0",
    "wait_end_of_query": "1",  # no 200 before it is done
    "input_format_parallel_parsing": "0",  # or a batch could become several blocks
    "input_format_null_as_default": "0",
    "input_format_json_read_objects_as_strings": "1",
}
_TYPES = {
    "number": "UInt64",
    "at": "DateTime64(6, 'UTC')",
    "sampled": "Bool",
    "status": "UInt16",
    "attempts": "UInt8",
    "generation": "UInt32",
    **dict.fromkeys(("total_us", "upstream_us", "bytes_in", "bytes_out"), "UInt64"),
    **dict.fromkeys(("request_id", "trace_id", "span_id", "parent_id"), "String"),
    **dict.fromkeys(("client", "peer", "agent", "values", "captured"), "Nullable(String)"),
}
"""Of all else: LowCardinality(String)."""
_FAULT_OF_DATA = {6, 26, 27, 33, 38, 41, 53, 69, 72, 117, 131, 321, 349, 441, 467}
"""Codes of ClickHouse (`ErrorCodes.cpp`) for a value that cannot be read, or does not fit its column."""
_LEVEL = 1


class Sink:
    """Holds one session with the server."""

    repeatable: ClassVar[bool] = True

    def __init__(self, config: ClickhouseSink, origin: Origin) -> None:
        self._config = config
        self._names = (*IDENTITY, *chosen(config))
        self._origin = origin
        self._session: aiohttp.ClientSession | None = None
        self._blocking: Blocking | None = None
        columns = ", ".join(map(_named, self._names))
        self._insert = f"INSERT INTO {self._table} ({columns}) FORMAT JSONEachRow"

    @property
    def _table(self) -> str:
        return f"{_named(self._config.database)}.{_named(self._config.table)}"

    def columns(self) -> list[str]:
        """One text per call, and what was captured."""
        return json_expressions(self._names, self._origin, MOMENT)

    async def open(self, memory: Memory, blocking: Blocking) -> None:
        self._blocking = blocking
        headers = {"X-ClickHouse-User": self._config.user, "X-ClickHouse-Database": self._config.database}
        if self._config.password:
            headers["X-ClickHouse-Key"] = self._config.password
        context = await blocking(_context, self._config.ca)
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=float(self._config.timeout)),
            connector=aiohttp.TCPConnector(ssl=context, limit=1),
        )
        if self._config.create:
            for statement in statements(self._config.database, self._config.table, self._names):
                await self._post({}, statement.encode(), {})

    async def send(self, batch: Batch) -> Mapping[str, int]:
        assert self._blocking is not None
        body, headers = await self._blocking(self._body, batch)
        token = f"{self._origin.instance}/{batch.token}"
        await self._post(SETTINGS | {"query": self._insert, TOKEN: token}, body, headers)
        return {}

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _body(self, batch: Batch) -> tuple[bytes, dict[str, str]]:
        data = "\n".join(json_lines(batch.rows, self._names)).encode()
        if not self._config.compress:
            return data, {}
        return gzip.compress(data, _LEVEL, mtime=0), {"Content-Encoding": "gzip"}

    async def _post(self, settings: Mapping[str, str], body: bytes, headers: Mapping[str, str]) -> None:
        assert self._session is not None
        try:
            async with self._session.post(
                self._config.url, params=settings, data=body, headers=headers, allow_redirects=False
            ) as reply:
                code = reply.headers.get("X-ClickHouse-Exception-Code", "")
                await reply.read()
                if reply.status == 200 and not code:
                    return
        except TimeoutError:
            raise SinkError("it does not answer in time") from None
        except aiohttp.ClientError as error:
            said = error.strerror if isinstance(error, OSError) else ""
            raise SinkError(said or type(error).__name__) from None
        # What it says beyond that may show values.
        text = f"it answers {reply.status}, code {code or 'none'}"
        if reply.status == 413 or (code.isdigit() and int(code) in _FAULT_OF_DATA):
            raise RefusedError(text)
        raise SinkError(text)


def statements(database: str, table: str, names: tuple[str, ...]) -> list[str]:
    """What makes the table, and columns that it lacks."""
    where = f"{_named(database)}.{_named(table)}"
    columns = [f"{_named(name)} {_TYPES.get(name, 'LowCardinality(String)')}" for name in names]
    listed = ",\n    ".join(columns)
    make = (
        f"CREATE TABLE IF NOT EXISTS {where} (\n    {listed}\n)\n"
        "ENGINE = ReplacingMergeTree\nPARTITION BY toYYYYMM(at)\nORDER BY (instance, chain, number)\n"
        "SETTINGS non_replicated_deduplication_window = 1000"
    )
    more = ", ".join(f"ADD COLUMN IF NOT EXISTS {column}" for column in columns)
    return [make, f"ALTER TABLE {where} {more}"]


def _context(authorities: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authorities or None)


def _named(name: str) -> str:
    return f"`{name}`"
