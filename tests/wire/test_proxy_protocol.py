"""PROXY headers: grammar, limits, pieces of any size, and sockets with and without TLS behind them."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import RequestError
from gatewayd.wire.proxy_protocol import SIGNATURE, V2_LIMIT, Header, Parser, crc32c, read_header
from tests.wire.certificates import Authority

LOCAL, PROXY = 0x20, 0x21
V4 = bytes([10, 0, 0, 1, 10, 0, 0, 2]) + (40000).to_bytes(2, "big") + (443).to_bytes(2, "big")
CALLER = Header("10.0.0.1", 40000, "10.0.0.2", 443, local=False)


def version_2(command: int, kind: int, block: bytes, length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, kind]) + size.to_bytes(2, "big") + block


def parse(data: bytes) -> Header:
    header = Parser().feed(data)
    assert header is not None
    return header


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443", CALLER),
        (
            b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0",
            Header("255.255.255.255", 65535, "0.0.0.0", 0, False),
        ),
        (b"PROXY TCP6 2001:DB8::1 ::1 1 2", Header("2001:db8::1", 1, "::1", 2, False)),
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            Header(*["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535] * 2, False),
        ),
        (b"PROXY UNKNOWN", Header()),
        (b"PROXY UNKNOWN whatever comes here", Header()),
        (b"PROXY UNKNOWN ".ljust(105, b"x"), Header()),
    ],
)
def test_version_1(line: bytes, header: Header) -> None:
    assert parse(line + b"\r\n") == header


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"proxy TCP4 10.0.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY\r\n",
        b"PROXY \r\n",
        b"PROXY  TCP4 10.0.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY\tTCP4 10.0.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY TCP5 10.0.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY UDP4 10.0.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443 \r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443 x\r\n",
        b"PROXY TCP4 10.0.0.1  10.0.0.2 40000 443\r\n",
        b"PROXY TCP4 10.0.0.01 10.0.0.2 40000 443\r\n",
        b"PROXY TCP4 10.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY TCP4 10.0.0.256 10.0.0.2 40000 443\r\n",
        b"PROXY TCP4 ::1 ::1 40000 443\r\n",
        b"PROXY TCP6 10.0.0.1 10.0.0.2 40000 443\r\n",
        b"PROXY TCP6 ::1%lo ::1 40000 443\r\n",
        b"PROXY TCP6 [::1] ::1 40000 443\r\n",
        b"PROXY TCP6 \xc2\xb2::1 ::1 40000 443\r\n",
        b"PROXY TCP4 10.0.0.1\0 10.0.0.2 40000 443\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 65536 443\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 040000 443\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 +40000 443\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 4_0 443\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 \xd9\xa1 443\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 -1 443\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\r\n",
        b"PROXY UNKNOWN \r x\r\n",
        b"PROXY UNKNOWN \r x",  # at once, not when the line is over
        b"PROXY UNKNOWN x\r\r\n",
        b"PROXY UNKNOWN x\n",
        b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
        b"PROXY UNKNOWN ".ljust(107, b"x"),
    ],
)
def test_what_is_no_version_1(line: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        Parser().feed(line)
    assert (caught.value.status, caught.value.code, caught.value.close) == (400, "bad_proxy_header", True)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (version_2(PROXY, 0x11, V4), CALLER),
        (version_2(PROXY, 0x12, V4), CALLER),
        (version_2(PROXY, 0x11, V4 + b"\x04\x00\x03abc"), CALLER),
        (version_2(PROXY, 0x11, V4 + b"\x04\x0f\xf1" + bytes(V2_LIMIT - 15)), CALLER),
        (
            version_2(PROXY, 0x21, bytes(15) + b"\x01" + bytes(15) + b"\x02" + b"\x00\x01\x00\x02"),
            Header("::1", 1, "::2", 2, False),
        ),
        (version_2(PROXY, 0x31, b"/run/a".ljust(108, b"\0") * 2), Header()),
        (version_2(PROXY, 0x00, b""), Header()),
        (version_2(PROXY, 0x00, b"ignored"), Header()),
        (version_2(PROXY, 0x10, V4), Header()),
        (version_2(LOCAL, 0x00, b""), Header()),
        (version_2(LOCAL, 0x11, V4), Header()),
        (version_2(LOCAL, 0xFF, b"skipped"), Header()),
    ],
)
def test_version_2(data: bytes, header: Header) -> None:
    assert parse(data) == header


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE[:-1] + b"\x0b",
        version_2(0x11, 0x11, V4),
        version_2(0x22, 0x11, V4),
        version_2(0x31, 0x11, V4),
        version_2(PROXY, 0x41, V4),
        version_2(PROXY, 0x13, V4),
        version_2(PROXY, 0x11, V4[:-1]),
        version_2(PROXY, 0x21, V4),
        version_2(PROXY, 0x31, V4),
        version_2(PROXY, 0x11, b"", V2_LIMIT + 1),
        version_2(LOCAL, 0x00, b"", V2_LIMIT + 1),
        version_2(LOCAL, 0x00, b"", 0xFFFF),
        version_2(PROXY, 0x11, V4 + b"\x04\x00"),
        version_2(PROXY, 0x11, V4 + b"\x04\x00\x03ab"),
        version_2(PROXY, 0x11, V4 + b"\x03\x00\x05abcde"),
    ],
)
def test_what_is_no_version_2(data: bytes) -> None:
    with pytest.raises(RequestError):
        Parser().feed(data)


@pytest.mark.parametrize(
    ("data", "crc"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)],
)
def test_the_checksum(data: bytes, crc: int) -> None:
    assert crc32c(data) == crc  # RFC 3720 §B.4


@pytest.mark.parametrize("before", [b"", b"\x04\x00\x03abc"])
@pytest.mark.parametrize("behind", [b"", b"\x20\x00\x01x"])
def test_a_header_with_a_checksum_has_to_be_what_was_sent(before: bytes, behind: bytes) -> None:
    head = version_2(PROXY, 0x11, V4 + before + b"\x03\x00\x04" + bytes(4) + behind)
    at = len(head) - len(behind) - 4
    whole = head[:at] + crc32c(head).to_bytes(4, "big") + head[at + 4 :]
    assert parse(whole) == CALLER
    for damaged in (17, at, len(whole) - 1):
        with pytest.raises(RequestError, match="checksum is wrong"):
            parse(whole[:damaged] + bytes([whole[damaged] ^ 1]) + whole[damaged + 1 :])


def in_pieces(data: bytes, sizes: list[int]) -> Header | None:
    parser, at = Parser(), 0
    for size in [*sizes, len(data)]:
        header = parser.feed(data[at : at + size])
        at += size
        if header is not None:
            return header
    return None


ports = st.integers(0, 65535)
chunks = st.lists(st.integers(1, 40), max_size=12)
extras = st.lists(st.builds(lambda value: b"\x04\x00" + bytes([len(value)]) + value, st.binary(max_size=9)), max_size=3)


@given(st.sampled_from([4, 6]), st.data(), ports, ports, extras.map(b"".join), st.binary(max_size=60), chunks)
def test_what_is_sent_comes_back_however_it_is_cut(
    version: int, data: st.DataObject, source_port: int, port: int, tlvs: bytes, rest: bytes, sizes: list[int]
) -> None:
    source, destination = (data.draw(st.ip_addresses(v=version)) for _ in range(2))  # type: ignore[arg-type]
    line = f"PROXY TCP{version} {source} {destination} {source_port} {port}\r\n".encode()
    block = source.packed + destination.packed + source_port.to_bytes(2, "big") + port.to_bytes(2, "big")
    for sent in (line, version_2(PROXY, 0x11 if version == 4 else 0x21, block + tlvs)):
        header = in_pieces(sent + rest, sizes)
        assert header is not None
        assert ipaddress.ip_address(header.source) == source
        assert ipaddress.ip_address(header.destination) == destination
        assert (header.source_port, header.destination_port, header.local) == (source_port, port, False)
        assert rest.startswith(header.rest)
        # Byte by byte it is complete at its last byte, not before.
        parser = Parser()
        assert [parser.feed(sent[i : i + 1]) for i in range(len(sent) - 1)] == [None] * (len(sent) - 1)
        assert parser.feed(sent[-1:]) is not None


PIECES = [
    b"PROXY ",
    b"UNKNOWN",
    b"TCP4 ",
    b"1.2.3.4 ",
    b"\r\n",
    b"\r",
    b"\n",
    SIGNATURE,
    b"\x21\x11",
    b"\x00\x0c",
]
soup = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=12).map(b"".join)


@given(soup, chunks)
def test_anything_at_all_ends_the_same_however_it_is_cut(data: bytes, sizes: list[int]) -> None:
    def outcome(feed: Callable[[], Header | None]) -> object:
        try:
            header = feed()
        except RequestError as error:
            return error.code
        return header and (header.source, header.source_port, header.local)

    assert outcome(lambda: in_pieces(data, sizes)) == outcome(lambda: Parser().feed(data))


def test_a_parser_holds_no_more_than_a_header() -> None:
    parser = Parser()
    assert parser.feed(version_2(LOCAL, 0, b"", V2_LIMIT)) is None
    header = parser.feed(bytes(V2_LIMIT + 1000))
    assert header is not None
    assert len(header.rest) == 1000


# -- over real sockets ----------------------------------------------------------------------------------------


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def accepted() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection: the caller's, blocking, and ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        caller = socket.create_connection(server.getsockname(), timeout=5)
        ours, _ = server.accept()
    ours.setblocking(False)
    return caller, ours


def over_sockets(test: Callable[[socket.socket, socket.socket], Awaitable[None]]) -> None:
    async def main() -> None:
        caller, ours = await accepted()
        with caller, ours:
            await test(caller, ours)

    run(main())


@pytest.mark.parametrize("header", [b"PROXY TCP4 10.0.0.1 10.0.0.2 40000 443\r\n", version_2(PROXY, 0x11, V4)])
def test_exactly_the_header_is_taken(header: bytes) -> None:
    async def whole(caller: socket.socket, ours: socket.socket) -> None:
        caller.sendall(header + b"what follows")
        assert await read_header(ours) == CALLER
        assert ours.recv(100) == b"what follows"

    async def piecemeal(caller: socket.socket, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reading = loop.create_task(read_header(ours))
        for i in range(len(header)):
            caller.sendall(header[i : i + 1])
            while not reading.done() and _pending(ours):  # noqa: ASYNC110 - only the kernel knows
                await asyncio.sleep(0)
        caller.sendall(b"what follows")
        assert await reading == CALLER
        assert ours.recv(100) == b"what follows"

    over_sockets(whole)
    over_sockets(piecemeal)


def _pending(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_garbage_is_refused() -> None:
    async def test(caller: socket.socket, ours: socket.socket) -> None:
        caller.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(RequestError):
            await read_header(ours)

    over_sockets(test)


@pytest.mark.parametrize("start", [b"", b"PROXY TCP4 10"])
def test_a_caller_that_hangs_up_early_is_refused(start: bytes) -> None:
    async def test(caller: socket.socket, ours: socket.socket) -> None:
        caller.sendall(start)
        caller.shutdown(socket.SHUT_WR)
        with pytest.raises(RequestError):
            await read_header(ours)

    over_sockets(test)


def test_waiting_can_be_given_up() -> None:
    async def test(caller: socket.socket, ours: socket.socket) -> None:
        caller.sendall(b"PROXY TCP4 10")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_header(ours), 0.01)
        assert not asyncio.get_running_loop().remove_reader(ours)

    over_sockets(test)


class Echo(asyncio.Protocol):
    """Answers a line with the caller's address as the header has it, and ends."""

    def __init__(self, header: Header) -> None:
        self.header = header

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(f"{self.header.source}:{self.header.source_port} ".encode() + data)
        self.transport.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("together", [False, True], ids=["header first", "in one segment"])
def test_a_protocol_takes_over_behind_the_header(tls: bool, together: bool, tmp_path: Any) -> None:
    ca = Authority(tmp_path)
    pair = ca.issue("api.example")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(pair.cert, pair.key)
    client_side = ssl.create_default_context(cafile=ca.file)
    client_side.verify_flags &= ~ssl.VERIFY_X509_STRICT
    header = version_2(PROXY, 0x11, V4)

    def call(caller: socket.socket) -> bytes:
        if not tls:
            caller.sendall(header + b"hello" if together else header)
            if not together:
                caller.sendall(b"hello")
            return caller.makefile("rb").read()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_side.wrap_bio(incoming, outgoing, server_hostname="api.example")
        first = header if together else b""
        if not together:
            caller.sendall(header)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                caller.sendall(first + outgoing.read())
                first = b""
                incoming.write(caller.recv(65536))
        client.write(b"hello")
        caller.sendall(outgoing.read())
        received = b""
        while data := caller.recv(65536):
            incoming.write(data)
            try:
                while found := client.read():
                    received += found
            except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                pass
            if received.endswith(b"hello"):
                break
        return received

    async def test(caller: socket.socket, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        answer = loop.run_in_executor(None, call, caller)
        said = await read_header(ours)
        await loop.connect_accepted_socket(lambda: Echo(said), ours, ssl=server_side if tls else None)
        assert await answer == b"10.0.0.1:40000 hello"

    over_sockets(test)
