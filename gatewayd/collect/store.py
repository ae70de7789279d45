"""The call store: a DuckDB file that the control process alone writes. docs/collector.md

All connections of a process share one database, with its memory and its one thread of work per query. DuckDB locks the
file: a second process gets `StoreBusy` until the first is gone, such as during an upgrade of the daemon.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import duckdb

from gatewayd.collect.schema import MIGRATIONS
from gatewayd.config.collector import Collector as Config
from gatewayd.errors import GatewaydError

FILE: Final = "calls.duckdb"
_SETTINGS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "threads": 1,  # the data path has the cores
    "checkpoint_threshold": "48MiB",  # each writes the last, partly filled part of a table again
    "autoinstall_known_extensions": False,  # nothing is fetched from anywhere
    "autoload_known_extensions": False,
    "allocator_flush_threshold": "16MiB",  # memory goes back to the system early
    "max_temp_directory_size": "1GiB",  # what a question spills; the disk is the audit's, too
}


class StoreError(GatewaydError):
    """The call store cannot be used; the text says which and why."""


class StoreBusy(StoreError):
    """Another process has it."""


class Store:
    """The database, opened when first needed. For any thread: `cursor` gives each its own connection."""

    def __init__(self, path: Path | None = None, memory: int = Config().memory) -> None:
        """`path`: the file; None until it is known where it lies. `memory`: bytes DuckDB may keep data in."""
        self.path = path
        self.memory = memory
        self.failures = 0
        """How often it could not be opened, others having it not counted."""
        self._lock = threading.Lock()
        self._database: duckdb.DuckDBPyConnection | None = None

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {'open' if self._database else 'closed'})"

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of one's own; to be closed. Raises `StoreError`.

        A result that is not fetched to its end, by `fetchall` or by closing, keeps a transaction open; while there is
        one, DuckDB's log is not merged into the file and grows. `fetchone` does not fetch to the end.
        """
        with self._lock:
            if self._database is None:
                self._database = self._open()
            return self._database.cursor()

    def limit(self, memory: int) -> None:
        """Let DuckDB keep data in `memory` bytes from now on."""
        with self._lock:
            self.memory = memory
            if self._database is not None:
                self._database.execute(f"SET memory_limit = '{int(memory)}B'")

    def close(self) -> None:
        """Let go of the file, once all cursors are closed, too. The next `cursor` opens it again."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def size(self) -> int:
        """Bytes on disk, what is not yet in the file proper included."""
        if self.path is None:
            return 0
        found = 0
        for path in (self.path, self.path.with_name(f"{self.path.name}.wal")):
            try:
                found += path.stat().st_size
            except FileNotFoundError:
                continue
        return found

    def _open(self) -> duckdb.DuckDBPyConnection:
        if self.path is None:
            raise StoreError("there is no call store: audit.enabled is false, or collector.enabled is")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # at once: what a crash left behind is played back while it opens, and would take what memory there is
            database = duckdb.connect(self.path, config=_SETTINGS | {"memory_limit": f"{int(self.memory)}B"})
        except (duckdb.Error, OSError) as error:
            raise self._failed(error) from error
        try:
            self.path.chmod(0o600)
            _migrate(database, self.path)
        except (duckdb.Error, OSError) as error:
            database.close()
            raise self._failed(error) from error
        except StoreError:
            database.close()
            self.failures += 1
            raise
        return database

    def _failed(self, error: Exception) -> StoreError:
        text = str(error).splitlines()[0]
        if "Could not set lock" in text:
            return StoreBusy(f"the call store {self.path} is in use by another process")
        self.failures += 1
        return StoreError(f"the call store {self.path} cannot be opened: {text}")


def _migrate(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring the schema to the newest version, all or nothing."""
    database.execute("CREATE TABLE IF NOT EXISTS schema_version (version UINTEGER)")
    found = database.execute("SELECT max(version) FROM schema_version").fetchall()  # `cursor` says why not `fetchone`
    version = found[0][0] or 0
    if version > len(MIGRATIONS):
        raise StoreError(f"the call store {path} was made by a newer gatewayd: its version is {version}")
    if version == len(MIGRATIONS):
        return
    database.begin()
    try:
        for migration in MIGRATIONS[version:]:
            database.execute(migration)
        database.execute("DELETE FROM schema_version")
        database.execute("INSERT INTO schema_version VALUES (?)", [len(MIGRATIONS)])
        database.commit()
    except duckdb.Error:
        database.rollback()
        raise
