"""What a daemon recorded, replayed beside it and after it: no socket is opened, nothing of the state is changed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w

from gatewayd.identity import api_keys
from tests.support.daemon import WAIT, Daemon, proxied
from tests.support.echo import EchoUpstream

pytestmark = pytest.mark.process

PEPPER = "p" * 40
WATCH = """
import sys
def watch(event, arguments):
    if event.startswith("socket."):
        print("OPENED", event, arguments, file=sys.stderr)
sys.addaudithook(watch)
"""


def document(address: str, folder: Path, key: str) -> dict[str, Any]:
    """A route for who has a key, ten times an hour at most; a rest for everybody."""
    stored = api_keys.stored(api_keys.hasher(PEPPER)(key.encode()))
    found = proxied(address)
    found["gateway"] = {"workers": 2, "state_dir": str(folder / "state")}
    found["audit"] = {"enabled": True}
    found["identity"] = {"pepper": PEPPER}
    found["consumers"] = {"ann": {"plan": "small", "keys": [{"id": "k", "hash": stored}]}}
    found["plans"] = {"small": {"policies": ["few"]}, "large": {}}
    found["policies"] = {
        "key": {"policy": "api_key"},
        "few": {"policy": "rate_limit", "rate": "10/h", "key": "consumer"},
    }
    found["routes"] = {
        "echo": {"path": "/echo/{token}", "service": next(iter(found["services"])), "policies": ["key"]},
        "rest": {"path": "/*", "reply": {"body": "hi"}},
    }
    return found


def replayed(daemon: Daemon, candidate: dict[str, Any], *words: str) -> tuple[int, Any]:
    """What `gatewayd replay` says of a candidate, from a process that would tell of any socket."""
    (daemon.folder / "candidate.toml").write_text(tomli_w.dumps(candidate))
    (daemon.folder / "watch").mkdir(exist_ok=True)
    (daemon.folder / "watch" / "sitecustomize.py").write_text(WATCH)
    command = [*daemon.command()[:3], "replay", "--config", str(daemon.folder / "candidate.toml"), "--json", *words]
    environ = {**os.environ, "PYTHONPATH": f"{daemon.folder}/watch:{Path(__file__).parents[2]}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False, env=environ)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    changes = {(e["before"], e["after"], e["route"], e["consumer"]): e["calls"] for e in found["changes"]}
    return done.returncode, (found["calls"], found["undecided"], changes)


def changed(candidate: dict[str, Any], section: str, **more: Any) -> dict[str, Any]:
    found = copy.deepcopy(candidate)
    found[section] |= more
    return found


def state_of(folder: Path) -> dict[str, int]:
    """Sizes of all files but the collector's, which goes on working."""
    found = [
        path for path in (folder / "state").rglob("*") if path.is_file() and path.suffix not in (".duckdb", ".wal")
    ]
    return {str(path): path.stat().st_size for path in found}


def test_candidates_are_judged_by_what_was_recorded():
    key = api_keys.new_key("live")
    with EchoUpstream() as upstream:
        daemon = Daemon({}, start=False)
        served = document(upstream.address, daemon.folder, key)
        daemon.write(served)
        daemon._start = True
        with daemon:
            with httpx.Client(base_url=daemon.url()) as caller:
                found = [caller.get(f"/echo/{at}", headers={"x-api-key": key}).status_code for at in range(12)]
                found += [caller.get("/other").status_code, caller.get("/echo/1").status_code]
            assert sorted(found) == [200] * 11 + [401] + [429] * 2
            serving = str(daemon.conf)
            judge = lambda candidate: replayed(daemon, candidate, "--serving", serving)  # noqa: E731
            served["listeners"] = {"http": {"address": "127.0.0.1:0"}}
            daemon.wait_for(lambda: judge(served) == (0, (14, 0, {})), "all on record")
            before = state_of(daemon.folder)
            limited, through = "refused by few rate_limit_exceeded", "let through"
            fewer = changed(served, "policies", few={"policy": "rate_limit", "rate": "4/h", "key": "consumer"})
            assert judge(fewer) == (1, (14, 0, {(through, limited, "echo", "ann"): 6}))
            larger = copy.deepcopy(served)
            larger["consumers"]["ann"]["plan"] = "large"
            assert judge(larger) == (1, (14, 0, {(limited, through, "echo", "ann"): 2}))
            moved = copy.deepcopy(served)
            moved["routes"]["echo"]["path"] = "/v2/echo/{token}"
            elsewhere = {
                (through, "let through on rest", "echo", "ann"): 10,
                (limited, "let through on rest", "echo", "ann"): 2,
                ("refused by key credential_missing", "let through on rest", "echo", ""): 1,
            }
            assert judge(moved) == (1, (14, 1, elsewhere)), "one call of the rest may have been for the new path"
            assert state_of(daemon.folder) == before
            assert daemon.terminate() == 0
            without = copy.deepcopy(served)
            del without["routes"]["rest"]
            gone = {(through, "missed route_not_found", "rest", ""): 1}
            assert judge(without) == (1, (14, 0, gone))
            code, (calls, undecided, changes) = replayed(daemon, without)
            assert (code, calls, undecided, changes) == (0, 14, 1, {}), "the rest may have been for a token"
