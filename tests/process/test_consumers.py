"""Consumers of a real daemon: one index for all workers, keys that come and go, memory that is given back."""

from __future__ import annotations

import hashlib
import http.client
import json
import os

import pytest

from gatewayd.identity import api_keys
from tests.support.daemon import FULL, Daemon

pytestmark = pytest.mark.process

MANY, RELOADS = (100_000, 16) if FULL else (10_000, 16)
PEPPER = "p" * 32


def line(number):
    hashed = api_keys.stored(hashlib.sha256(b"%d" % number).digest())
    return json.dumps({"id": f"c{number}", "keys": [{"id": "k", "hash": hashed}]}) + "\n"


def document(folder, **more):
    return {
        "gateway": {"workers": 2, "policies": ["api_key"], "state_dir": f"{folder}/state", "drain_timeout": "0s"},
        "identity": {"pepper": PEPPER, "consumers_file": f"{folder}/consumers.jsonl", "failures_per_address": 0},
        "listeners": {"http": {}},
        "routes": {"all": {"path": "/*", "reply": {"body": "hi"}}},
        "policies": {"api_key": {}},
        **more,
    }


def asked(daemon, key, times=8):
    """The statuses of requests with a key on connections of their own, so that they come to all workers."""
    found = set()
    for _ in range(times):
        connection = http.client.HTTPConnection("127.0.0.1", daemon.port(), timeout=20)
        connection.request("GET", "/", headers={"X-Api-Key": key})
        found.add(connection.getresponse().status)
        connection.close()
    return found


def shared(daemon):
    """Bytes in the memory that workers share."""
    pid = daemon.workers()[0]
    files = [os.stat(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return max(each.st_blocks * 512 for each in files if each.st_size >= 1 << 36)


def test_keys_are_made_taken_and_revoked_while_it_runs(tmp_path):
    (tmp_path / "consumers.jsonl").touch()
    with Daemon(document(tmp_path, consumers={"own": {}})) as daemon:
        made = daemon.call("keys", "new", "acme", "--create", "--id", "k")
        key = made.stdout.strip()
        assert made.returncode == 0
        assert asked(daemon, key) == {401}
        daemon.reload()
        assert asked(daemon, key) == {200}
        assert daemon.call("keys", "revoke", "acme", "k").returncode == 0
        daemon.reload()
        assert asked(daemon, key) == {401}
        assert key[8:40] not in daemon.log


def test_many_reloads_take_no_more_shared_memory_than_a_few(tmp_path):
    path, key = tmp_path / "consumers.jsonl", api_keys.new_key("live")
    hashed = api_keys.stored(api_keys.hasher(PEPPER)(key.encode()))
    mine = json.dumps({"id": "mine", "keys": [{"id": "k", "hash": hashed}]}) + "\n"
    path.write_text(mine + "".join(line(number) for number in range(MANY)))
    taken = []
    with Daemon(document(tmp_path)) as daemon:
        for reload in range(RELOADS):
            assert asked(daemon, key) == {200}
            taken.append(shared(daemon))
            path.write_text(mine + "".join(line(number + reload + 1) for number in range(MANY)))
            daemon.reload()
        index = taken[0]
        assert max(taken) < RELOADS / 2 * index  # on a busy machine some are let go of late
