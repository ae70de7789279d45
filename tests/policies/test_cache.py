"""The cache as callers and targets see it: a whole edge before an origin that counts."""

from __future__ import annotations

import pytest

from gatewayd.config.convert import convert_policy
from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import cache
from gatewayd.rfc.headers import http_date
from tests.cache.scenes import FRESH, Scene, reply
from tests.support.raw import Caller


def counted(*headers, status="200 OK"):
    """An origin whose replies say which they are."""
    count = iter(range(1, 1000))
    return lambda asked: reply(*headers, body=b"reply %d" % next(count), status=status)


def status_of(answer):
    return answer.headers["cache-status"]


# -- reuse --------------------------------------------------------------------------------------------------------


def test_a_fresh_reply_is_reused_and_says_so():
    clock = FakeClock()
    with Scene(counted(FRESH), clock) as scene:
        first = scene.get("/a?b=c")
        clock.advance(7)
        again = scene.get("/a?b=c")
        assert (first.body, again.body) == (b"reply 1", b"reply 1")
        assert status_of(first) == "gatewayd; fwd=uri-miss; fwd-status=200; stored"
        assert status_of(again) == "gatewayd; hit; ttl=53"
        assert (first.headers.get("age"), again.headers["age"]) == (None, "7")
        assert first.headers["date"] == again.headers["date"]
        assert first.headers["x-request-id"] != again.headers["x-request-id"]
        clock.advance(53)
        assert scene.get("/a?b=c").body == b"reply 2"


def test_requests_that_differ_get_different_replies():
    with Scene(counted(FRESH)) as scene:
        bodies = [scene.get(path).body for path in ("/a", "/a?", "/a?x", "/b", "/A")]
        assert len(set(bodies)) == 5
        with Caller(scene.edge.port) as caller:
            caller.send(b"GET /a HTTP/1.1\r\nhost: other\r\n\r\n")
            assert caller.answer().body == b"reply 6"


@pytest.mark.parametrize("headers", [(), ("cache-control: no-store",), ("cache-control: private, max-age=60",)])
def test_what_may_not_be_stored_is_not(headers):
    with Scene(counted(*headers)) as scene:
        assert [scene.get().body for _ in range(3)] == [b"reply 1", b"reply 2", b"reply 3"]
        assert len(scene.kept().store) == 0


def test_paths_and_extensions_mean_nothing():
    with Scene(counted("content-type: text/css")) as scene:
        assert scene.get("/account/x.css").body != scene.get("/account/x.css").body


def test_a_head_is_answered_from_what_a_get_left_and_leaves_nothing():
    with Scene(counted(FRESH)) as scene:
        assert status_of(scene.get("/", method="HEAD")) == "gatewayd; fwd=request"
        assert scene.origin.asked[-1].method == "HEAD"
        scene.get()
        head = scene.get("/", method="HEAD")
        assert (head.headers["content-length"], head.body) == ("7", b"")
        assert "hit" in status_of(head)
        assert scene.origin.count == 2


def test_a_body_or_an_upgrade_passes_by():
    with Scene(reply(FRESH)) as scene:
        scene.raw("GET / HTTP/1.1\nhost: test\ncontent-length: 2\n\nhi")
        scene.raw("GET / HTTP/1.1\nhost: test\ncontent-length: 2\n\nhi")
        scene.raw("GET / HTTP/1.1\nhost: test\nconnection: upgrade\nupgrade: websocket\n\n")
        assert scene.origin.count == 3
        assert len(scene.kept().store) == 0


def test_variants_stand_side_by_side():
    with Scene(
        lambda asked: reply(FRESH, "vary: Accept-Language", body=asked.headers["accept-language"].encode())
    ) as scene:
        for language in ("de", "en", "de", "en", "EN"):
            assert scene.get("/", f"accept-language: {language}").body == language.lower().encode()
        assert scene.origin.count == 2
        assert scene.get("/", "accept-language: de", "accept-language: en").body == b"en"
        assert scene.origin.count == 3


def test_ranges_are_cut_from_full_replies():
    with Scene(reply(FRESH, 'etag: "e"', body=b"0123456789")) as scene:
        assert status_of(scene.get("/", "range: bytes=0-1")) == "gatewayd; fwd=request"
        assert scene.origin.asked[-1].headers["range"] == "bytes=0-1"
        scene.get()
        part = scene.get("/", "range: bytes=2-4")
        assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        assert scene.get("/", "range: bytes=-3").body == b"789"
        assert scene.get("/", "range: bytes=0-1,3-4").status == 200
        beyond = scene.get("/", "range: bytes=10-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */10")
        assert scene.get("/", "range: bytes=0-1", 'if-range: "other"').status == 200
        assert scene.get("/", "range: bytes=0-1", 'if-range: "e"').status == 206
        assert scene.origin.count == 2


def test_conditions_of_callers_are_answered_here():
    with Scene(reply(FRESH, 'etag: "e"', "content-type: text/plain")) as scene:
        first = scene.get("/", 'if-none-match: "e"')
        assert first.status == 304
        assert "if-none-match" not in scene.origin.asked[0].headers
        again = scene.get("/", 'if-none-match: W/"e", "f"')
        assert (again.status, again.headers["etag"], again.body) == (304, '"e"', b"")
        assert "content-type" not in again.headers
        assert scene.get("/", 'if-none-match: "f"').status == 200
        assert scene.origin.count == 1


def test_conditions_for_the_origin_go_there():
    with Scene(reply(FRESH, 'etag: "e"')) as scene:
        scene.get()
        scene.get("/", 'if-match: "f"')
        assert scene.origin.asked[-1].headers["if-match"] == '"f"'


# -- what callers say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "fetched"),
    [
        ("no-cache", True),
        ("no-store", False),
        ("max-age=0", True),
        ("max-age=10", False),
        ("max-age=3", True),
        ("min-fresh=54", False),
        ("min-fresh=56", True),
        ("max-age=nonsense", False),
        ("unknown", False),
    ],
)
def test_callers_say_what_will_do(says, fetched):
    clock = FakeClock()
    with Scene(counted(FRESH), clock) as scene:
        scene.get()
        clock.advance(5)
        assert scene.get("/", f"cache-control: {says}").body == (b"reply 2" if fetched else b"reply 1")


def test_callers_may_take_stale_replies_or_nothing_else():
    clock = FakeClock()
    with Scene(counted(FRESH), clock) as scene:
        nothing = scene.get("/", "cache-control: only-if-cached")
        assert (nothing.status, nothing.code) == (504, "not_cached")
        scene.get()
        clock.advance(65)
        assert scene.get("/", "cache-control: max-stale=10").body == b"reply 1"
        assert scene.get("/", "cache-control: max-stale=4, only-if-cached").status == 504
        assert scene.origin.count == 1


def test_callers_may_be_ignored():
    with Scene(counted(FRESH), heed_callers=False) as scene:
        scene.get()
        assert scene.get("/", "cache-control: no-cache", "pragma: no-cache").body == b"reply 1"


def test_what_a_request_forbids_to_store_is_not_stored():
    with Scene(counted(FRESH)) as scene:
        scene.get("/", "cache-control: no-store")
        assert scene.get().body == b"reply 2"


# -- invalidation -------------------------------------------------------------------------------------------------


def changing(asked):
    if asked.method == "GET":
        return reply(FRESH, body=b"x")
    return reply("location: /b?c", "content-location: http://test/d", status=asked.headers.get("x-want", "200 OK"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
def test_unsafe_methods_invalidate(method):
    with Scene(changing) as scene:
        for path in ("/a", "/b?c", "/d", "/e"):
            scene.get(path)
        scene.get("/a", method=method)
        for path in ("/a", "/b?c", "/d", "/e"):
            scene.get(path)
        assert [asked.target for asked in scene.origin.asked[5:]] == ["/a", "/b?c", "/d"]


def test_safe_methods_and_errors_invalidate_nothing():
    with Scene(changing) as scene:
        scene.get("/a")
        scene.get("/a", method="OPTIONS")
        scene.get("/a", "x-want: 500 No", method="POST")
        assert "hit" in status_of(scene.get("/a"))


# -- credentials, cookies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "shared"),
    [("max-age=60", False), ("public, max-age=60", True), ("s-maxage=60", True), ("max-age=60, must-revalidate", True)],
)
def test_replies_to_credentials_are_shared_only_if_they_allow_it(control, shared):
    with Scene(counted(f"cache-control: {control}")) as scene:
        scene.get("/", "authorization: Bearer a")
        assert (scene.get("/", "authorization: Bearer b").body == b"reply 1") is shared
        assert (scene.get().body == b"reply 1") is shared
        public = scene.get()
        assert "hit" in status_of(public)
        assert (scene.get("/", "authorization: Bearer b").body == public.body) is shared


@pytest.mark.parametrize(("option", "stored", "sent"), [("refuse", 0, "a=b"), ("strip", 1, None), ("store", 1, "a=b")])
def test_cookies(option, stored, sent):
    with Scene(reply(FRESH, "set-cookie: a=b"), set_cookie=option) as scene:
        assert scene.get().headers["set-cookie"] == "a=b"
        assert len(scene.kept().store) == stored
        assert scene.get().headers.get("set-cookie") == sent


# -- options ------------------------------------------------------------------------------------------------------


def test_queries_can_be_brought_into_one_form():
    with Scene(counted(FRESH), query={"sort": True, "drop": ["utm_source"]}) as scene:
        scene.get("/?b=2&a=1&utm_source=x")
        assert scene.get("/?a=1&b=2").body == b"reply 1"
        assert scene.get("/?a=1").body == b"reply 2"
        assert scene.origin.asked[0].target == "/?b=2&a=1&utm_source=x"


def test_lifetimes_of_replies_that_say_nothing():
    clock = FakeClock()
    modified = f"last-modified: {http_date(clock.wall() - 1000).decode()}"
    with Scene(counted(modified), clock, heuristic=0.1) as scene:
        scene.get()
        clock.advance(99)
        assert scene.get().body == b"reply 1"
        clock.advance(2)
        assert scene.get().body == b"reply 2"


def test_negative_replies():
    with Scene(counted(status="404 Not Found"), negative_ttl="10s") as scene:
        assert scene.get().body == scene.get().body
    with Scene(counted(status="404 Not Found")) as scene:
        assert scene.get().body != scene.get().body


def test_targeted_fields_count_before_cache_control_and_stay_here():
    fields = ("cache-control: no-store", "surrogate-control: max-age=60", "cache-tag: a", "surrogate-key: b c")
    with Scene(counted(*fields)) as scene:
        assert 'gatewayd="Surrogate/1.0"' in (scene.get(), scene.origin.asked[0].headers["surrogate-capability"])[1]
        answer = scene.get()
        assert answer.body == b"reply 1"
        assert not {"surrogate-control", "cache-tag", "surrogate-key"} & answer.headers.keys()
    with Scene(counted(*fields), targeted=[], hide_tags=False) as scene:
        assert scene.get().body != scene.get().body
        assert {"surrogate-control", "cache-tag", "surrogate-key"} <= scene.get().headers.keys()


def test_a_targeted_field_that_is_none_is_told_which_there_are():
    _, _, (fault,) = convert_policy({"cache": cache.Config}, "cache", {"targeted": ["Foo"]})
    assert fault.path == "policies.cache.targeted[0]"
    assert fault.allowed == '"CDN-Cache-Control", "Surrogate-Control"'


def test_an_observer_caches_nothing():
    with Scene(counted(FRESH), mode="observe") as scene:
        assert scene.get().body != scene.get().body


# -- purging, reloads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "left"),
    [
        (b'{"kind":"url","value":"http://test/a/1"}', ["/a/2", "/b"]),
        (b'{"kind":"url","value":"/a/2"}', ["/a/1", "/b"]),
        (b'{"kind":"prefix","value":"TEST/a/"}', ["/b"]),
        (b'{"kind":"tag","value":"/b"}', ["/a/1", "/a/2"]),
        (b'{"kind":"all"}', []),
    ],
)
def test_purging(order, left):
    with Scene(lambda asked: reply(FRESH, f"cache-tag: {asked.target}")) as scene:
        paths = ["/a/1", "/a/2", "/b"]
        for path in paths:
            scene.get(path)
        assert scene.edge.call(scene.edge.edge.tell, cache.PURGE, order) == b"[%d]" % (3 - len(left))
        assert [path for path in paths if "hit" in status_of(scene.get(path))] == left


def test_replies_outlive_a_reload():
    with Scene(counted(FRESH)) as scene:
        scene.get()
        scene.edge.apply({**scene.document(), "policies": {"cache": {"memory": "1MiB", "object": "1KiB"}}})
        assert scene.get().body == b"reply 1"
        assert scene.kept().store.limit == 1024 * 1024


def test_options_that_contradict():
    with pytest.raises(ConfigError):
        cache.build(cache.Config(memory=cache.Size(10), object=cache.Size(20)), BuildContext())


def test_other_workers_other_rows():
    kept = {}
    first = BuildContext("c", kept=kept, workers=8)
    cache.build(cache.Config(), first)
    stamps = kept["c", "cache"].stamps
    cache.build(cache.Config(), BuildContext("c", kept=kept, workers=8))
    assert kept["c", "cache"].stamps is stamps
    cache.build(cache.Config(), BuildContext("c", kept=kept, workers=16))
    assert kept["c", "cache"].stamps is not stamps


def test_it_says_what_it_does():
    hooks = cache.build(cache.Config(), BuildContext())
    assert hooks.explain == "64MiB per worker, replies up to 1MiB, shared by everyone, as they allow"
