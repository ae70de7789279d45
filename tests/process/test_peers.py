"""Real peers: nginx and a gunicorn-served httpbin behind the daemon; curl and other callers before it."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import tempfile
import threading

import aiohttp
import httpx
import pytest
import requests

from tests.support.daemon import WAIT, Daemon, Document
from tests.support.peers import httpbin, nginx, program, said

pytestmark = pytest.mark.process

PAGE = b"<html><head><title>Policies</title></head><body><p id=said>nobody</p><script>" \
       b"fetch('/bin/anything?by=chromium').then(r => r.json())" \
       b".then(found => { document.getElementById('said').textContent = 'fetched by ' + found.args.by })" \
       b"</script></body></html>"  # fmt: skip
BIG = bytes(range(256)) * 12_288  # 3 MiB
FIRST, LAST = (b"<body>" + b"x" * 2_000), b"y" * 2_000 + b"</body>"


@pytest.fixture(scope="module")
def servers():
    """nginx's and httpbin's ports."""
    with nginx({"page.html": PAGE, "big": BIG}) as files, httpbin() as bin_port:
        yield files, bin_port


def document(files: int, bin_port: int) -> Document:
    """httpbin under /bin, nginx for the rest."""
    return {
        "upstreams": {
            "files": {"targets": [{"address": f"127.0.0.1:{files}"}]},
            "bin": {"targets": [{"address": f"127.0.0.1:{bin_port}"}]},
        },
        "services": {"files": {"upstream": "files"}, "bin": {"upstream": "bin"}},
        "routes": {
            "files": {"path": "/*", "service": "files"},
            "bin": {"path": "/bin/*", "service": "bin", "strip_prefix": "/bin"},
        },
        "gateway": {"workers": 2},
    }


@pytest.fixture(scope="module")
def url(servers):
    """Where the daemon serves both."""
    with Daemon(document(*servers)) as daemon:
        yield daemon.url()


# -- curl ---------------------------------------------------------------------------------------------------------


def curl(*words: str) -> str:
    """What curl prints."""
    return said(program("curl"), "-sS", "--max-time", "30", *words)


def test_curl_gets_files_whole_and_in_part(url, tmp_path):
    curl("-o", str(tmp_path / "big"), f"{url}/big")
    assert (tmp_path / "big").read_bytes() == BIG
    curl("-o", str(tmp_path / "part"), "-r", "1000-1999", f"{url}/big")
    assert (tmp_path / "part").read_bytes() == BIG[1000:2000]
    curl("-o", str(tmp_path / "old"), "--http1.0", f"{url}/big")
    assert (tmp_path / "old").read_bytes() == BIG


def test_curl_asks_for_heads_and_what_has_not_changed(url):
    head = curl("-I", f"{url}/big").lower()
    assert head.startswith("http/1.1 200 ok")
    assert f"content-length: {len(BIG)}" in head
    assert "via: 1.1 gatewayd" in head
    etag = re.search(r'etag: (".*?")', head)[1]
    words = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H", f"If-None-Match: {etag}"]
    assert curl(*words, f"{url}/big") == "304 0"


def test_curl_keeps_its_connection(url):
    urls = [f"{url}/token?is={number}" for number in range(20)]
    out = curl("-w", " %{num_connects}\n", *(word for each in urls for word in (each,)))
    assert out.splitlines() == [f"{number} {int(number == 0)}" for number in range(20)]


def test_curl_uploads_after_100_continue_and_in_chunks(url, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"0123456789abcdef" * 100_000)
    plain = ["-H", "Content-Type: text/plain"]
    for words in (
        ["-H", "Expect: 100-continue", "--data-binary", f"@{body}"],
        ["-H", "Transfer-Encoding: chunked", "--data-binary", f"@{body}"],
        ["-T", str(body)],
    ):
        assert json.loads(curl(*plain, *words, f"{url}/bin/anything"))["data"] == body.read_text()


def test_curl_decompresses(url):
    assert json.loads(curl("--compressed", f"{url}/bin/gzip"))["gzipped"] is True
    packed = httpx.get(f"{url}/page.html", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == PAGE


# -- Python's clients -----------------------------------------------------------------------------------------------


def test_requests_follows_redirects_and_keeps_cookies(url):
    with requests.Session() as session:
        reply = session.get(f"{url}/bin/cookies/set/plan/gold", timeout=WAIT)
        assert reply.json() == {"cookies": {"plan": "gold"}}
        assert [each.status_code for each in reply.history] == [302]
        assert reply.url == f"{url}/bin/cookies"  # the prefix that was stripped is back
        for number in range(50):
            reply = session.post(f"{url}/bin/post", json={"number": number}, timeout=WAIT)
            assert reply.json()["json"] == {"number": number}


def test_requests_sends_a_stream_and_reads_one(url):
    with requests.Session() as session:
        pieces = (b"x" * 10_000 for _ in range(50))
        assert len(session.put(f"{url}/bin/put", data=pieces, timeout=WAIT).json()["data"]) == 500_000
        with session.get(f"{url}/bin/stream/20", stream=True, timeout=WAIT) as reply:
            assert reply.headers["transfer-encoding"] == "chunked"
            assert [json.loads(line)["id"] for line in reply.iter_lines()] == list(range(20))


def test_httpx_gets_what_every_status_says(url):
    with httpx.Client(base_url=url, timeout=WAIT) as client:
        for status in (200, 204, 206, 304, 400, 401, 404, 418, 500):
            assert client.get(f"/bin/status/{status}").status_code == status
        assert client.head("/bin/get").content == b""
        assert client.delete("/bin/delete").json()["url"].endswith("/delete")
        assert client.options("/bin/get").headers["allow"]


def test_what_the_target_hears_of_the_caller(url):
    host = url.removeprefix("http://")
    told = httpx.get(f"{url}/headers", headers={"x-forwarded-for": "1.2.3.4"}).text
    seen_host, forwarded, via, request_id = told.split("|")
    assert (seen_host, forwarded, via) == (host, "127.0.0.1", "1.1 gatewayd")
    assert re.fullmatch("[0-9a-f]{32}", request_id)
    found = httpx.get(f"{url}/bin/get?a=b%20c&a=d", headers={"x-twice": "1"}).json()
    assert found["args"] == {"a": ["b c", "d"]}
    assert found["headers"]["X-Twice"] == "1"


def test_connections_to_a_target_are_used_again(url):
    with httpx.Client(base_url=url) as client:
        counts = [client.get("/count").text.split() for _ in range(30)]
    assert len({connection for connection, _ in counts}) < 10
    assert max(int(requests) for _, requests in counts) > 5


def test_aiohttp_asks_for_many_things_at_once(url):
    async def ask() -> list[str]:
        async with aiohttp.ClientSession() as session:

            async def one(number: int) -> str:
                async with session.get(f"{url}/token", params={"is": number}) as reply:
                    return await reply.text()

            return await asyncio.gather(*(one(number) for number in range(500)))

    assert asyncio.run(ask()) == [str(number) for number in range(500)]


def test_h2load_gets_every_reply(url):
    out = said(program("h2load"), "--h1", "-n", "3000", "-c", "32", f"{url}/token?is=me")
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in out
    assert "status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx" in out


# -- Chromium ---------------------------------------------------------------------------------------------------------

FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    "--virtual-time-budget=10000",
]


def test_chromium_shows_a_page_that_fetches(url):
    binary = program("chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        dom = said(binary, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", f"{url}/page.html")
    assert "<title>Policies</title>" in dom
    assert "fetched by chromium" in dom


# -- a target that ends replies by closing -----------------------------------------------------------------------------


def test_a_reply_that_ends_with_its_connection_is_passed_on_as_chunks():
    """As CGI and old servers answer: no length, no chunks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                peer, _ = listening.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(FIRST + LAST))

        thread = threading.Thread(target=serve)
        thread.start()
        port = listening.getsockname()[1]
        with Daemon(document(port, port)) as daemon:
            reply = httpx.get(daemon.url("/anything"))
            old = curl("--http1.0", "--compressed", daemon.url("/anything"))
        thread.join(WAIT)
    assert reply.headers["transfer-encoding"] == "chunked"
    assert reply.content == FIRST + LAST
    assert old.encode() == FIRST + LAST
