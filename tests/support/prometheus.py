"""A real Prometheus that scrapes a test's daemon, and promtool, which knows what rules are."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.support.daemon import WAIT, wait_for

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="prometheus is not installed"
)


def promtool(*words: str) -> str:
    """What promtool says; it must be content."""
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=WAIT, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-4_000:]
    return done.stdout


class Prometheus:
    """`with Prometheus("127.0.0.1:9901") as prometheus`: it scrapes the job `gatewayd` there, once a second."""

    def __init__(self, target: str, rules: tuple[Path, ...] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.address = f"127.0.0.1:{sock.getsockname()[1]}"
        self._folder = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None
        job = {"job_name": "gatewayd", "static_configs": [{"targets": [target]}]}
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "rule_files": [str(path) for path in rules], "scrape_configs": [job]}
        self._config = Path(self._folder.name, "prometheus.yml")
        self._config.write_text(json.dumps(config))  # JSON is YAML

    def __enter__(self) -> Prometheus:
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._folder.name}/data",
                f"--web.listen-address={self.address}",
                "--enable-feature=exemplar-storage",
                "--log.level=error",
            ],
        )
        try:
            wait_for(self._ready, "Prometheus")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(WAIT)
        self._folder.cleanup()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=WAIT) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: Any) -> Any:
        """The data of a reply of its API."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=WAIT) as reply:
            found = json.load(reply)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, text: str) -> list[tuple[dict[str, str], float]]:
        """Labels and values of an instant query."""
        found = self.ask("query", query=text)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def exemplars(self, text: str) -> list[dict[str, Any]]:
        """The exemplars of the last hour."""
        now = time.time()
        found = self.ask("query_exemplars", query=text, start=now - 3600, end=now + 60)
        return [exemplar for series in found for exemplar in series["exemplars"]]
