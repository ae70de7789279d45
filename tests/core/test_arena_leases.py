"""Leases: content that many processes read stays as long as one of them does, and no longer."""

from __future__ import annotations

import fcntl
import os
import signal

import pytest

from gatewayd.core import arena as arena_module
from gatewayd.core.arena import Arena
from tests.support.forked import forked

SIZE = 1 << 26
BIG = 1 << 20


@pytest.fixture
def descriptor():
    return os.memfd_create("test")


def taken(descriptor):
    """Bytes of memory behind the file."""
    return os.fstat(descriptor).st_blocks * 512


def refuse():
    raise AssertionError("made a second time")


class Other:
    """Another process, which holds a lease until it is told to go on."""

    def __init__(self, descriptor, name, content, then=lambda lease: lease.release()):
        told, self._tell = os.pipe()
        ready, done = os.pipe()

        def hold():
            os.close(self._tell)
            lease = Arena(descriptor, SIZE).lease(name, lambda: content)
            right = lease.view == content
            os.write(done, b"+" if right else b"-")
            os.read(told, 1)
            then(lease)

        self.pid = forked(hold)
        assert os.read(ready, 1) == b"+"

    def end(self):
        os.write(self._tell, b"x")
        assert os.waitpid(self.pid, 0)[1] == 0

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def test_content_is_made_once_and_is_for_reading(descriptor):
    arena = Arena(descriptor, SIZE)
    first = arena.lease("a", lambda: b"content")
    second = arena.lease("a", refuse)
    assert first.view == second.view == b"content"
    with pytest.raises(TypeError):
        first.view[0] = 1


def test_what_cannot_be_made_leaves_nothing_behind(descriptor):
    arena = Arena(descriptor, SIZE)

    def broken():
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        arena.lease("a", broken)
    assert arena.lease("a", lambda: b"right").view == b"right"


def test_released_content_cannot_be_read_on(descriptor):
    lease = Arena(descriptor, SIZE).lease("a", lambda: b"content")
    lease.release()
    lease.release()
    with pytest.raises(ValueError, match="released"):
        lease.view[0]


def test_what_nobody_holds_is_given_back_when_other_content_comes(descriptor):
    arena = Arena(descriptor, SIZE)
    arena.region("beside", 8)[:] = b"kept for"
    arena.lease("0", lambda: bytes([1]) * BIG).release()
    full = taken(descriptor)
    for number in range(1, 50):
        lease = arena.lease(str(number), lambda: bytes([2]) * (BIG - 100))
        assert taken(descriptor) <= full
        assert set(lease.view.tobytes()) == {2}
        lease.release()
    assert arena.region("beside", 8) == b"kept for"


def test_what_one_holds_twice_stays_until_it_is_released_twice(descriptor):
    arena = Arena(descriptor, SIZE)
    first, second = arena.lease("a", lambda: bytes(BIG)), arena.lease("a", refuse)
    first.release()
    arena.lease("b", lambda: b"b")
    arena.lease("a", refuse)
    assert len(second.view) == BIG


def test_what_another_process_holds_stays(descriptor):
    arena = Arena(descriptor, SIZE)
    other = Other(descriptor, "a", b"a" * BIG)
    arena.lease("b", lambda: b"b" * BIG)
    assert arena.lease("a", refuse).view == b"a" * BIG
    other.end()


def test_another_process_finds_what_was_made_here(descriptor):
    arena = Arena(descriptor, SIZE)
    lease = arena.lease("a", lambda: b"a" * BIG)
    other = Other(descriptor, "a", b"a" * BIG)
    lease.release()
    arena.lease("b", lambda: b"b")
    arena.lease("a", refuse).release()
    other.end()


@pytest.mark.parametrize("leave", [Other.end, Other.kill])
def test_who_ends_or_dies_holds_nothing(descriptor, leave):
    arena = Arena(descriptor, SIZE)
    arena.region("beside", 8)
    before = taken(descriptor)
    leave(Other(descriptor, "a", b"a" * BIG))
    assert taken(descriptor) >= BIG
    arena.lease("b", lambda: b"b")
    assert taken(descriptor) <= before + 2 * 4096
    assert arena.lease("a", lambda: b"new").view == b"new"


class Trap:
    """The directory's entries, whose writer is killed where it would say that content is finished."""

    size = arena_module._ENTRY.size
    iter_unpack = staticmethod(arena_module._ENTRY.iter_unpack)

    @staticmethod
    def pack_into(view, at, key, kind, *rest, real=arena_module._ENTRY.pack_into):
        if kind == arena_module._LEASED:
            os.kill(os.getpid(), signal.SIGKILL)
        real(view, at, key, kind, *rest)


def test_what_its_maker_died_over_is_made_again_and_leaves_no_trace(descriptor):
    arena = Arena(descriptor, SIZE)

    def die():
        arena_module._ENTRY = Trap
        Arena(descriptor, SIZE).lease("a", lambda: b"half of it")

    assert os.waitpid(forked(die), 0)[1] == signal.SIGKILL
    assert arena.lease("a", lambda: b"w").view == b"w"
    assert b"half" not in arena._view[: 1 << 20].tobytes()


def test_the_lock_may_be_taken_inside_the_lock(descriptor):
    def is_shut_out():
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
        except BlockingIOError:
            return True
        return False

    arena = Arena(descriptor, SIZE)
    with arena.locked():
        arena.region("a", 8)
        assert os.waitpid(forked(is_shut_out), 0)[1] == 0
