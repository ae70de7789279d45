"""Listening sockets: bound, shared out among workers, and given up without losing a caller.

The supervisor holds one SO_REUSEPORT socket per worker and TCP listener for as long as the listener exists,
so the kernel goes on queueing connections whatever happens to the workers.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewayd.config import address as addresses
from gatewayd.config.keys import join
from gatewayd.errors import ConfigError, Fault

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python's socket module has no name for it
_DROP_NEW = (
    (0x30, 0, 0, 13),  # A = the TCP flags (RFC 9293 §3.1, byte 13)
    (0x54, 0, 0, 0x12),  # A &= SYN | ACK
    (0x15, 0, 1, 0x02),  # a bare SYN?
    (0x06, 0, 0, 0),  # … is dropped,
    (0x06, 0, 0, 0xFFFFFFFF),  # everything else passes
)


LAST_HANDSHAKES = 0.25
"""Seconds for callers who have begun to connect, when a port is closed: a round trip around the world."""
CONTROL = "(control)"
"""Name of the control listener among the others; none of those can be called so."""


class AddressError(ValueError):
    """An address nobody can listen on; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to bind: a host and port, looked up, or the path of a unix socket."""

    family: socket.AddressFamily
    where: str | tuple[Any, ...]

    @property
    def path(self) -> str:
        """The file of a unix socket, else ""."""
        return self.where if isinstance(self.where, str) else ""


def place(text: str) -> Place:
    """The place that an address of the configuration means; of a name with several addresses the first.

    Raises `AddressError`. An IPv6 address never takes IPv4 callers too (RFC 3493 §5.3), so that a caller's
    address always looks the same.
    """
    try:
        address = addresses.parse(text)
    except ValueError as error:
        raise AddressError(str(error)) from None
    if address.path:
        return Place(socket.AF_UNIX, address.path)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise AddressError(f"unknown host: {error.strerror}") from None
    family, _, _, _, where = found[0]
    return Place(family, where)


def shown(sock: socket.socket) -> str:
    """Where a socket really listens, written as addresses are."""
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{where}"
    return f"[{where[0]}]:{where[1]}" if sock.family == socket.AF_INET6 else f"{where[0]}:{where[1]}"


def probe(at: Place) -> str:
    """Why nobody could listen at `at` now, "" if one could. Leaves nothing behind.

    Binds without SO_REUSEPORT, because with it a second daemon would quietly share the first one's callers.
    """
    if at.path:
        return _probe_path(at.path)
    with _tcp(at) as sock:
        try:
            sock.bind(at.where)
        except OSError as error:
            return _reason(error)
    return ""


def _tcp(at: Place) -> socket.socket:
    sock = socket.socket(at.family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if at.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _probe_path(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        folder = os.path.dirname(path)
        return "" if os.access(folder, os.W_OK | os.X_OK) else "its folder is missing or not writable"
    except OSError as error:
        return _reason(error)
    if not stat.S_ISSOCK(mode):
        return "a file that is no socket stands there"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        code = sock.connect_ex(path)
    return "" if code in (errno.ECONNREFUSED, errno.ENOENT) else _reason(OSError(errno.EADDRINUSE, ""))


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "in use by another process"
        case errno.EACCES | errno.EPERM:
            return "not permitted to this user"
        case errno.EADDRNOTAVAIL:
            return "no address of this machine"
        case _:
            return os.strerror(error.errno or 0)


def bind(at: Place, backlog: int, share: bool) -> socket.socket:
    """A listening socket at `at`; `share`: with SO_REUSEPORT. Replaces a stale unix socket. Raises `OSError`."""
    if at.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(at.path)
    else:
        sock = _tcp(at)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind(at.where)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def deal(count: int, workers: Sequence[int], living: Iterable[int]) -> dict[int, list[int]]:
    """Which of `count` sockets each worker accepts on: worker to socket numbers.

    Equal shares are a worker's own; what is left over all workers share, so that none gets more callers than
    another. The sockets of a worker that is not `living` are served by all the others until it is back.
    """
    alive = [worker for worker in workers if worker in set(living)]
    dealt: dict[int, list[int]] = {worker: [] for worker in alive}
    own = count - count % len(workers) if workers else 0
    for number in range(count):
        owner = workers[number % len(workers)] if number < own else None
        for worker in [owner] if owner is not None and owner in dealt else alive:
            dealt[worker].append(number)
    return dealt


def drop_new(sock: socket.socket) -> None:
    """Let no new connection begin at a TCP socket, while handshakes under way and queued connections go on.

    Callers that were not there yet try again by themselves (RFC 6298) and meet the closed port, or its next
    owner. So a port can be closed with nothing lost: `drop_new`, a round trip's wait, accept what is queued,
    close.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = array("B", b"".join(struct.pack("=HBBI", *step) for step in _DROP_NEW))
    address, _ = program.buffer_info()
    with contextlib.suppress(OSError):  # a sandbox without filters loses at most what is queued at the last moment
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_NEW), address))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A listener as the sockets see it. `share`: one socket per worker."""

    address: str
    backlog: int
    share: bool = True


class SocketStore:
    """Every listening socket of the daemon, by address: a listener that is renamed keeps its sockets."""

    def __init__(self, inherited: Mapping[str, Sequence[socket.socket]] | None = None) -> None:
        """Begin with the sockets of the daemon this one replaces."""
        self._held = {key: list(socks) for key, socks in (inherited or {}).items()}
        self._files = {key: _file(socks[0]) for key, socks in self._held.items()}
        self._foreign = set(self._held)

    def open(self, wanted: Mapping[str, Wanted], workers: int) -> set[str]:
        """Hold what `wanted` (by listener name) needs for so many workers; returns the keys that are new.

        Raises `ConfigError`, and then holds what it held before.
        """
        opened: set[str] = set()
        faults = []
        for name, listener in wanted.items():
            key = key_of(name, listener.address)
            try:
                if self._grow(key, listener, workers):
                    opened.add(key)
            except (OSError, AddressError) as error:
                faults.append(_fault(name, listener, error))
        if faults:
            self.close(opened)
            raise ConfigError(faults)
        return opened

    def _grow(self, key: str, listener: Wanted, workers: int) -> bool:
        at = place(listener.address)
        share = listener.share and not at.path
        held = list(self._held.get(key, []))
        new = not held
        if new and (reason := probe(at)):
            raise AddressError(reason)
        for sock in held:
            sock.listen(listener.backlog)  # the backlog may have changed
        with contextlib.ExitStack() as undo:
            while len(held) < (workers if share else 1):
                here = place(shown(held[0])) if held else at  # a port 0 was chosen by the first
                held.append(undo.enter_context(bind(here, listener.backlog, share)))
            undo.pop_all()
        self._held[key] = held
        if new:
            self._files[key] = _file(held[0])
        return new

    def of(self, name: str, address: str) -> list[socket.socket]:
        """The sockets of the listener `name` at `address`."""
        return self._held[key_of(name, address)]

    def keys(self) -> set[str]:
        """The addresses held."""
        return set(self._held)

    def items(self) -> list[tuple[str, list[socket.socket]]]:
        """All sockets with their keys, to hand them on."""
        return list(self._held.items())

    def drop_new(self, keys: Iterable[str]) -> None:
        """Let no new connection begin there. Unix sockets lose their file, unless it is somebody else's now."""
        for key in keys:
            self._unlink(key)
            for sock in self._held[key]:
                drop_new(sock)

    def close(self, keys: Iterable[str]) -> None:
        """Give addresses up."""
        for key in list(keys):
            self._unlink(key)
            for sock in self._held.pop(key):
                sock.close()
            self._files.pop(key, None)
            self._foreign.discard(key)

    def own(self) -> None:
        """The daemon this one replaces leaves: its sockets' files are now ours to remove."""
        self._foreign.clear()

    def disown(self) -> None:
        """The sockets live on in another process: closing them here must leave their files alone."""
        self._foreign.update(self._held)

    def _unlink(self, key: str) -> None:
        path, inode = self._files.get(key, ("", 0))
        if not path or key in self._foreign:
            return
        with contextlib.suppress(OSError):
            if os.stat(path).st_ino == inode:
                os.unlink(path)


def key_of(name: str, address: str) -> str:
    """What a listener's sockets are known by: its address however it is written, with port 0 its name too."""
    try:
        parsed = addresses.parse(address)
    except ValueError:
        return address
    return f"{name}={parsed}" if not parsed.path and not parsed.port else str(parsed)


def _file(sock: socket.socket) -> tuple[str, int]:
    if sock.family != socket.AF_UNIX:
        return "", 0
    path = sock.getsockname()
    try:
        return path, os.stat(path).st_ino
    except OSError:
        return path, 0


def _fault(name: str, listener: Wanted, error: OSError | AddressError) -> Fault:
    reason = _reason(error) if isinstance(error, OSError) else str(error)
    return Fault(path_of(name), f"cannot listen there: {reason}", found=listener.address)


def path_of(name: str) -> str:
    """The configuration key of a listener's address."""
    return "control.address" if name == CONTROL else join(("listeners", name, "address"))
