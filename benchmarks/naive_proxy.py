"""The obvious reverse proxy on aiohttp, as a first afternoon gives it: `web.Server`, `ClientSession`, streamed bodies.

A peer in the benchmarks: it shows what the data path would cost had it been built so. Nothing in it is slow on purpose.
"""

from __future__ import annotations

import asyncio
import logging
import ssl

import click
import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
    )
)
CHUNK = 65536


def forwarded(request: web.BaseRequest) -> CIMultiDict[str]:
    """The caller's headers without those of the connection, and who the caller is."""
    headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP)
    headers["X-Forwarded-For"] = request.remote or ""
    headers["X-Forwarded-Proto"] = request.scheme
    return headers


class NaiveProxy:
    """Forwards every request to one target."""

    def __init__(self, session: ClientSession, target: str) -> None:
        self.session = session
        self.target = target

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        url = URL(self.target + request.raw_path, encoded=True)
        body = request.content if request.body_exists else None
        length = request.headers.get("Content-Length")
        headers = forwarded(request)
        if length is not None:
            headers["Content-Length"] = length
        async with self.session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as reply:
            kept = CIMultiDict((k, v) for k, v in reply.headers.items() if k.lower() not in HOP_BY_HOP)
            out = web.StreamResponse(status=reply.status, reason=reply.reason, headers=kept)
            out.content_length = reply.content_length
            await out.prepare(request)
            async for chunk in reply.content.iter_chunked(CHUNK):
                await out.write(chunk)
            await out.write_eof()
            return out


async def serve(port: int, target: str, certificate: str, key: str) -> None:
    """Serve until the process is ended."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    connector = TCPConnector(limit=0)
    timeout = ClientTimeout(total=None, sock_connect=5, sock_read=60)
    async with ClientSession(connector=connector, auto_decompress=False, timeout=timeout) as session:
        runner = web.ServerRunner(web.Server(NaiveProxy(session, target)))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_port=True, backlog=4096).start()
        await asyncio.Event().wait()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--target", required=True, help="http://host:port")
@click.option("--log", required=True, help="File for the access log.")
@click.option("--certificate", default="")
@click.option("--key", default="")
def main(port: int, target: str, log: str, certificate: str, key: str) -> None:
    """Forward requests to one target."""
    logging.basicConfig(filename=log, level=logging.INFO, format="%(message)s")
    uvloop.run(serve(port, target, certificate, key))


if __name__ == "__main__":
    main()
