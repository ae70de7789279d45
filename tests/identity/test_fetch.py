"""fetch: side calls, and one call for all who wait for it."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib

import pytest

from gatewayd.identity import fetch as module
from gatewayd.identity.fetch import FetchError, Shared, close, fetch, is_url, load_client
from tests.support.side_server import SideServer
from tests.wire.certificates import Authority


def run(*calls):
    """Results of the calls, one after the other in a loop of their own; errors are results too."""

    async def each(call):
        try:
            return await call()
        except FetchError as error:
            return error.reason

    async def all_of_them():
        try:
            return [await each(call) for call in calls]
        finally:
            await close()

    found = asyncio.run(all_of_them())
    return found[0] if len(calls) == 1 else found


def asked(url, **how):
    return run(lambda: fetch(url, **how))


def test_an_answer_comes_whole_whatever_its_status():
    with SideServer({"/a": (418, {"X-Odd": "Yes"}, b"body")}) as server:
        found = asked(server.url("/a"))
    assert (found.status, found.body) == (418, b"body")
    assert (b"x-odd", b"Yes") in found.headers


def test_what_is_sent():
    with SideServer({"/a": {}}) as server:
        asked(server.url("/a"), method="POST", headers=[(b"authorization", b"Basic eA==")], body=b"token=x")
        (request,) = server.asked
    assert (request.method, request.body, request.headers["authorization"]) == ("POST", b"token=x", "Basic eA==")


def test_connections_are_kept_until_they_are_closed():
    with SideServer({"/a": {}}) as server:
        run(*[lambda: fetch(server.url("/a"))] * 3)
        run(lambda: fetch(server.url("/a")))
        connections = [request.connection for request in server.asked]
    assert len(connections) == 4
    assert len(set(connections)) == 2
    assert not module._sessions


def test_content_codings_are_undone_and_counted_undone():
    big = gzip.compress(b"0" * 100_000)
    answers = {
        "/small": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"small")),
        "/big": (200, {"Content-Encoding": "gzip"}, big),
        "/lie": (200, {"Content-Encoding": "deflate"}, zlib.compress(b"x")[:-3] + b"\xff\xff\xff"),
    }
    with SideServer(answers) as server:
        found = run(
            lambda: fetch(server.url("/small")),
            lambda: fetch(server.url("/big"), limit=100_000),
            lambda: fetch(server.url("/big"), limit=99_999),
            lambda: fetch(server.url("/lie")),
        )
    assert [found[0].body, len(found[1].body), *found[2:]] == [b"small", 100_000, "too_large", "broken"]


def test_an_answer_that_takes_too_long_is_given_up():
    with SideServer({"/a": {}}) as server:
        server.gate.clear()
        assert asked(server.url("/a"), timeout=0.05) == "timeout"


@pytest.mark.parametrize(
    ("location", "found"),
    [("/b", 200), ("../b", 200), ("{same}/b", 200), ("{other}/b", "redirected"), ("file:///etc/passwd", "bad_url")],
)
def test_redirects_stay_within_the_origin(location, found):
    with SideServer({"/b": {}}) as server:
        to = location.format(same=server.url(), other=server.url(host="localhost"))
        server.answers["/a"] = (302, {"Location": to}, b"")
        reply = asked(server.url("/a"))
    assert (reply if isinstance(reply, str) else reply.status) == found


def test_redirects_end_and_questions_are_not_repeated_elsewhere():
    with SideServer({"/a": (307, {"Location": "/a"}, b"")}) as server:
        assert asked(server.url("/a")) == "redirected"
        assert len(server.asked) == module.REDIRECTS + 1
        assert asked(server.url("/a"), method="POST", body=b"secret") == "redirected"
        assert len(server.asked) == module.REDIRECTS + 2


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://a/b", "file:///etc/passwd", "https://", "https://user@host/", "http://a:b/", "http://[::1/"],
)
def test_only_urls_of_http(url):
    assert not is_url(url)
    assert asked(url) == "bad_url"


def test_urls_of_http():
    assert all(is_url(url) for url in ("http://a", "https://a.example:8443/b?c", "https://[::1]/x"))


def test_nobody_is_there():
    with SideServer() as server:
        url = server.url("/a")
    assert asked(url) == "connect_failed"


def test_a_header_that_would_be_two_is_not_sent():
    with SideServer({"/a": {}}) as server:
        assert asked(server.url("/a"), headers=[(b"x", b"a\r\nb: c")]) == "bad_request"
        assert not server.asked


def test_certificates_are_checked_by_the_given_authority(tmp_path):
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "Other CA")
    files = ours.issue("127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.cert, files.key)
    with SideServer({"/a": {}}, context) as server:
        found = run(
            lambda: fetch(server.url("/a"), ca=ours.file),
            lambda: fetch(server.url("/a"), ca=theirs.file),
            lambda: fetch(server.url("/a")),
            lambda: fetch(server.url("/a"), ca=str(tmp_path / "none.pem")),
        )
    assert found[0].status == 200
    assert found[1:] == ["tls_failed", "tls_failed", "bad_ca"]


def test_another_authority_in_the_same_file_counts_at_once(tmp_path):
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "Other CA")
    first = module._context(ours.file)
    assert module._context(ours.file) is first
    with open(theirs.file) as other, open(ours.file, "w") as file:
        file.write(other.read())
    assert module._context(ours.file) is not first


def test_errors_hold_nothing_that_was_sent():
    with SideServer() as server:
        url = server.url("/secret-path?token=secret")
    with pytest.raises(FetchError) as caught:
        asyncio.run(closing(fetch(url, headers=[(b"authorization", b"secret")], body=b"secret")))
    assert "secret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__}"


async def closing(call):
    try:
        return await call
    finally:
        await close()


def test_the_client_can_be_loaded_early():
    load_client()


# -- one call for all ------------------------------------------------------------------------------------------------


class Work:
    """Counts how often it is begun; goes on when told."""

    def __init__(self, error=None):
        self.begun = 0
        self.error = error
        self.go = asyncio.Event()

    async def make(self):
        self.begun += 1
        await self.go.wait()
        if self.error:
            raise self.error
        return self.begun


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)


def test_who_waits_for_the_same_thing_waits_for_one_call():
    async def scene():
        work, shared = Work(), Shared()
        waiting = [asyncio.ensure_future(shared.get("a", work.make)) for _ in range(50)]
        await turn()
        assert len(shared) == 1
        work.go.set()
        assert await asyncio.gather(*waiting) == [1] * 50
        assert len(shared) == 0
        assert await shared.get("a", work.make) == 2

    asyncio.run(scene())


def test_all_who_wait_are_told_of_a_failure_and_the_next_one_tries_anew():
    async def scene():
        work, shared = Work(FetchError("timeout")), Shared()
        waiting = [asyncio.ensure_future(shared.get("a", work.make)) for _ in range(3)]
        work.go.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [error.reason for error in found] == ["timeout"] * 3
        work.error = None
        assert await shared.get("a", work.make) == 2

    asyncio.run(scene())


def test_one_who_gives_up_does_not_take_it_from_the_others():
    async def scene():
        work, shared = Work(), Shared()
        first = asyncio.ensure_future(shared.get("a", work.make))
        second = asyncio.ensure_future(shared.get("a", work.make))
        await turn()
        first.cancel()
        await turn()
        work.go.set()
        assert await second == 1

    asyncio.run(scene())


def test_a_failure_that_nobody_waits_for_is_nobodys():
    async def scene():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        work, shared = Work(FetchError("timeout")), Shared()
        shared.begin("a", work.make)
        work.go.set()
        await turn()
        assert (len(shared), complaints) == (0, [])

    asyncio.run(scene())


def test_only_so_many_things_are_fetched_at_once():
    async def scene():
        work, shared = Work(), Shared(at_once=2)
        waiting = [asyncio.ensure_future(shared.get(key, work.make)) for key in "ab"]
        await turn()
        with pytest.raises(FetchError, match="too_many"):
            await shared.get("c", work.make)
        joined = asyncio.ensure_future(shared.get("a", work.make))
        work.go.set()
        await asyncio.gather(*waiting, joined)
        assert work.begun == 2

    asyncio.run(scene())
