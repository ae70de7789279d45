"""What callers try with a cache: poison it, be shown what is another's, have it do work, or fill it."""

from __future__ import annotations

import gzip

import pytest

from tests.cache.scenes import FRESH, Scene, reply

ECHO = ("x-forwarded-host", "x-host", "x-forwarded-scheme", "x-original-url", "x-rewrite-url", "x-http-method-override")


def echoing(asked):
    """A careless target: it writes what it is told into a reply that everyone may have."""
    told = {name: asked.headers[name] for name in (*ECHO, "host", "x-forwarded-proto") if name in asked.headers}
    return reply(FRESH, body=repr((asked.method, asked.target, told)).encode())


class Trusting(Scene):
    """A gateway that believes its only neighbour, a proxy that lets everything through."""

    def document(self):
        found = super().document()
        found["listeners"] = {"http": {"trusted_proxies": ["127.0.0.0/8"]}}
        return found


# -- poisoning ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ECHO)
def test_fields_that_mislead_targets_do_not_reach_them(name):
    with Scene(echoing) as scene:
        evil = scene.get("/", f"{name}: evil.example")
        assert b"evil" not in evil.body
        assert scene.get("/").body == evil.body


@pytest.mark.parametrize("field", ["x-forwarded-host: evil.example", "forwarded: host=evil.example"])
def test_a_host_that_a_trusted_proxy_passes_on_makes_another_key(field):
    with Trusting(echoing) as scene:
        assert b"evil" in scene.get("/", field).body
        assert b"evil" not in scene.get("/").body
        assert b"evil" in scene.get("/", field).body
        assert scene.origin.count == 2


def test_a_scheme_makes_another_key():
    with Trusting(echoing) as scene:
        secure = scene.get("/", "x-forwarded-proto: https")
        assert secure.body != scene.get("/").body
        assert secure.body == scene.get("/", "x-forwarded-proto: https").body


def test_hosts_never_share():
    with Scene(echoing) as scene:
        bodies = {scene.raw(f"GET / HTTP/1.1\nhost: {host}\n\n").body for host in ("a", "b", "a:81", "A")}
        assert len(bodies) == 3


def test_a_part_never_stands_for_the_whole():
    def say(asked):
        if "range" in asked.headers:
            return reply(FRESH, "content-range: bytes 0-1/6", body=b"ab", status="206 Partial Content")
        return reply(FRESH, body=b"abcdef")

    with Scene(say) as scene:
        assert scene.get("/", "range: bytes=0-1").status == 206
        assert scene.get("/").body == b"abcdef"


def test_a_target_that_answers_206_unasked_is_not_believed_for_long():
    with Scene(reply(FRESH, "content-range: bytes 0-1/6", body=b"ab", status="206 Partial Content")) as scene:
        scene.get("/")
        scene.get("/")
        assert scene.origin.count == 2


def test_a_coding_is_not_given_to_who_cannot_read_it():
    """The target forgets `Vary`."""

    def say(asked):
        if "gzip" in asked.headers.get("accept-encoding", ""):
            return reply(FRESH, "content-encoding: gzip", body=gzip.compress(b"text"))
        return reply(FRESH, body=b"text")

    with Scene(say) as scene:
        scene.get("/", "accept-encoding: gzip")
        assert scene.get("/").body == b"text"
        assert scene.get("/", "accept-encoding: br").body == b"text"
        assert scene.get("/", "accept-encoding: gzip").body == b"text"  # which anyone can read


def test_a_condition_of_one_is_no_reply_for_all():
    def say(asked):
        if "if-none-match" in asked.headers or "if-modified-since" in asked.headers:
            return reply(FRESH, status="304 Not Modified")
        return reply(FRESH)

    with Scene(say) as scene:
        scene.get("/", 'if-none-match: "guess"', "if-modified-since: Mon, 23 Nov 2026 06:20:36 GMT")
        assert scene.get("/").status == 200


def test_a_head_leaves_no_empty_body():
    with Scene(lambda asked: reply(FRESH, body=b"" if asked.method == "HEAD" else b"text")) as scene:
        scene.get("/", method="HEAD")
        assert scene.get("/").body == b"text"


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "431 Too Large", "500 No", "503 No"])
def test_an_error_provoked_by_one_is_not_shown_to_others(status):
    """CPDoS: a header that the target chokes on, and which is in no key."""

    def say(asked):
        return reply(status=status) if "x-long" in asked.headers else reply(FRESH)

    with Scene(say) as scene:
        assert scene.get("/", "x-long: 1").status == int(status[:3])
        assert scene.get("/").status == 200


def test_refusals_of_the_gateway_are_not_stored():
    with Scene(reply(FRESH)) as scene:
        assert scene.get("/", "cache-control: only-if-cached").status == 504
        assert scene.get("/", *[f"x-{n}: 1" for n in range(200)]).status == 431
        assert scene.get("/").status == 200


@pytest.mark.parametrize("vary", ["*", "foo, *", "x-forwarded-for", "forwarded", "via", "x-real-ip", "connection"])
def test_what_varies_on_the_caller_is_nobody_elses(vary):
    count = iter(range(99))
    with Scene(lambda asked: reply(FRESH, f"vary: {vary}", body=b"%d" % next(count))) as scene:
        assert scene.get("/").body != scene.get("/").body


def test_a_repeated_field_is_not_taken_for_its_last_line():
    with Scene(lambda asked: reply(FRESH, "vary: foo", body=repr(asked.headers.get("foo")).encode())) as scene:
        plain = scene.get("/", "foo: 1")
        scene.get("/", "foo: 1")
        assert "hit" not in scene.get("/", "foo: 2", "foo: 1").headers["cache-status"]
        assert scene.get("/", "foo: 1").body == plain.body


def test_a_target_cannot_pass_for_the_cache():
    with Scene(reply(FRESH, "age: 5", "cache-status: other; hit")) as scene:
        scene.get("/")
        hit = scene.get("/")
        assert hit.headers["age"] == "5"
        assert scene.raw("GET / HTTP/1.1\nhost: test\n\n").headers["cache-status"].startswith("gatewayd; hit")


# -- deception ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/account/x.css", "/account/x.js?.png", "/account/%2e%2e/account/x.css", "/account.css"]
)
@pytest.mark.parametrize(
    "headers", [(), ("cache-control: private",), ("cache-control: no-store",), ("pragma: no-cache",)]
)
def test_a_path_that_looks_static_shows_no_account(path, headers):
    with Scene(
        lambda asked: reply(*headers, "content-type: text/css", body=asked.headers.get("cookie", "").encode())
    ) as scene:
        assert scene.get(path, "cookie: session=victim").body == b"session=victim"
        assert scene.get(path, "cookie: session=thief").body == b"session=thief"
        assert scene.get(path).body == b""


def test_cookies_that_a_reply_sets_are_not_handed_round():
    count = iter(range(99))
    with Scene(lambda asked: reply(FRESH, f"set-cookie: session={next(count)}")) as scene:
        assert scene.get("/").headers["set-cookie"] != scene.get("/").headers["set-cookie"]


def test_private_fields_stay_with_the_first():
    with Scene(
        reply('cache-control: max-age=60, private="X-User", no-cache="x-token"', "x-user: me", "x-token: t")
    ) as scene:
        assert scene.get("/").headers["x-user"] == "me"
        again = scene.get("/")
        assert "hit" in again.headers["cache-status"]
        assert not {"x-user", "x-token"} & again.headers.keys()


# -- exhaustion ---------------------------------------------------------------------------------------------------


def test_however_many_urls_the_store_has_its_bounds():
    with Scene(reply(FRESH, body=b"x" * 5000), memory="64KiB", object="8KiB") as scene:
        for number in range(60):
            scene.get(f"/?{number}")
        store = scene.kept().store
        assert 0 < store.size <= 64 * 1024
        assert len(store) == sum(len(shelf) for shelf in store.shelves.values()) < 12


def test_credentials_do_not_keep_others_from_the_store():
    """Who shows some is answered alone, and that is not remembered against those who show none."""
    with Scene(reply(FRESH)) as scene:
        for _ in range(3):
            scene.get("/", "authorization: x")
        scene.get("/")
        assert "hit" in scene.get("/").headers["cache-status"]


def test_a_request_that_comes_by_again_does_not_wait_for_itself():
    with Scene(reply(FRESH)) as scene:
        own = f"127.0.0.1:{scene.edge.port}"
        document = scene.document()
        document["upstreams"]["up"]["targets"][0]["address"] = own
        scene.edge.apply(document)
        assert scene.get("/").status == 508
