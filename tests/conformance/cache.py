"""npm's http-cache-tests before gatewayd: how many pass, and whether docs/policies/cache.md explains those that do not.

Results count as the suite's own pages count them: a test whose dependencies fail does not pass.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.cache.scenes import document
from tests.support.daemon import ROOT, WAIT, Daemon

PACKAGE = "http-cache-tests@0.4.5"
REQUIRED, OPTIMAL = 140, 75
"""Tests of each kind that must pass."""
OPTIONS = {"set_cookie": "store", "heuristic": 0.1, "stale_if_error": "60s"}
"""What the suite expects of a cache and ours does only if told to."""
PAGE = ROOT / "docs" / "policies" / "cache.md"
_TESTS = """
import tests from './tests/index.mjs'
import surrogate from './tests/surrogate-control.mjs'
const all = [...tests, surrogate].flatMap(suite => suite.tests).filter(test => !test.browser_only)
console.log(JSON.stringify(all.map(test => [test.id, test.kind || 'required', test.depends_on || []])))
"""
_UNSET = {f"npm_{where}config_{name}": "" for where in ("", "package_") for name in ("id", "base", "protocol", "port")}

Results = dict[str, Any]
Tests = dict[str, tuple[str, list[str]]]


def run(verbose: bool) -> int:
    """Run it; 0 if enough passes and the rest is explained."""
    suite = install()
    tests: Tests = {name: (kind, needs) for name, kind, needs in json.loads(javascript(suite, "-e", _TESTS))}
    with origin(suite) as port, Daemon({**document(port, **OPTIONS), "gateway": {"workers": 1}}) as daemon:
        results: Results = json.loads(javascript(suite, "cli.mjs", npm_config_base=daemon.url()))
    return report(tests, results, verbose)


def install() -> Path:
    """Where the suite is, fetched if it is not there yet."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gatewayd" / PACKAGE.replace("@", "-")
    suite = cache / "node_modules" / PACKAGE.partition("@")[0]
    if not (suite / "cli.mjs").exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--silent", "--no-save", "--omit=dev", "--prefix", str(cache), PACKAGE]
        subprocess.run(command, check=True, env={**os.environ, **_UNSET}, stdin=subprocess.DEVNULL)
    return suite


def javascript(suite: Path, *words: str, **environ: str) -> str:
    """What a program of the suite prints."""
    command = ["node", "--no-warnings", *(["--input-type=module"] if words[0] == "-e" else []), *words]
    done = subprocess.run(
        command, cwd=suite, env={**os.environ, **_UNSET, **environ}, check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


@contextlib.contextmanager
def origin(suite: Path) -> Iterator[int]:
    """The suite's own server; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {"npm_config_protocol": "http", "npm_config_port": str(port), "npm_config_pidfile": os.devnull}
    server = subprocess.Popen(
        ["node", "server/server.mjs"], cwd=suite, env={**os.environ, **_UNSET, **environ}, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + WAIT
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port)):
                break
            assert time.monotonic() < deadline, "the suite's server does not listen"
        yield port
    finally:
        server.kill()
        server.wait()


def outcome(name: str, tests: Tests, results: Results) -> str:
    """How a test ended: "pass", "fail", "setup", "dependency"."""
    if any(outcome(needed, tests, results) != "pass" for needed in tests[name][1]):
        return "dependency"
    result = results.get(name)
    if result is True:
        return "pass"
    return "setup" if result and result[0] == "Setup" else "fail"


def report(tests: Tests, results: Results, verbose: bool) -> int:
    """Print what there is to know; 0 if enough passes, no test failed to be set up, and the rest is explained."""
    outcomes = {name: outcome(name, tests, results) for name in tests}
    explained = set(re.findall(r"`([\w=-]+)`", PAGE.read_text()))
    passed = Counter(tests[name][0] for name, how in outcomes.items() if how == "pass")
    total = Counter(kind for kind, _ in tests.values())
    unexplained = []
    for name, how in sorted(outcomes.items()):
        kind = tests[name][0]
        if how == "pass" or (kind == "check" and not verbose):
            continue
        print(f"{kind:9} {how:10} {name}: {(results.get(name) or ['', ''])[1]}")
        if kind != "check" and name not in explained:
            unexplained.append(name)
    print(", ".join(f"{kind} {passed[kind]} of {total[kind]}" for kind in ("required", "optimal", "check")))
    if unexplained:
        print(f"not explained in {PAGE.relative_to(ROOT)}: {', '.join(unexplained)}")
    setups = [name for name, how in outcomes.items() if how == "setup" and tests[name][0] != "check"]
    enough = passed["required"] >= REQUIRED and passed["optimal"] >= OPTIMAL
    return int(not enough or bool(setups or unexplained))
