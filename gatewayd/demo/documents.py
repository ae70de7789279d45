"""Documents: a policy's archive, a PDF of some 50 MB made while it is sent, and a place to send scans to."""

from __future__ import annotations

import hashlib

from aiohttp import web

from gatewayd.demo import book
from gatewayd.demo.pdf import Pdf
from gatewayd.demo.service import application, json_reply, options, refusal, run, whole

MOST_RECEIPTS = 1_000
RECEIPTS: web.AppKey[dict[str, book.Record]] = web.AppKey("receipts", dict)


async def page(request: web.Request) -> web.Response:
    """What there is of a policy: `?policy=POL-000123`."""
    number = book.number_of(request.query.get("policy", "POL-000123"), "POL", book.POLICIES)
    if number is None:
        return refusal(404, "no such policy; try POL-000123")
    document = {"id": f"DOC-{number:06d}", "policy": f"POL-{number:06d}", "type": "application/pdf"}
    return json_reply({"items": [document | {"bytes": Pdf(number).size}]})


async def show(request: web.Request) -> web.StreamResponse:
    """The archive, whole or one range of it (RFC 9110 §14). `?pages=` makes a smaller or larger one."""
    number = book.number_of(request.match_info["id"].removesuffix(".pdf"), "DOC", book.POLICIES)
    pages = whole(request.query.get("pages"), 800, 1, 100_000)
    if number is None or pages is None:
        return refusal(404, "no such document; try DOC-000123")
    pdf = Pdf(number, pages)
    tag = f'"doc-{number}-{pages}"'
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers={"ETag": tag})
    part = wanted(request, pdf.size, tag)
    if part is not None and not part:
        return refusal(416, "no such range", {"Content-Range": f"bytes */{pdf.size}"})
    return await _send(request, pdf, part, tag)


def wanted(request: web.Request, size: int, tag: str) -> range | None:
    """The bytes asked for; None for all of them: no range, an odd one, one of another state (`If-Range`)."""
    headers = request.headers
    if request.method != "GET" or "Range" not in headers or headers.get("If-Range", tag) != tag:
        return None
    try:
        asked = request.http_range
    except ValueError:
        return None
    return range(*slice(asked.start, asked.stop).indices(size))


async def _send(request: web.Request, pdf: Pdf, part: range | None, tag: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"ETag": tag, "Accept-Ranges": "bytes"})
    if part:
        response.set_status(206)
        response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{pdf.size}"
    part = part or range(pdf.size)
    response.content_type = "application/pdf"
    response.content_length = len(part)
    await response.prepare(request)
    for piece in pdf.read(part.start, part.stop) if request.method == "GET" else ():
        await response.write(piece)
    await response.write_eof()
    return response


async def take(request: web.Request) -> web.Response:
    """Take in a document of any size: 201 with what arrived (bytes, SHA-256). Its content is not kept."""
    digest, size = hashlib.sha256(), 0
    async for part in request.content.iter_any():
        digest.update(part)
        size += len(part)
    name = request.match_info["id"]
    receipts = request.app[RECEIPTS]
    receipts[name] = {"id": name, "bytes": size, "sha256": digest.hexdigest()}
    if len(receipts) > MOST_RECEIPTS:
        del receipts[next(iter(receipts))]
    return json_reply(receipts[name], 201, {"Location": f"/v1/documents/{name}/receipt"})


async def receipt(request: web.Request) -> web.Response:
    """What arrived under that name; the last thousand are remembered."""
    found = request.app[RECEIPTS].get(request.match_info["id"])
    return json_reply(found) if found else refusal(404, "nothing arrived under that name")


def make_app() -> web.Application:
    """The service."""
    app = application("documents")
    app[RECEIPTS] = {}
    app.router.add_get("/v1/documents", page)
    app.router.add_get("/v1/documents/{id}", show)
    app.router.add_put("/v1/documents/{id}", take)
    app.router.add_get("/v1/documents/{id}/receipt", receipt)
    return app


if __name__ == "__main__":
    run(make_app(), options("documents", 9105).port)
