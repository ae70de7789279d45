"""A real PostgreSQL of a test's own, from Debian's package, on a free port; it can be stopped and started anew."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

WAIT = 20.0
"""Seconds it may take to end."""
USER = "postgres"


def _folder() -> Path | None:
    """Where the newest server's programs lie; Debian has them outside of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which("postgres")
    return found[-1].parent if found else Path(elsewhere).parent if elsewhere else None


FOLDER = _folder()
needs_postgres = pytest.mark.skipif(FOLDER is None, reason="postgresql is not installed")


class PostgresProcess:
    """`with PostgresProcess() as server`: its data lie in a folder that goes with it."""

    def __init__(self, **settings: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._settings = {"fsync": "off", "full_page_writes": "off", **settings}
        # As root it does not run; then it is Debian's own user.
        self._user = USER if os.geteuid() == 0 else None
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For a sink's `url`."""
        return f"postgresql://{USER}:pass-word@127.0.0.1:{self.port}/postgres"

    @property
    def folder(self) -> Path:
        """A folder that the server can read."""
        return Path(self._folder.name)

    def holding(self, files: dict[str, str]) -> PostgresProcess:
        """With copies of files in its folder that it alone can read, such as keys."""
        for name, path in files.items():
            (self.folder / name).write_bytes(Path(path).read_bytes())
            (self.folder / name).chmod(0o600)
        return self

    def __enter__(self) -> PostgresProcess:
        assert FOLDER is not None
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        command = [str(FOLDER / "initdb"), "-D", str(self.folder / "data"), "-U", USER, "-N", "-E", "UTF8"]
        command += ["--locale=C", "-A", "trust"]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=self.folder)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Begin, and wait until it answers."""
        assert FOLDER is not None
        settings = self._settings | {"port": str(self.port), "listen_addresses": "127.0.0.1"}
        settings |= {"unix_socket_directories": str(self.folder)}
        command = [str(FOLDER / "postgres"), "-D", str(self.folder / "data")]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, user=self._user, cwd=self.folder)
        ready = [str(FOLDER / "pg_isready"), "-q", "-t", "1", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode != 0:
            assert self._process.poll() is None, (self.folder / "log").read_text()

    def stop(self) -> None:
        """At once, as a crash would (SIGQUIT): what was committed is there when it is started again."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait(WAIT)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """What it answers, as texts."""
        command = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-AtX", "-F", "\x1f", "-c", statement]
        done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return [tuple(line.split("\x1f")) for line in done.stdout.splitlines()]
