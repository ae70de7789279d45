"""What is done to the daemon goes on record: by itself, and as a real daemon does it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal

import msgspec
import pytest

from gatewayd.audit.actions import ActionError, decode_action, user
from gatewayd.audit.keys import FOLDER, load_signer
from gatewayd.audit.segments import ACTIONS
from gatewayd.config.model import Audit, Document, Gateway
from gatewayd.errors import Fault
from gatewayd.server.recording import Recording, configured, refused, reloaded
from gatewayd.server.running import NotRunning, ask
from tests.support.evidence import Bench
from tests.support.records import bodies_in

from .standin_daemon import play


def document(state, **audit):
    return Document(gateway=Gateway(state_dir=str(state)), audit=Audit(**{"enabled": True, **audit}))


def acted(state):
    return [decode_action(body) for body in bodies_in(state / FOLDER / ACTIONS, state)]


def packed(**tables):
    return msgspec.msgpack.encode(tables)


def test_an_action_goes_on_record(tmp_path):
    recording = Recording()
    told = configured(3, packed(gateway={}))
    asyncio.run(recording.record(document(tmp_path), "start", "anna (1)", told=told, generation=3))
    (action,) = acted(tmp_path)
    assert (action.action, action.actor, action.generation, action.after["generation"]) == ("start", "anna (1)", 3, 3)
    assert recording.status() == {"recorded": 1, "failed": 0}


def test_nothing_is_recorded_where_that_is_off(tmp_path):
    recording = Recording()
    asyncio.run(recording.record(document(tmp_path, enabled=False), "start", "anna (1)"))
    assert (recording.status(), list(tmp_path.iterdir())) == ({"recorded": 0, "failed": 0}, [])


@pytest.mark.parametrize(
    ("on_full", "needed", "raised"),
    [("refuse", True, True), ("refuse", False, False), ("drop", True, False), ("drop", False, False)],
)
def test_what_cannot_be_recorded_is_counted_and_refused_only_if_it_is_needed(tmp_path, caplog, on_full, needed, raised):
    (tmp_path / FOLDER).write_text("a file")
    recording = Recording()

    async def run():
        await recording.record(document(tmp_path, on_full=on_full), "cache.purge", "anna (1)", needed=needed)

    if raised:
        with pytest.raises(ActionError, match="refused, for it cannot be put on record"):
            asyncio.run(run())
    else:
        asyncio.run(run())
    assert recording.status() == {"recorded": 0, "failed": 1}
    assert "audit: " in caplog.text


def test_a_user_without_a_state_directory(caplog, monkeypatch):
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.setenv(name, "")
    recording = Recording()
    with caplog.at_level(logging.ERROR):
        asyncio.run(recording.record(Document(audit=Audit(enabled=True)), "stop", "signal SIGTERM"))
    assert recording.failed == 1


def test_a_reload_tells_which_tables_are_others_and_no_secret(tmp_path):
    load_signer(tmp_path)
    old = packed(gateway={"name": "a"}, identity={"pepper": "secret-1"}, routes={})
    new = packed(gateway={"name": "a"}, identity={"pepper": "secret-2"}, services={})
    before, after = reloaded(5, old, new)(tmp_path)
    assert (before["generation"], after["generation"]) == (4, 5)
    assert after["changed"] == ["identity", "routes", "services"]
    assert re.fullmatch("[0-9a-f]{32}", after["digest"])
    assert before["digest"] != after["digest"]
    assert reloaded(5, old, old)(tmp_path)[1]["digest"] == before["digest"]
    assert "secret" not in str((before, after))


def test_a_reload_that_failed_tells_where_and_not_what(tmp_path):
    faults = [Fault("identity.pepper", "is too short", "secret"), Fault("a", "b"), Fault("a", "c")]
    before, after = refused(4, faults)(tmp_path)
    assert (before, after) == ({"generation": 4}, {"generation": 4, "faults": ["a", "identity.pepper"]})


@pytest.mark.process
def test_the_life_of_a_daemon(tmp_path):
    state = tmp_path / "state"

    async def scenario(scene):
        scene.environ = {"GATEWAYD__AUDIT__ENABLED": "true", "STATE_DIRECTORY": str(state)}
        await scene.start()

        async def recorded():
            return (await scene.status())["actions"]["recorded"]

        await scene.eventually(recorded, lambda found: found == 1)
        scene.write(workers=3)
        scene.signal(signal.SIGHUP)
        await scene.eventually(recorded, lambda found: found == 2)
        scene.write(drain="soon")
        assert (await scene.ask("/reload", "POST"))[0] == 422
        scene.write(drain="20s")
        assert await scene.ask("/reload", "POST") == (200, {"generation": 3})
        scene.signal(signal.SIGTERM)
        assert await scene.ended() == 0

    play(tmp_path, scenario)
    start, first, failed, second, stop = acted(state)
    me = user()
    assert [(each.action, each.actor, each.generation) for each in (start, first, failed, second, stop)] == [
        ("start", me, 1),
        ("reload", "signal SIGHUP", 2),
        ("reload.failed", me, 2),
        ("reload", me, 3),
        ("stop", "signal SIGTERM", 3),
    ]
    assert (first.before["digest"], first.after["changed"]) == (start.after["digest"], ["gateway"])
    assert failed.after["faults"] == ["gateway.drain_timeout"]
    assert second.before["generation"] == 2
    assert Bench(state).verify().fine


@pytest.mark.process
def test_turning_the_audit_off_is_on_record(tmp_path):
    state = tmp_path / "state"

    async def scenario(scene):
        scene.environ = {"STATE_DIRECTORY": str(state)}
        scene.write()
        conf = tmp_path / "conf.toml"
        off = conf.read_text()
        real, scene.write = scene.write, lambda: conf.write_text(off + "[audit]\nenabled = true\n")
        await scene.start()
        scene.write = real
        scene.write()
        assert (await scene.ask("/reload", "POST"))[0] == 200
        scene.signal(signal.SIGTERM)
        assert await scene.ended() == 0

    play(tmp_path, scenario)
    found = acted(state)
    assert [each.action for each in found] in (["start", "reload"], ["reload", "start"])
    assert next(each for each in found if each.action == "reload").after["changed"] == ["audit"]


@pytest.mark.process
def test_a_purge_that_cannot_be_recorded_is_not_done(tmp_path):
    state = tmp_path / "state"

    async def scenario(scene):
        scene.environ = {"GATEWAYD__AUDIT__ENABLED": "true", "STATE_DIRECTORY": str(state)}
        await scene.start()

        async def recorded():
            return (await scene.status())["actions"]

        await scene.eventually(recorded, lambda found: found["recorded"] == 1)
        key = state / FOLDER / "signing.key"
        content = key.read_bytes()
        key.write_text("nothing")
        body = {"kind": "all", "value": ""}
        refused = await asyncio.to_thread(ask, scene.control, "POST", "/cache/purge", 20, body)
        key.write_bytes(content)
        with contextlib.suppress(NotRunning):  # stand-ins know no cache, and answer anything
            await asyncio.to_thread(ask, scene.control, "POST", "/cache/purge", 20, body)
        return refused, await recorded()

    (status, why), counts = play(tmp_path, scenario)
    assert (status, "cannot be put on record" in why["error"]) == (503, True)
    assert counts == {"recorded": 2, "failed": 1}
    (_, purge) = acted(state)
    assert (purge.action, purge.actor, purge.after) == ("cache.purge", user(), {"kind": "all", "value": ""})
