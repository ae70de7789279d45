"""Alerts of a real daemon: told once to a webhook, whatever is killed before somebody has taken them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import os
import signal
import threading
import time

import pytest

from gatewayd.collect.store import Store
from tests.collect.alert_store import DAY, HOUR, add_calls, add_hours, complete
from tests.support.daemon import Daemon

pytestmark = pytest.mark.process

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


class Receiver:
    """A webhook that answers 503 as long as it is not `well`, and writes down what it is sent."""

    def __enter__(self):
        this = self
        self.well = False
        self.refused, self.taken = [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                (this.taken if this.well else this.refused).append((dict(self.headers), body))
                self.send_response(204 if this.well else 503)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def spike(state):
    """A store that has seen acme for eight weeks, and in the last full hour nine times as often as ever."""
    state.mkdir(mode=0o700)
    store = Store(state / "calls.duckdb")
    hour = int(time.time()) // HOUR * HOUR
    with store.cursor() as cursor:
        add_hours(cursor, dict.fromkeys(range(hour - 56 * DAY, hour - HOUR, HOUR), 1_000))
        add_hours(cursor, {hour - HOUR: 9_000})
        add_calls(cursor, hour - 5 * HOUR)
        complete(cursor, hour)
    store.close()


def kill_control(daemon):
    """The control process, and wait for its successor."""
    old = daemon.control_pid()
    os.kill(old, signal.SIGKILL)
    daemon.wait_for(lambda: daemon.probe("/livez")[0] == 200 and daemon.control_pid() != old, "another control process")


def prove(headers, body):
    """A message is signed with the secret."""
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    digest = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


def test_an_alert_is_told_though_the_control_process_is_killed():
    with Receiver() as receiver:
        url = f"http://127.0.0.1:{receiver.server.server_port}/hook?token=s3cr3t"
        daemon = Daemon({}, start=False)
        document = {
            "gateway": {"state_dir": str(daemon.folder / "state")},
            "audit": {"enabled": True},
            "alerts": {"interval": "100ms", "webhooks": {"ops": {"url": url, "secret": SECRET}}},
            "routes": {"claims": {"path": "/*", "reply": {"body": "hi"}}},
        }
        daemon.write(document)
        spike(daemon.folder / "state")
        with daemon:
            daemon.launch()
            daemon.wait_until_ready()
            daemon.wait_for(lambda: receiver.refused, "an attempt")
            kill_control(daemon)
            receiver.well = True
            daemon.wait_for(lambda: receiver.taken, "another attempt")
            headers, body = receiver.taken[0]
            prove(headers, body)
            assert headers["webhook-id"] == receiver.refused[0][0]["webhook-id"]
            message = json.loads(body)
            assert (message["type"], message["data"]["subject"]) == ("alert.opened", "consumer:acme")

            shown = daemon.call("alerts", "--detector", "rate")
            assert "critical rate consumer:acme\n  consumer acme made 9,000 calls; usual" in shown.stdout
            assert "most of it: route claims 100%" in shown.stdout
            (known,) = json.loads(daemon.call("alerts", "--json").stdout)["alerts"]
            assert known == message["data"]
            daemon.wait_for(lambda: daemon.metric("gatewayd_alerts_open") == 1, "the gauge")
            assert "opened (rate, critical): consumer acme made 9,000 calls" in daemon.log
            assert "s3cr3t" not in daemon.log
            assert SECRET not in daemon.log
            assert daemon.terminate() == 0
        assert len(receiver.taken) == 1
