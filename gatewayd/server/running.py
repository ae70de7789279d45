"""A daemon that runs already, as commands see it: asked over its control listener, or looked at from outside."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from gatewayd.config import address as addresses
from gatewayd.config.model import Document
from gatewayd.errors import GatewaydError
from gatewayd.server import pid_file
from gatewayd.server.prepare import wanted
from gatewayd.server.sockets import key_of

_CHUNK = 256 * 1024
_HOST = {"Host": "localhost"}  # the control listener answers to few names, lest web pages ask it
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what listens everywhere


class NotRunning(GatewaydError):
    """No daemon answers at the control address."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(control: str, method: str, path: str, timeout: float, body: object = None) -> tuple[int, Any]:
    """Status and JSON of the reply to one request to the control listener at `control`. Raises `NotRunning`.

    A `body` other than None is sent as JSON.
    """
    connection = _connection(control, timeout)
    try:
        if body is None:
            connection.request(method, path, headers=_HOST)
        else:
            content = {"Content-Type": "application/json"}
            connection.request(method, path, msgspec.json.encode(body), _HOST | content)
        reply = connection.getresponse()
        return reply.status, msgspec.json.decode(reply.read())
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise NotRunning(f"no daemon answers at {control}: {error}") from error
    finally:
        connection.close()


def fetch(control: str, path: str, timeout: float, file: BinaryIO) -> tuple[int, Any]:
    """Status of the reply to a GET. Its body goes to `file` if that is 200; otherwise it is JSON, and returned.

    Raises `NotRunning`, also where the body ends too soon; `OSError` where `file` takes no more.
    """
    with contextlib.closing(_connection(control, timeout)) as connection:
        try:
            connection.request("GET", path, headers=_HOST)
            reply = connection.getresponse()
            if reply.status != 200:
                return reply.status, msgspec.json.decode(reply.read())
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise NotRunning(f"no daemon answers at {control}: {error}") from error
        while chunk := _read(reply, control):
            file.write(chunk)
    return 200, None


def _read(reply: http.client.HTTPResponse, control: str) -> bytes:
    try:
        chunk = reply.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise NotRunning(f"the daemon at {control} went away before all was there: {error}") from error
    if not chunk and reply.length:
        raise NotRunning(f"the daemon at {control} went away before all was there")
    return chunk


def _connection(control: str, timeout: float) -> http.client.HTTPConnection:
    address = addresses.parse(control)
    if address.path:
        return _UnixConnection(address.path, timeout)
    return http.client.HTTPConnection(_ANY.get(address.host, address.host), address.port, timeout=timeout)


def held(document: Document) -> set[str]:
    """Keys of the sockets that the daemon with this control address, or else this pid file, holds."""
    if document.control.enabled:
        with contextlib.suppress(NotRunning, ValueError):
            status, found = ask(document.control.address, "GET", "/status", timeout=3.0)
            if status == 200 and isinstance(found, dict):
                return set(found.get("held", ()))
    pid = pid_file.read(document.gateway.pid_file) if document.gateway.pid_file else 0
    return _held_by(pid, document) if pid else set()


def _held_by(pid: int, document: Document) -> set[str]:
    """The wanted addresses on which process `pid` holds a listening socket (proc(5): `fd`, `net/tcp`, `net/unix`)."""
    inodes = _socket_inodes(pid)
    ports = {port for port, inode in _listening() if inode in inodes}
    paths = {path for path, inode in _listening_paths() if inode in inodes}
    found = set()
    for name, listener in wanted(document).items():
        with contextlib.suppress(ValueError):
            address = addresses.parse(listener.address)
            if address.path in paths or (not address.path and address.port in ports):
                found.add(key_of(name, listener.address))
    return found


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(entry.path)
                if link.startswith("socket:["):
                    found.add(link[8:-1])
    return found


def _listening() -> list[tuple[int, str]]:
    """Port and inode of each TCP socket that listens."""
    found = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A":  # TCP_LISTEN
                    found.append((int(fields[1].rpartition(":")[2], 16), fields[9]))
    return found


def _listening_paths() -> list[tuple[str, str]]:
    """Path and inode of each unix socket with a name."""
    with contextlib.suppress(OSError):
        lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        return [(fields[7], fields[6]) for fields in lines if len(fields) > 7]
    return []
