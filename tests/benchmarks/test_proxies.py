"""Every proxy starts from its template, serves what the others serve, and writes an access log."""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from benchmarks.harness import Harness, Options, Target
from benchmarks.machine import prepare
from benchmarks.processes import StartError, wait_until
from benchmarks.proxies import KINDS, POLICIES, Proxy, Setup, Template, render
from benchmarks.upstream import DOCUMENT, LARGE

prepare()
INSTALLED = [
    pytest.param(name, marks=pytest.mark.skipif(bool(kind.missing()), reason=kind.missing()))
    for name, kind in KINDS.items()
]


@pytest.fixture(scope="module")
def harness():
    with Harness(Options()) as found:
        yield found


@pytest.fixture(scope="module")
def target(harness) -> Target:
    return harness.target(own=True)


def ask(proxy: Proxy, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of a reply."""
    context = ssl._create_unverified_context() if proxy.setup.certificate else None
    try:
        with urllib.request.urlopen(proxy.url(path), data=body, timeout=10, context=context) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.process
@pytest.mark.parametrize("kind", INSTALLED)
def test_it_serves_what_the_scenarios_ask(kind, harness, target):
    proxy = harness.proxy(kind, Setup(target.port))
    assert ask(proxy, "/v1/policies/731") == (200, DOCUMENT)
    assert ask(proxy, "/v1/quotes", b"x" * 4096) == (200, DOCUMENT)
    assert ask(proxy, "/large") == (200, LARGE)
    assert ask(proxy, "/huge/300000") == (200, b"x" * 300_000)
    log = Path(proxy.programs[0].log)
    logged = log if kind == "haproxy" else log.with_name("access.log")
    wait_until(
        lambda: logged.exists() and {"731", "quotes"} <= set(re.findall(r"\w+", logged.read_text())), proxy.programs[0]
    )
    if kind != "aiohttp":
        assert all(isinstance(json.loads(line), dict) for line in logged.read_text().splitlines())
    for program in proxy.programs:
        harness.processes.stop(program)


@pytest.mark.process
@pytest.mark.parametrize("kind", INSTALLED)
def test_it_speaks_tls_and_knows_many_routes(kind, harness, target):
    proxy = harness.proxy(kind, Setup(target.port, routes=50, certificate=harness.certificate()))
    assert ask(proxy, "/v1/service-37/items/42") == (200, DOCUMENT)
    if kind != "aiohttp":
        assert ask(proxy, "/v1/service-99/items/42")[0] == 404
    for program in proxy.programs:
        harness.processes.stop(program)


@pytest.mark.process
def test_gatewayd_serves_with_ten_policy_instances(harness, target):
    assert len(POLICIES) == 10
    proxy = harness.proxy("gatewayd", Setup(target.port, policies=True))
    assert ask(proxy, "/v1/policies/731") == (200, DOCUMENT)
    for program in proxy.programs:
        harness.processes.stop(program)


@pytest.mark.process
def test_two_workers_of_the_naive_proxy_are_two_processes(harness, target):
    proxy = harness.proxy("aiohttp", Setup(target.port, workers=2))
    assert len(proxy.pids()) == 2
    for program in proxy.programs:
        harness.processes.stop(program)


def test_what_is_not_installed_is_skipped_by_name(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    harness = Harness(Options())
    assert harness.peers() == ["aiohttp"]
    assert harness.skipped["caddy"] == "caddy is not installed"
    with pytest.raises(StartError, match="caddy is not installed"):
        harness.proxy("caddy", Setup(1))


@pytest.mark.process
def test_a_peer_that_does_not_start_is_skipped_with_its_reason(harness, target, monkeypatch):
    harness = Harness(Options(peers=("aiohttp",)))
    with harness:
        broken = lambda setup, port, folder: [["false"]]  # noqa: E731
        monkeypatch.setitem(KINDS, "aiohttp", type(KINDS["aiohttp"])("aiohttp", "", broken))
        monkeypatch.setitem(KINDS, "gatewayd", type(KINDS["aiohttp"])("gatewayd", "", _serving))
        assert [proxy.name for proxy in harness.everyone(Setup(target.port))] == ["gatewayd"]
        assert "status 1" in harness.skipped["aiohttp"]


def _serving(setup: Setup, port: int, folder: Path) -> list[list[str]]:
    return [["python3", "-m", "http.server", "--bind", "127.0.0.1", str(port)]]


def test_templates_leave_dollars_alone_and_miss_nothing():
    assert Template("$remote_addr @{port}").substitute(port=1) == "$remote_addr 1"
    with pytest.raises(KeyError):
        render("haproxy.conf", port=1)
