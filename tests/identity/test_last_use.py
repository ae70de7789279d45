"""When credentials were last used: noted by all workers, kept in a file, bounded."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from gatewayd.config.model import Document, Gateway
from gatewayd.core.arena import Arena
from gatewayd.core.policy import BuildContext
from gatewayd.identity import last_use
from gatewayd.identity.last_use import HOUR, LastUse, hour_of, open_last_use, read

NOW = 500_000.5 * HOUR


def digest(number):
    return hashlib.sha256(b"%d" % number).digest()


@pytest.fixture
def arena():
    return Arena(size=1 << 24)


@pytest.fixture
def spawned(monkeypatch):
    """What was to be written later, in its place not run."""
    found = []
    monkeypatch.setattr(last_use, "spawn", lambda coroutine, name: found.append(coroutine.close()))
    return found


def saved(uses, folder):
    uses.save()
    return read(folder)


def test_the_hour_of_the_last_use_is_kept(arena, tmp_path, spawned):
    uses = LastUse(arena, tmp_path)
    uses.mark(digest(1), NOW)
    uses.mark(digest(2), NOW - HOUR)
    uses.mark(digest(2), NOW)
    uses.mark(digest(2), NOW + HOUR)
    known = saved(uses, tmp_path)
    assert [hour_of(known, digest(at)) for at in (1, 2, 3)] == [500_000, 500_001, 0]
    assert os.stat(tmp_path / "last_use").st_mode & 0o777 == 0o600


def test_nothing_of_a_digest_but_its_beginning_is_kept(arena, tmp_path, spawned):
    uses = LastUse(arena, tmp_path)
    uses.mark(digest(1), NOW)
    uses.save()
    content = (tmp_path / "last_use").read_bytes()
    assert digest(1)[:12] in content
    assert digest(1)[:13] not in content


def test_all_workers_note_in_one_place(arena, tmp_path, spawned):
    one, other = LastUse(arena, tmp_path), LastUse(arena, tmp_path)
    one.mark(digest(1), NOW)
    other.mark(digest(2), NOW)
    assert len(saved(one, tmp_path)) == 2


def test_a_daemon_goes_on_from_the_file(tmp_path, spawned):
    before = LastUse(Arena(size=1 << 24), tmp_path)
    before.mark(digest(1), NOW)
    before.save()
    after = LastUse(Arena(size=1 << 24), tmp_path)
    after.mark(digest(2), NOW + HOUR)
    known = saved(after, tmp_path)
    assert [hour_of(known, digest(at)) for at in (1, 2)] == [500_000, 500_001]


@pytest.mark.parametrize(
    "content", [b"", b"gwused01x", b"something else", b"gwused01" + bytes(15), b"gwused01" + bytes(8 + 16)]
)
def test_a_file_that_is_none_is_as_good_as_none(content, arena, tmp_path):
    (tmp_path / "last_use").write_bytes(content)
    assert read(tmp_path) == {}
    assert saved(LastUse(arena, tmp_path), tmp_path) == {}


def test_only_so_many_are_known_and_the_oldest_give_way(arena, tmp_path, spawned, monkeypatch):
    monkeypatch.setattr(last_use, "SLOTS", 64)
    uses = LastUse(arena, tmp_path)
    for at in range(1_000):
        uses.mark(digest(at), NOW + at * HOUR)
    known = saved(uses, tmp_path)
    assert 48 <= len(known) <= 64
    assert hour_of(known, digest(999)) == 500_999
    assert not any(hour_of(known, digest(at)) for at in range(500))


def test_it_is_written_once_for_all_that_is_noted_in_a_while(arena, tmp_path, spawned):
    uses, other = LastUse(arena, tmp_path), LastUse(arena, tmp_path)
    for at in range(10):
        uses.mark(digest(at), NOW + at / 2)
        other.mark(digest(at + 100), NOW + at / 2)
        uses.mark(digest(at), NOW + at / 2)
    assert len(spawned) == 1
    uses.mark(digest(1), NOW + 11)  # known already
    assert len(spawned) == 1
    uses.mark(digest(50), NOW + 11)
    assert len(spawned) == 2


def test_a_clock_that_jumps_back_does_not_keep_it_from_being_written(arena, tmp_path, spawned):
    uses = LastUse(arena, tmp_path)
    uses.mark(digest(1), NOW)
    uses.mark(digest(2), NOW - 10 * HOUR)
    assert len(spawned) == 2


def test_it_is_written_in_a_while(arena, tmp_path, monkeypatch):
    monkeypatch.setattr(last_use, "DELAY", 0.0)

    tasks = []
    monkeypatch.setattr(last_use, "spawn", lambda coroutine, name: tasks.append(coroutine))

    async def run():
        LastUse(arena, tmp_path).mark(digest(1), NOW)
        await tasks[0]

    asyncio.run(run())
    assert hour_of(read(tmp_path), digest(1)) == 500_000


def test_a_worker_that_ends_writes_it_before(arena, tmp_path):
    async def run():
        LastUse(arena, tmp_path).mark(digest(1), NOW)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert hour_of(read(tmp_path), digest(1)) == 500_000


def test_what_cannot_be_written_is_said_and_harms_nothing(arena, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    LastUse(arena, tmp_path / "file").save()
    assert "cannot be written" in caplog.text


def test_where_nothing_is_served_nothing_is_noted(tmp_path, arena):
    document = Document(gateway=Gateway(state_dir=str(tmp_path)))
    assert open_last_use(BuildContext(document=document)) is None
    assert open_last_use(BuildContext(document=document, arena=arena)) is not None


def test_a_user_without_a_home_has_none(monkeypatch, arena, caplog):
    for name in ("HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    assert open_last_use(BuildContext(arena=arena)) is None
    assert "not kept" in caplog.text
