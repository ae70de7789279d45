"""An upstream on uvloop, for what nginx cannot play: slow replies, huge ones, and the count of bytes it got rid of.

    python -m benchmarks.upstream --port 9000 --delay 0.05

`/huge/N` answers N bytes, `/large` 1 MiB, `/sent` how many bytes of bodies left this process so far, anything else the
policy document, below `/public/` with leave for caches to keep it. It also stands in for nginx as the upstream of every
scenario where nginx is not installed.
"""

from __future__ import annotations

import asyncio

import click
import httptools
import uvloop

DOCUMENT = (
    b'{"policy":"POL-2024-000731","product":"motor","status":"in_force","holder":{"name":"Ada Example",'
    b'"born":"1981-05-17","email":"ada@example.com"},"premium":{"amount":"912.40","currency":"EUR","due":"2027-01-01"},'
    b'"vehicle":{"vin":"WVWZZZ1JZXW000001","make":"Volkswagen","model":"Golf","year":2021},"coverages":['
    b'{"code":"LIABILITY","limit":10000000,"deductible":0},{"code":"COLLISION","limit":40000,"deductible":500},'
    b'{"code":"THEFT","limit":40000,"deductible":250}],"updated":"2026-11-02T09:30:00Z","notes":"'
)
DOCUMENT += b"x" * (541 - len(DOCUMENT) - 2) + b'"}'
"""A policy of a small insurer: 541 bytes of JSON."""
LARGE = b"x" * 1024 * 1024
CHUNK = b"x" * 65536


def head(content_type: str, length: int, more: bytes = b"") -> bytes:
    """The head of a 200 reply; `more` header lines, each with its CRLF."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (
        content_type.encode(),
        length,
        more,
    )


SMALL_REPLY = head("application/json", len(DOCUMENT)) + DOCUMENT
PUBLIC_REPLY = head("application/json", len(DOCUMENT), b"Cache-Control: public, max-age=3600\r\n") + DOCUMENT


class Upstream(asyncio.Protocol):
    """One connection; requests are answered in order, bodies are read and forgotten."""

    sent = 0
    connections: set[Upstream] = set()

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.transport: asyncio.Transport
        self.parser = httptools.HttpRequestParser(self)
        self.url = b""
        self.left = 0
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep account of it."""
        self.transport = transport  # type: ignore[assignment]
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """What was left to send is sent to nobody."""
        self.connections.discard(self)
        self.left = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.close()

    def on_message_begin(self) -> None:
        """Another request."""
        self.url = b""

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self.url += url

    def on_message_complete(self) -> None:
        """Answer, now or when the delay is over."""
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self.answer, self.url)
        else:
            self.answer(self.url)

    def answer(self, url: bytes) -> None:
        """Send the reply to `url`, or begin to."""
        if self.transport.is_closing():
            return
        if url.startswith(b"/huge/"):
            self.left = int(url[6:].partition(b"?")[0])
            self.transport.write(head("application/octet-stream", self.left))
            self.pump()
        elif url.startswith(b"/large"):
            self.transport.write(head("application/octet-stream", len(LARGE)) + LARGE)
        elif url == b"/sent":
            text = b"%d" % self.delivered()
            self.transport.write(head("text/plain", len(text)) + text)
        else:
            self.transport.write(PUBLIC_REPLY if url.startswith(b"/public/") else SMALL_REPLY)

    def pump(self) -> None:
        """Write on until the proxy takes no more."""
        while self.left and not self.paused and not self.transport.is_closing():
            chunk = CHUNK[: self.left]
            self.left -= len(chunk)
            type(self).sent += len(chunk)
            self.transport.write(chunk)

    def pause_writing(self) -> None:
        """The other side takes no more for now."""
        self.paused = True

    def resume_writing(self) -> None:
        """It takes more again."""
        self.paused = False
        self.pump()

    @classmethod
    def delivered(cls) -> int:
        """Bytes of huge bodies that the kernel took from this process."""
        return cls.sent - sum(one.transport.get_write_buffer_size() for one in cls.connections)


async def serve(port: int, delay: float) -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(delay), "127.0.0.1", port, backlog=4096, reuse_port=True)
    await server.serve_forever()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--delay", type=float, default=0.0, help="Seconds before each reply.")
def main(port: int, delay: float) -> None:
    """Answer requests."""
    uvloop.run(serve(port, delay))


if __name__ == "__main__":
    main()
