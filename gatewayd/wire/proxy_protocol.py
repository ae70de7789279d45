"""The PROXY protocol, versions 1 and 2, inbound (haproxy.org, doc/proxy-protocol.txt).

A load balancer in front says in a header before anything else who the caller is. The header must be complete and
right, or the connection is closed: guessing would let a caller choose its own address. Only peers in the listener's
`trusted_proxies` may send one; that is for whoever accepts to see to.

Under TLS the header comes before the handshake, in the clear, so it cannot be read by the protocol behind the
handshake. `read_header` takes exactly the header from an accepted socket and leaves what follows in the kernel:

    header = await asyncio.wait_for(read_header(sock), timeout)
    await loop.connect_accepted_socket(lambda: protocol(header), sock, ssl=context)
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from functools import cache

from gatewayd.errors import RequestError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V1_LIMIT = 107
"""Bytes of the longest line of version 1, CRLF included (§2.1)."""
V2_LIMIT = 4096
"""Bytes after the fixed part of version 2 that are taken: addresses and a generous share of TLVs."""

_V1 = b"PROXY "
_FIXED = 16
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_V1_FAMILIES = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}
_V2_SIZES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}
"""Bytes of the addresses, by address family."""
_TLV = 3
"""Bytes of a type and a length (§2.2)."""
_CRC32C = 0x03


@dataclass(frozen=True, slots=True)
class Header:
    """What a header says. `local`: it names no addresses, so the connection's own ones stand.

    That is a load balancer's own health check (LOCAL), or a caller it cannot describe (UNKNOWN, a unix socket).
    `rest` are bytes behind the header that were fed together with it.
    """

    source: str = ""
    source_port: int = 0
    destination: str = ""
    destination_port: int = 0
    local: bool = True
    rest: bytes = b""


class Parser:
    """Reads one header, in pieces of any size."""

    def __init__(self) -> None:
        self._seen = b""

    def feed(self, data: bytes) -> Header | None:
        """The header once it is complete, None while it is not. Raises `RequestError` as soon as it cannot be one."""
        seen = self._seen = self._seen + data
        if seen.startswith(SIGNATURE[: len(seen)]):
            return _version_2(seen)
        if seen.startswith(_V1[: len(seen)]):
            return _version_1(seen)
        raise _bad("the connection does not begin with a PROXY header")


async def read_header(sock: socket.socket) -> Header:
    """Take exactly the header from a connected, non-blocking socket. The caller sets a deadline.

    Raises `RequestError`, or `OSError` if the connection broke. The socket stays the caller's to close.
    """
    parser = Parser()
    while True:
        try:
            data = sock.recv(_FIXED + V2_LIMIT, socket.MSG_PEEK)
        except BlockingIOError:
            await _readable(sock)
            continue
        if not data:
            raise _bad("the connection ends before its PROXY header")
        header = parser.feed(data)
        # While the header is incomplete, all there is belongs to it. Taking it out, `_readable` waits for more.
        _skip(sock, len(data) - (len(header.rest) if header else 0))
        if header is not None:
            return Header(header.source, header.source_port, header.destination, header.destination_port, header.local)


def _skip(sock: socket.socket, count: int) -> None:
    while count:
        count -= len(sock.recv(count))


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


def _version_1(seen: bytes) -> Header | None:
    end = seen.find(b"\r\n", 0, V1_LIMIT)
    line = seen[:end] if end >= 0 else seen[:V1_LIMIT]
    if b"\n" in line or b"\r" in line[:-1] or (end >= 0 and b"\r" in line):
        raise _bad("a CR or LF stands alone")
    if end < 0:
        if len(seen) >= V1_LIMIT:
            raise _bad("the line is too long")
        return None
    rest = seen[end + 2 :]
    fields = line.split(b" ")
    if fields[1] == b"UNKNOWN":
        return Header(rest=rest)
    if len(fields) != 6 or fields[1] not in _V1_FAMILIES:
        raise _bad("the line is not a protocol, two addresses and two ports")
    family = _V1_FAMILIES[fields[1]]
    return Header(
        source=_address(family, fields[2]),
        destination=_address(family, fields[3]),
        source_port=_port(fields[4]),
        destination_port=_port(fields[5]),
        local=False,
        rest=rest,
    )


def _address(family: int, text: bytes) -> str:
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text.decode("ascii")))
    except (OSError, ValueError):
        raise _bad("an address is malformed") from None


def _port(text: bytes) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise _bad("a port is malformed")
    return int(text)


def _version_2(seen: bytes) -> Header | None:
    if len(seen) > 12 and seen[12] not in (0x20, 0x21):
        raise _bad("neither LOCAL nor PROXY of version 2")
    if len(seen) < _FIXED:
        return None
    family, transport = divmod(seen[13], 16)
    length = int.from_bytes(seen[14:16], "big")
    if length > V2_LIMIT:
        raise _bad("the header is too long")
    proxied = seen[12] == 0x21
    if proxied and (family not in _V2_SIZES or transport > 2):
        raise _bad("the address family or the transport is unknown")
    size = _V2_SIZES.get(family, 0)
    if proxied and transport and length < size:
        raise _bad("the addresses are cut short")
    if len(seen) < _FIXED + length:
        return None
    rest = seen[_FIXED + length :]
    if not proxied or not transport or not family:
        return Header(rest=rest)
    _check_extras(seen[: _FIXED + length], _FIXED + size)
    if family not in (0x1, 0x2):
        return Header(rest=rest)
    return _addresses(seen[_FIXED : _FIXED + size], rest)


def _check_extras(header: bytes, at: int) -> None:
    """Type, length, value behind the addresses, from `at` to the end (§2.2): only a checksum among them matters."""
    while at < len(header):
        kind, value = header[at], at + _TLV
        length = int.from_bytes(header[at + 1 : value], "big")
        if value + length > len(header):
            raise _bad("what follows the addresses is cut short")
        if kind == _CRC32C and (length != 4 or not _sums_up(header, value)):
            raise _bad("the checksum is wrong")
        at = value + length


def _sums_up(header: bytes, at: int) -> bool:
    """Whether the four bytes `at` are the CRC-32C of the header with zeros in their place (§2.2.3)."""
    return crc32c(header[:at] + bytes(4) + header[at + 4 :]) == int.from_bytes(header[at : at + 4], "big")


def crc32c(data: bytes) -> int:
    """The CRC of RFC 3720 §12.1 (Castagnoli's polynomial), which the standard library does not have."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _crc_table()[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> list[int]:
    """What each byte does to the sum; made when the first header has one."""
    table = list(range(256))
    for _ in range(8):
        table = [(entry >> 1) ^ (0x82F63B78 if entry & 1 else 0) for entry in table]
    return table


def _addresses(block: bytes, rest: bytes) -> Header:
    width = (len(block) - 4) // 2
    family = socket.AF_INET if width == 4 else socket.AF_INET6
    return Header(
        source=socket.inet_ntop(family, block[:width]),
        destination=socket.inet_ntop(family, block[width : 2 * width]),
        source_port=int.from_bytes(block[-4:-2], "big"),
        destination_port=int.from_bytes(block[-2:], "big"),
        local=False,
        rest=rest,
    )


def _bad(detail: str) -> RequestError:
    return RequestError(400, "bad_proxy_header", detail)
