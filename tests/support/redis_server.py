"""A real redis-server of a test's own, on a free port, that can be stopped, killed and started anew."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from types import TracebackType
from typing import Any

import pytest

WAIT = 20.0
"""Seconds it may take to begin to answer."""

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class RedisProcess:
    """`with RedisProcess() as redis`: nothing of it is written to a disk."""

    def __init__(self, password: str = "") -> None:
        self.password = password
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = sock.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory()

    @property
    def url(self) -> str:
        """For `redis.url`."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def __enter__(self) -> RedisProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Begin, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        options += ["--dir", self._folder.name]
        if self.password:
            options += ["--requirepass", self.password]
        self._process = subprocess.Popen(["redis-server", *options], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("redis-server ended")

    def kill(self) -> None:
        """SIGKILL: all it knew is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: connections stay, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> Any:
        """What it answers to a command."""
        from redis import Redis

        with Redis(port=self.port, password=self.password or None) as client:
            return client.execute_command(*words)
