"""Reloads while traffic flows: no request fails, no connection is dropped, whatever the configuration becomes."""

from __future__ import annotations

import copy
import signal
import subprocess

import pytest

from tests.support.daemon import FULL, Daemon, Document, marked, proxied
from tests.support.echo import EchoUpstream
from tests.support.load import Load

pytestmark = pytest.mark.process

RELOADS, REQUESTS = (30, 200_000) if FULL else (10, 40_000)
WORKERS = (2, 3, 1)


@pytest.fixture(scope="module")
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


def generation(base: Document, number: int) -> Document:
    """The document of a generation: another in routes, listeners, policies, workers and in how targets are used."""
    document = marked(copy.deepcopy(base), number)
    document["gateway"]["workers"] = WORKERS[number // 2 % len(WORKERS)]
    document["routes"][f"own-{number}"] = {"path": f"/own/{number}", "reply": {"body": str(number)}}
    document["listeners"] = {"http": {}} | ({"extra": {}} if number % 4 >= 2 else {})
    if number % 3 == 1:
        document["upstreams"]["up"]["balance"] = "round_robin"  # the upstream is made anew
    return document


@pytest.mark.timeout(600)
def test_no_request_fails_and_every_generation_is_seen(upstream):
    base = proxied(upstream.address)
    with Daemon(generation(base, 1)) as daemon, Load(daemon.port(), keep_alive=6, fresh=6, patient=20) as load:
        loads = [load]
        load.reach(REQUESTS // RELOADS // 2)
        for number in range(2, RELOADS + 2):
            daemon.write(generation(base, number))
            assert daemon.reload() == number
            if number % 4 == 2:  # a listener more; its callers keep their connections when it is gone
                loads.append(Load(daemon.port("extra"), keep_alive=1, patient=2))
                loads[-1].__enter__()
                loads[-1].reach(20)
            load.reach(REQUESTS // RELOADS)
            if number % 4 == 0:  # and now it is gone
                extra = loads[-1]
                daemon.wait_for(lambda gone=extra: gone.outcome.refused, "callers to be turned away")
                extra.stop()
        assert daemon.status()["reloads"] == {"succeeded": RELOADS, "failed": 0}
        outcomes = [each.stop() for each in loads]
    print(f"{RELOADS} reloads, {outcomes[0]}")
    assert [outcome.failed for outcome in outcomes] == [{}] * len(outcomes)
    assert outcomes[0].refused == 0
    assert outcomes[0].ok >= REQUESTS
    assert set(outcomes[0].marks) == {str(number) for number in range(1, RELOADS + 2)}


BROKEN = {
    "unknown key": ("[gateway]\nworkerz = 2\n", 2, "did you mean"),
    "dangling name": ('[routes.more]\npath = "/more"\nservice = "nobody"\n', 3, "nobody"),
    "a policy's options": ('[policies.more]\npolicy = "headers"\n[policies.more.reply.set]\n"a b" = "1"\n', 4, "a b"),
    "no TOML": ("[routes\n", 1, ""),
}
"""What a second file that the configuration includes may hold: its text, the wrong line, a word of what is said."""


@pytest.fixture(scope="module")
def running(upstream):
    """A daemon under load, for one wrong configuration after the other."""
    with Daemon(marked(proxied(upstream.address), 1)) as daemon, Load(daemon.port(), keep_alive=4, fresh=4) as load:
        yield daemon, load


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_configuration_changes_nothing(running, name):
    daemon, load = running
    text, line, said = BROKEN[name]
    right = daemon.conf.read_text()
    (daemon.folder / "more.toml").write_text(text)
    daemon.write_text(f'include = ["more.toml"]\n{right}')
    try:
        refused = daemon.call("reload")
        load.reach(200)
    finally:
        daemon.write_text(right)
    assert refused.returncode == 2
    assert f"more.toml:{line}" in refused.stderr
    assert said in refused.stderr
    assert set(load.outcome.marks) == {"1"}
    assert not load.outcome.failed


def test_a_signal_reloads_and_says_in_the_log_what_is_wrong(running):
    daemon, load = running
    right = daemon.conf.read_text()
    daemon.write_text(right + "[nonsense]\n")
    failed = daemon.status()["reloads"]["failed"]
    daemon.signal(signal.SIGHUP)
    daemon.wait_for(lambda: daemon.status()["reloads"]["failed"] > failed, "the reload to fail")
    last = right.count("\n") + 1
    assert f"conf.toml:{last}" in daemon.log
    assert "generation 1 serves on" in daemon.log
    assert daemon.status()["last_reload"]["succeeded"] is False
    daemon.write_text(right)
    daemon.signal(signal.SIGHUP)
    daemon.wait_until_ready(2)
    load.reach(200)
    assert not load.outcome.failed


def test_the_check_beside_a_running_daemon_is_fine(running):
    daemon, _ = running
    found = daemon.call("check")
    assert (found.returncode, found.stderr) == (0, "")


def test_a_second_daemon_on_the_same_ports_is_told_so(running):
    daemon, load = running
    fixed = {"listeners": {"http": {"address": f"127.0.0.1:{daemon.port()}"}}}
    with Daemon({**proxied("127.0.0.1:1"), **fixed}, start=False) as second:
        for words in ("run", "check"):
            found = second.call(words)
            assert found.returncode == 2
            assert "listeners.http.address" in found.stderr
            assert f"127.0.0.1:{daemon.port()}" in found.stderr
            assert "in use by another process" in found.stderr
    load.reach(200)
    assert not load.outcome.failed


def test_a_port_that_somebody_else_has_is_refused_at_reload(running, upstream):
    daemon, load = running
    right = daemon.conf.read_text()
    daemon.write_text(right + f'[listeners.more]\naddress = "{upstream.address}"\n')
    refused: subprocess.CompletedProcess[str] = daemon.call("reload")
    daemon.write_text(right)
    assert refused.returncode == 2
    assert "conf.toml:" in refused.stderr
    assert "in use by another process" in refused.stderr
    load.reach(200)
    assert not load.outcome.failed
