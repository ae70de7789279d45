"""Documents: the archive whole and in ranges, uploads of any size."""

from __future__ import annotations

import hashlib
import io

import pytest

from gatewayd.demo import documents
from gatewayd.demo.pdf import Pdf

from .call import with_service

PATH = "/v1/documents/DOC-000123.pdf?pages=2"
WHOLE = b"".join(Pdf(123, 2).read(0, 10**9))
TAG = '"doc-123-2"'


def get(**headers: str):
    async def talk(client):
        reply = await client.get(PATH, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return reply.status, await reply.read(), reply.headers

    return with_service(documents.make_app(), talk)


def test_the_whole_archive():
    status, body, headers = get()
    assert (status, body, headers["ETag"]) == (200, WHOLE, TAG)
    assert headers["Content-Length"] == str(len(WHOLE))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=70000-", 70_000, len(WHOLE)),
        ("bytes=-5", len(WHOLE) - 5, len(WHOLE)),
        ("bytes=0-", 0, len(WHOLE)),
    ],
)
def test_a_range(asked, start, stop):
    status, body, headers = get(Range=asked)
    assert (status, body) == (206, WHOLE[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(WHOLE)}"


def test_a_range_behind_the_end_is_refused():
    status, _, headers = get(Range="bytes=9999999-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{len(WHOLE)}")


@pytest.mark.parametrize(
    "headers",
    [{"Range": "bytes=0-1,5-6"}, {"Range": "lines=1-2"}, {"Range": "bytes=0-9", "If_Range": '"old"'}],
)
def test_a_range_that_is_odd_or_of_another_state_gets_the_whole(headers):
    status, body, _ = get(**headers)
    assert (status, len(body)) == (200, len(WHOLE))


def test_a_range_of_the_state_known():
    status, body, _ = get(Range="bytes=0-9", If_Range=TAG)
    assert (status, body) == (206, WHOLE[:10])


def test_nothing_new_is_not_sent():
    assert get(If_None_Match=TAG)[0] == 304


def test_head_says_the_length_and_sends_nothing():
    async def talk(client):
        reply = await client.head(PATH, headers={"Range": "bytes=0-9"})
        return reply.status, reply.headers["Content-Length"], await reply.read()

    assert with_service(documents.make_app(), talk) == (200, str(len(WHOLE)), b"")


def test_an_upload_is_counted_and_receipted():
    content = bytes(range(256)) * 8_192

    async def talk(client):
        made = await client.put("/v1/documents/scan-1", data=io.BytesIO(content))
        found = await client.get(made.headers["Location"])
        missing = await client.get("/v1/documents/scan-2/receipt")
        return made.status, await found.json(), missing.status

    receipt = {"id": "scan-1", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert with_service(documents.make_app(), talk) == (201, receipt, 404)


def test_what_there_is_of_a_policy():
    async def talk(client):
        found = await (await client.get("/v1/documents?policy=POL-000123")).json()
        missing = [await client.get("/v1/documents?policy=x"), await client.get("/v1/documents/DOC-x")]
        return found["items"][0]["bytes"], [each.status for each in missing]

    assert with_service(documents.make_app(), talk) == (Pdf(123).size, [404, 404])
