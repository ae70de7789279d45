"""When a disk or descriptors run out: traffic goes on, is refused politely at worst, and all is well later."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.daemon import Daemon, lines_of, marked, proxied, wait_for
from tests.support.echo import EchoUpstream
from tests.support.load import Load
from tests.support.raw import Caller

pytestmark = pytest.mark.process

DESCRIPTORS = 64


@pytest.fixture(scope="module")
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


def test_logs_go_on_in_a_new_file_when_asked_to(upstream):
    with Daemon({**proxied(upstream.address), "gateway": {"workers": 2}}) as daemon:
        moved = daemon.folder / "moved.log"
        with Load(daemon.port(), keep_alive=4, fresh=4) as load:
            load.reach(500)
            daemon.access_log.rename(moved)
            daemon.signal(signal.SIGUSR1)
            daemon.wait_for(daemon.access_log.exists, "a new file")
            load.reach(500)
            outcome = load.stop()
        daemon.terminate()
        entries = [*lines_of(moved), *lines_of(daemon.access_log)]
    assert outcome.failed == {}
    assert len(entries) == outcome.ok
    assert len({entry["request_id"] for entry in entries}) == outcome.ok


def test_a_full_disk_stops_no_traffic(upstream):
    log = {"access_log": {"path": "full.log", "buffer": "4KiB"}}
    with Daemon({**proxied(upstream.address), **log}, start=False) as daemon:
        full = daemon.folder / "full.log"
        full.symlink_to("/dev/full")
        daemon.launch()
        daemon.wait_until_ready()
        with Load(daemon.port(), keep_alive=8, fresh=4) as load:
            daemon.wait_for(lambda: daemon.metric("gatewayd_access_log_dropped_total"), "lines to be dropped")
            full.unlink()
            daemon.signal(signal.SIGUSR1)
            daemon.wait_for(lambda: full.exists() and full.stat().st_size, "lines to be written again")
            outcome = load.stop()
        dropped = daemon.metric("gatewayd_access_log_dropped_total")
        daemon.terminate()
        assert dropped + len(lines_of(full)) == outcome.ok
        assert "No space left on device" in daemon.log
    assert (outcome.failed, outcome.refused) == ({}, 0)


@pytest.fixture
def narrow(upstream):
    """A daemon whose processes may have few files open."""
    document = marked({**proxied(upstream.address), "gateway": {"workers": 1}}, 1)
    with Daemon(document, descriptors=DESCRIPTORS) as daemon:
        yield daemon


def test_out_of_descriptors_callers_are_refused_politely(narrow, upstream):
    callers = [Caller(narrow.port()) for _ in range(2 * DESCRIPTORS)]
    found = Counter()
    for caller in callers:
        answer = caller.ask("/echo/token")
        found[answer.status] += 1
        if answer.status == 503:
            assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
    assert set(found) == {200, 503}
    assert narrow.metric("gatewayd_connections_refused_total") == found[503]
    narrow.write(marked({**proxied(upstream.address), "gateway": {"workers": 1}}, 2))
    assert narrow.reload() == 2  # which takes descriptors, too
    for caller in callers:
        caller.sock.close()
    wait_for(lambda: answers(narrow), "callers to be welcome again")
    assert_all_is_well(narrow)


def test_out_of_descriptors_for_targets_no_target_is_blamed(narrow, upstream):
    callers = [Caller(narrow.port()) for _ in range(2 * DESCRIPTORS)]
    for caller in callers:  # none is let go before all have asked: each needs a connection to the target
        caller.send(b"GET /slow/1/token HTTP/1.1\r\nhost: test\r\n\r\n")
    found = Counter((answer.status, answer.code) for answer in (caller.answer() for caller in callers))
    assert set(found) == {(200, ""), (503, ""), (503, "out_of_descriptors")}
    for caller in callers:
        caller.sock.close()
    wait_for(lambda: answers(narrow), "callers to be welcome again")
    assert_all_is_well(narrow)


def test_a_reload_that_takes_too_many_descriptors_is_refused(narrow, upstream):
    many = {f"more-{number}": {} for number in range(DESCRIPTORS)}
    narrow.write({**proxied(upstream.address), "gateway": {"workers": 1}, "listeners": {"http": {}, **many}})
    found = narrow.call("reload")
    assert found.returncode == 2
    assert "Too many open files" in found.stderr
    assert_all_is_well(narrow)


def answers(daemon):
    """Whether it serves a new caller."""
    with Caller(daemon.port()) as caller:
        return caller.ask("/echo/token").status == 200


def assert_all_is_well(daemon):
    """It serves many, with the workers it had, and holds nothing against its target."""
    with Load(daemon.port(), keep_alive=4, fresh=4) as load:
        load.reach(200)
        assert load.stop().failed == {}
    worker = daemon.status()["workers"][0]
    target = worker["edge"]["upstreams"]["up"]["targets"][0]
    assert (worker["restarts"], target["failures"], target["in_flight"]) == (0, 0, 0)


@pytest.fixture
def log_pipe(tmp_path, upstream):
    """A named pipe, the end it is read at, and a daemon that is to write its access log there."""
    path = tmp_path / "log.pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = {"path": str(path), "buffer": "4KiB", "flush_interval": "100ms"}
    document = {**proxied(upstream.address), "gateway": {"workers": 1}, "access_log": log}
    with open(reader, "rb") as end, Daemon(document) as daemon:
        yield path, end, daemon


def test_a_log_reader_that_stalls_gets_every_line_later(log_pipe):
    _, end, daemon = log_pipe
    with Load(daemon.port(), keep_alive=8, fresh=4) as load:
        daemon.wait_for(lambda: daemon.metric("gatewayd_access_log_pending_bytes") > 100_000, "lines to pile up")
        os.set_blocking(end.fileno(), True)
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(end.read)
            daemon.wait_for(lambda: not daemon.metric("gatewayd_access_log_pending_bytes"), "all to be written")
            outcome = load.stop()
            daemon.terminate()
            lines = [json.loads(line) for line in reading.result().splitlines()]
    assert (outcome.failed, outcome.refused) == ({}, 0)
    assert len(lines) == outcome.ok


def test_a_log_reader_that_dies_is_said_and_the_next_one_reads_on(log_pipe):
    path, end, daemon = log_pipe
    end.close()
    with Load(daemon.port(), keep_alive=8, fresh=4) as load:
        daemon.wait_for(lambda: "log.pipe: Broken pipe" in daemon.log, "the reader to be missed")
        load.reach(500)
        with path.open("rb") as other:
            assert json.loads(other.readline())["status"] == 200
            daemon.wait_for(lambda: "log.pipe is written again" in daemon.log, "it to be said")
            outcome = load.stop()
    assert (outcome.failed, outcome.refused) == ({}, 0)
