"""Every call that a caller saw answered has exactly one record, whichever process is killed at whatever moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter

import pytest

from tests.support.daemon import FULL, Daemon, command_of, proxied, wait_for
from tests.support.echo import EchoUpstream
from tests.support.load import Load
from tests.support.records import calls_in

pytestmark = pytest.mark.process

KILLS = 20 if FULL else 4
RANDOM = random.Random(4)


@pytest.fixture(scope="module")
def upstream():
    """Something to proxy to."""
    with EchoUpstream() as upstream:
        yield upstream


def recorded(upstream, **audit):
    """A document whose calls are recorded, in segments of every length."""
    document = proxied(upstream.address)
    document["audit"] = {"enabled": True, "segment_size": "256KiB", **audit}
    document["gateway"] = {"workers": 2}
    return document


def started(document):
    """A daemon whose state lies in its folder."""
    daemon = Daemon(document, start=False)
    document["gateway"]["state_dir"] = str(daemon.folder / "state")
    daemon.write(document)
    return daemon


def prove(daemon, seen):
    """What callers saw answered is on record, once each, and the chains are whole. How many records there are."""
    count = Counter(call.request_id.decode() for call in calls_in(daemon.folder / "state"))
    assert seen.keys() - count.keys() == set()
    assert max(count.values()) == 1
    checked = daemon.call("audit", "verify")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return count.total()


def kill_worker(daemon):
    """One of the workers, and wait for its successor."""
    old = RANDOM.choice(daemon.status()["workers"])
    os.kill(old["pid"], signal.SIGKILL)

    def replaced():
        new = daemon.status()["workers"][old["index"]]
        return new["pid"] != old["pid"] and new["state"] == "serving"

    daemon.wait_for(replaced, "another worker")


def kill_control(daemon):
    """The control process, and wait for its successor."""
    old = daemon.control_pid()
    os.kill(old, signal.SIGKILL)

    def replaced():
        return daemon.probe("/livez")[0] == 200 and daemon.control_pid() != old

    daemon.wait_for(replaced, "another control process")


def kill_supervisor(daemon):
    """The supervisor: its workers end what they have begun. Then start it anew."""
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    daemon.launch()
    daemon.wait_until_ready()


@pytest.mark.timeout(30 * KILLS + 60)
@pytest.mark.parametrize("mode", ["batched", "strict"])
@pytest.mark.parametrize("kill", [kill_worker, kill_control])
def test_every_answered_call_has_one_record_though_processes_are_killed(upstream, kill, mode):
    with started(recorded(upstream, mode=mode)) as daemon:
        daemon.launch()
        daemon.wait_until_ready()
        with Load(daemon.port(), keep_alive=12, fresh=4, mark="x-request-id") as load:
            for _ in range(KILLS):
                load.reach(RANDOM.randrange(100, 600))
                kill(daemon)
            load.reach(200)
            outcome = load.stop()
        daemon.terminate()
        assert outcome.ok > 100 * KILLS
        assert prove(daemon, outcome.marks) >= outcome.ok


@pytest.mark.timeout(30 * KILLS + 60)
def test_every_answered_call_has_one_record_though_the_supervisor_is_killed(upstream):
    with started(recorded(upstream)) as daemon:
        daemon.launch()
        daemon.wait_until_ready()
        seen = Counter()
        for _ in range(KILLS):
            with Load(daemon.port(), keep_alive=12, fresh=4, mark="x-request-id") as load:
                load.reach(RANDOM.randrange(100, 600))
                load.stopping = True  # what is under way is answered by workers that have lost their supervisor
                kill_supervisor(daemon)
            seen += load.outcome.marks
        daemon.terminate()
        assert prove(daemon, seen) >= seen.total()


def test_every_answered_call_has_one_record_over_reloads_and_upgrades(upstream):
    with started(recorded(upstream)) as daemon:
        daemon.launch()
        daemon.wait_until_ready()
        with Load(daemon.port(), keep_alive=12, fresh=4, mark="x-request-id") as load:
            for workers in (3, 1, 2):
                load.reach(300)
                document = recorded(upstream, mode=RANDOM.choice(["strict", "batched"]))
                document["gateway"] |= {"workers": workers, "state_dir": str(daemon.folder / "state")}
                daemon.write(document)
                daemon.reload()
            for _ in range(2):
                load.reach(300)
                before = daemon.status()["pid"]
                daemon.signal(signal.SIGUSR2)
                daemon.wait_for(lambda before=before: served_by_another(daemon, before), "the new daemon")
                daemon.pid = daemon.status()["pid"]
                daemon.wait_for(lambda before=before: not command_of(before), "the old one's end")
            outcome = load.stop()
        daemon.terminate()
        assert (outcome.failed, outcome.refused) == ({}, 0)
        assert prove(daemon, outcome.marks) == outcome.ok


def test_recording_is_switched_on_and_off_by_who_asks_for_a_reload(upstream):
    """The process that was asked is replaced by it, and answers nevertheless."""
    with started(recorded(upstream)) as daemon:
        daemon.launch()
        daemon.wait_until_ready()
        processes = [daemon.control_pid()]
        for generation, enabled in enumerate([False, True, False, True], 2):
            document = recorded(upstream, enabled=enabled)
            document["gateway"] |= {"state_dir": str(daemon.folder / "state")}
            daemon.write(document)
            asked = daemon.call("reload")
            assert (asked.returncode, asked.stderr) == (0, ""), asked.stdout
            daemon.wait_for(
                lambda: daemon.probe("/livez")[0] == 200 and daemon.control_pid() not in processes, "another"
            )
            daemon.wait_until_ready(generation)
            processes.append(daemon.control_pid())
            assert (daemon.call("logs").returncode == 0) is enabled
        assert daemon.metric("gatewayd_control_restarts_total") == 0
        assert len(set(processes)) == 5


def served_by_another(daemon, before):
    """Whether a supervisor other than `before` is ready; while they change places, nobody may know."""
    ready, status = daemon.probe("/readyz")[0], daemon.probe("/status")
    return ready == 200 and status[0] == 200 and status[1]["pid"] != before


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own with 768 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=768k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("mode", ["batched", "strict"])
def test_a_full_disk_refuses_calls_until_there_is_room(upstream, small_disk, mode):
    document = recorded(upstream, mode=mode)
    document["gateway"] |= {"state_dir": str(small_disk), "workers": 1}
    document["control"] = {"enabled": False}
    filler = small_disk / "filler"
    with Daemon(document, start=False) as daemon:
        daemon.launch()
        wait_for(lambda: "serves" in daemon.log, "the daemon")
        port = int(daemon.log.partition("http://127.0.0.1:")[2].split()[0])
        disk = os.statvfs(small_disk)
        filler.write_bytes(bytes(disk.f_bavail * disk.f_frsize - 64 * 1024))
        with Load(port, keep_alive=4, mark="x-request-id") as load:
            load.reach(20)
            wait_for(lambda: any("audit_unavailable" in each for each in load.outcome.failed), "refusals")
            answered = load.outcome.ok
            load.reach(50)
            assert load.outcome.ok == answered
            filler.unlink()
            wait_for(lambda: load.outcome.ok > answered + 50, "replies")
            outcome = load.stop()
        daemon.terminate()
        allowed = {"reset before its reply", "closed before its reply"} if mode == "strict" else set()
        assert {each for each in outcome.failed if "audit_unavailable" not in each} <= allowed
        count = Counter(call.request_id.decode() for call in calls_in(small_disk))
        assert outcome.marks.keys() - count.keys() == set()
        assert max(count.values()) == 1
