"""Addresses as configurations write them: `host:port`, `[::1]:port`, `unix:/path`."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

_NAME = re.compile(r"(?=.{1,253}\Z)[0-9A-Za-z_](?:[0-9A-Za-z_-]{0,62})(?:\.[0-9A-Za-z_-]{1,63})*\.?")
_ZONE = re.compile(r"[0-9A-Za-z_.-]{1,15}")
"""An interface's name, as Linux takes it (IFNAMSIZ less its NUL)."""
_PATH_MOST = 107
"""Bytes of a unix socket's path that Linux takes (sun_path less its NUL)."""


class Address(NamedTuple):
    """Where to listen or connect: a host (name, IPv4, IPv6 without brackets) and port, or a socket's path."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """The address `text` stands for. Raises `ValueError` saying what is wrong, without the text itself."""
    if text.startswith("unix:"):
        return Address(path=_path(text.removeprefix("unix:")))
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("no port")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("the port is no number from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return Address(_ipv6(host[1:-1]), int(port))
    if ":" in host:
        raise ValueError("an IPv6 address stands in brackets")
    if not host:
        raise ValueError("no host: 0.0.0.0 or [::] stand for every address of the machine")
    return Address(_host(host), int(port))


def _path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise ValueError("the path of a unix socket starts with /")
    if len(path.encode()) > _PATH_MOST:
        raise ValueError(f"the path of a unix socket has at most {_PATH_MOST} bytes")
    return path


def _ipv6(text: str) -> str:
    try:
        found = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("no IPv6 address stands in the brackets") from None
    if found.scope_id is not None and not _ZONE.fullmatch(found.scope_id):
        raise ValueError("no zone is named so")
    return str(found)


def _host(host: str) -> str:
    """An IPv4 address or a name; what ends in a number must be the former (WHATWG URL §3.5)."""
    if host.rstrip(".").rpartition(".")[2].isdigit():
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("no IPv4 address") from None
    if not _NAME.fullmatch(host):
        raise ValueError("no host name")
    return host.lower()
