"""A table in PostgreSQL, each call once: `INSERT … ON CONFLICT DO NOTHING` under the key (instance, chain, number).

A batch is one statement of one transaction, its columns sent as arrays (`unnest`): half the work of a row's own
parameters each, and no temporary table. A batch that is sent again changes nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from gatewayd.collect.sinks.fields import IDENTITY, Origin, chosen, expressions, json_of_captured
from gatewayd.collect.sinks.following import Batch
from gatewayd.collect.sinks.sink import Blocking, Memory, RefusedError, SinkError
from gatewayd.config.sinks import PostgresSink

if TYPE_CHECKING:
    from sqlalchemy import Connection, Executable, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

KEY = ("instance", "chain", "number")
_TYPES = {
    "number": "BIGINT",
    "at": "TIMESTAMP",
    "sampled": "BOOLEAN",
    "status": "SMALLINT",
    "attempts": "SMALLINT",
    "generation": "BIGINT",
    **dict.fromkeys(("total_us", "upstream_us", "bytes_in", "bytes_out"), "BIGINT"),
}
"""Of all else: TEXT."""
_FAULT_OF_DATA = ("22", "23")
"""Classes of SQLSTATE (PostgreSQL, appendix A): data exception, violation of a constraint."""


class Sink:
    """Holds one connection."""

    repeatable: ClassVar[bool] = False

    def __init__(self, config: PostgresSink, origin: Origin) -> None:
        self._config = config
        self._names = (*IDENTITY, *chosen(config))
        self._origin = origin
        self._captured = self._names.index("captured") if "captured" in self._names else -1
        self._table = _table(config.table, self._names)
        self._insert = _insert(self._table)
        self._engine: AsyncEngine | None = None
        self._connection: AsyncConnection | None = None

    def columns(self) -> list[str]:
        """The value of each column of the table."""
        return expressions(self._names, self._origin)

    async def open(self, memory: Memory, blocking: Blocking) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        self._engine = await blocking(self._make_engine)
        try:
            self._connection = await self._engine.connect()
            await self._connection.run_sync(self._prepare)
            await self._connection.commit()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise _meant(error) from None

    async def send(self, batch: Batch) -> Mapping[str, int]:
        from sqlalchemy.exc import SQLAlchemyError

        assert self._connection is not None
        values = dict(zip(self._names, map(list, zip(*batch.rows, strict=True)), strict=False))
        if self._captured >= 0:
            values["captured"] = [None if each is None else json_of_captured(each) for each in values["captured"]]
        try:
            await self._connection.execute(self._insert, values)
            await self._connection.commit()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            meant = _meant(error)
            if isinstance(meant, RefusedError):
                await self._connection.rollback()
            raise meant from None
        return {}

    async def close(self) -> None:
        import contextlib

        connection, self._connection = self._connection, None
        engine, self._engine = self._engine, None
        with contextlib.suppress(Exception):
            if connection is not None:
                await connection.invalidate()
        if engine is not None:
            await engine.dispose(close=False)

    def _make_engine(self) -> AsyncEngine:
        from sqlalchemy import make_url
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        url = make_url(self._config.url).set(drivername="postgresql+asyncpg")
        seconds = float(self._config.timeout)
        options = {"timeout": seconds, "command_timeout": seconds, "ssl": _context(self._config)}
        return create_async_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=options)

    def _prepare(self, connection: Connection) -> None:
        """The table is there, with all columns and its key."""
        from sqlalchemy import inspect
        from sqlalchemy.schema import CreateColumn

        table = self._table
        if self._config.create:
            table.create(connection, checkfirst=True)
        found = inspect(connection)
        if not found.has_table(table.name, table.schema):
            raise SinkError(f"there is no table {self._config.table}")
        there = {column["name"] for column in found.get_columns(table.name, table.schema)}
        for column in table.columns:
            if column.name not in there:
                if not self._config.create:
                    raise SinkError(f"the table {self._config.table} has no column {column.name}")
                quote = connection.dialect.identifier_preparer.format_table(table)
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {quote} ADD COLUMN IF NOT EXISTS {added}")
        keys: list[set[str | None]] = [set(found.get_pk_constraint(table.name, table.schema)["constrained_columns"])]
        keys += [set(index["column_names"]) for index in found.get_indexes(table.name, table.schema) if index["unique"]]
        if not any(set(KEY) <= key <= {*KEY, "at"} for key in keys):
            raise SinkError(f"the table {self._config.table} has no unique key ({', '.join(KEY)})")


def _table(name: str, names: tuple[str, ...]) -> Table:
    import sqlalchemy
    from sqlalchemy import Column, MetaData
    from sqlalchemy.dialects.postgresql import TIMESTAMP

    def column(name: str) -> Column[Any]:
        kind = _TYPES.get(name, "TEXT")
        of = TIMESTAMP(timezone=True, precision=6) if kind == "TIMESTAMP" else getattr(sqlalchemy, kind)()
        return Column(name, of, primary_key=name in KEY, autoincrement=False, nullable=name not in KEY)

    schema, _, bare = name.rpartition(".")
    return sqlalchemy.Table(bare, MetaData(), *map(column, names), schema=schema or None)


def _insert(table: Table) -> Executable:
    from sqlalchemy import bindparam, func, select
    from sqlalchemy import column as named
    from sqlalchemy.dialects.postgresql import ARRAY, insert

    columns = list(table.columns)
    arrays = [bindparam(column.name, type_=ARRAY(column.type)) for column in columns]
    valued = func.unnest(*arrays).table_valued(*(named(column.name, column.type) for column in columns))
    rows = valued.render_derived(name="rows")
    chosen = select(*(rows.c[column.name] for column in columns))
    return insert(table).from_select([column.name for column in columns], chosen).on_conflict_do_nothing()


def _context(config: PostgresSink) -> ssl.SSLContext | bool:
    if config.tls == "off":
        return False
    context = ssl.create_default_context(cafile=config.ca or None)
    if config.tls == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _meant(error: BaseException) -> SinkError:
    """What an error means, without the texts of a server or library: they may hold values of records."""
    if isinstance(error, OSError) and error.strerror:
        return SinkError(error.strerror)
    origin = getattr(error, "orig", None) or error
    state = str(getattr(origin, "sqlstate", None) or "")
    cause = origin.__cause__ or origin
    text = f"{type(cause).__name__} {state}".strip()
    if state[:2] in _FAULT_OF_DATA or type(cause).__name__ == "DataError":
        return RefusedError(text)
    return SinkError(text)
