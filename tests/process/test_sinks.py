"""Sinks of a real daemon, whose control process is killed under load: each record arrives, and arrives once."""

from __future__ import annotations

import json
import os
import random
import signal

import pytest

from tests.collect.sinks.syslog_receiver import Datagrams
from tests.support.daemon import FULL, Daemon, proxied
from tests.support.echo import EchoUpstream
from tests.support.load import Load
from tests.support.postgres_server import PostgresProcess, needs_postgres
from tests.support.records import calls_in

pytestmark = [pytest.mark.process, needs_postgres]

KILLS = 20 if FULL else 4
RANDOM = random.Random(5)


@pytest.fixture(scope="module")
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


def with_sinks(upstream, folder, server):
    """A document that sends its records on, in batches of every size."""
    document = proxied(upstream.address)
    document["gateway"] = {"workers": 2, "state_dir": str(folder / "state")}
    document["audit"] = {"enabled": True}
    common = {"interval": "10ms", "retry": "1s", "batch": 397}
    document["sinks"] = {
        "file": {"kind": "file", "path": str(folder / "calls.ndjson"), "rotate_size": "1MiB", **common},
        "table": {"kind": "postgres", "url": server.url, "tls": "off", **common},
        "gone": {"kind": "syslog", "address": f"unix:{folder}/nobody", "transport": "udp", **common},
    }
    return document


def files(folder):
    """The file and those that were renamed."""
    return [path for path in folder.iterdir() if path.name.startswith("calls.ndjson")]


class Lines:
    """How many lines there are. Files that were renamed do not change any more."""

    def __init__(self, folder):
        self.folder, self.renamed = folder, {}

    def count(self):
        """As of now; while a file is being renamed, one may be missed."""
        current = self.folder / "calls.ndjson"
        for path in files(self.folder):
            if path != current and path not in self.renamed:
                self.renamed[path] = path.read_bytes().count(b"\n")
        last = current.read_bytes().count(b"\n") if current.exists() else 0
        return sum(self.renamed.values()) + last


def in_files(folder):
    """Request ids in all of them."""
    return sorted(json.loads(line)["request_id"] for path in files(folder) for line in path.read_text().splitlines())


def in_table(server):
    """Request ids in the table."""
    return sorted(found for (found,) in server.query("SELECT request_id FROM gatewayd_calls"))


def kill_control(daemon):
    """The control process, and wait for its successor."""
    old = daemon.control_pid()
    os.kill(old, signal.SIGKILL)
    daemon.wait_for(lambda: daemon.probe("/livez")[0] == 200 and daemon.control_pid() != old, "another control process")


def figure(daemon, name, sink):
    """A figure of a sink; -1 as long as there is none."""
    start = f'{name}{{sink="{sink}"}} '
    page = daemon.ask("GET", "/metrics")[1].decode().splitlines()
    return next((float(line.removeprefix(start)) for line in page if line.startswith(start)), -1.0)


def test_every_record_arrives_once(upstream):
    with PostgresProcess() as server, Daemon(proxied(upstream.address), start=False) as daemon:
        daemon.write(with_sinks(upstream, daemon.folder, server))
        daemon.launch()
        daemon.wait_until_ready()
        with Load(daemon.port(), keep_alive=1, fresh=1) as load:
            for _ in range(KILLS):
                load.reach(RANDOM.randrange(100, 600))
                kill_control(daemon)
            server.stop()
            load.reach(300)
            server.start()
            load.reach(200)
            outcome = load.stop()
        assert outcome.ok > 100 * KILLS
        recorded = sorted(call.request_id.decode() for call in calls_in(daemon.folder / "state"))
        lines = Lines(daemon.folder)
        daemon.wait_for(lambda: lines.count() >= len(recorded), "everything in files")
        daemon.wait_for(lambda: len(in_table(server)) >= len(recorded), "everything in the table")
        assert in_files(daemon.folder) == recorded
        assert len(files(daemon.folder)) > 1
        assert in_table(server) == recorded
        daemon.wait_for(lambda: figure(daemon, "gatewayd_sink_failures_total", "gone") > 0, "a sink that fails")
        assert figure(daemon, "gatewayd_sink_up", "file") == 1
        receiver = Datagrams(str(daemon.folder / "nobody"))  # who was away so long begins with the first
        daemon.wait_for(lambda: receiver.messages()[:1] or None, "what the receiver has missed")
        receiver.close()
        daemon.terminate()
