"""The tier in Redis: what is found, what is forgotten, and that nothing goes wrong while Redis does."""

from __future__ import annotations

import asyncio

import pytest

from gatewayd.cache import redis_tier
from gatewayd.cache.redis_tier import OFFERS, REPLIES, RedisTier
from gatewayd.config.model import Redis
from gatewayd.config.units import Duration
from gatewayd.core import redis
from gatewayd.core.clock import FakeClock
from gatewayd.core.redis import RedisServer
from tests.cache.scenes import FRESH, Scene, reply
from tests.support.redis_server import RedisProcess, needs_redis

from .entries import entry, key

pytestmark = needs_redis


@pytest.fixture(scope="module")
def shared_redis():
    with RedisProcess() as process:
        yield process


@pytest.fixture
def process(shared_redis):
    shared_redis.command("FLUSHALL")
    return shared_redis


class Gateway:
    """A tier whose work is done when a test says so."""

    def __init__(self, process, run, clock=None, timeout=10.0):
        self.clock = clock or FakeClock()
        config = Redis(url=process.url, timeout=Duration(timeout), prefix="a*b:")
        self.server = RedisServer(config, self.clock.monotonic, "cache")
        self.tier = RedisTier(self.server, "cache", lambda work, name: work.close())
        self.run = run

    def find(self, of):
        return self.run(self.tier.find(of))

    def put(self, of, value=b"value", seconds=60.0, **more):
        self.tier.offer(entry(key=of, **more), value, seconds)
        self.work()

    def work(self):
        while self.tier._forgotten or self.tier._purges or self.tier._offers:
            assert self.run(self.tier.step())


@pytest.fixture
def two(process):
    """Two gateways in one loop."""
    with asyncio.Runner() as runner:
        yield Gateway(process, runner.run), Gateway(process, runner.run)
        runner.run(redis.close())


def test_what_one_stores_the_other_finds(two):
    one, other = two
    assert other.find(key()) == []
    one.put(key(), b"\0first")
    one.put(key(), b"second", vary=(b"accept",), selected=(b"x",))
    one.put(key(), b"third", vary=(b"accept",), selected=(b"y",))
    one.put(key(), b"newer", vary=(b"accept",), selected=(b"y",))
    assert sorted(other.find(key())) == [b"\0first", b"newer", b"second"]
    assert other.find(key(b"/other")) == []
    assert other.find(("s", *key()[1:])) == []  # of another route


def test_what_is_no_longer_good_is_not_found(two):
    one, other = two
    one.put(key(), b"short", seconds=0.001)
    one.put(key(), b"long", vary=(b"a",), selected=(b"b",))
    one.put(key(b"/never"), seconds=0)
    while other.find(key()) != [b"long"]:
        pass
    assert other.find(key(b"/never")) == []


def test_what_is_made_invalid_is_so_for_all_and_whatever_its_key(two):
    one, other = two
    one.put(key(query=b"x"))
    one.put(("s", *key(query=b"x")[1:]))
    one.put(key(query=b"y"))
    other.tier.forget(b"test", b"/", b"x")
    assert other.find(key(query=b"x")) == []  # before Redis has heard of it
    other.work()
    for each in two:
        assert each.find(key(query=b"x")) == []
        assert each.find(("s", *key(query=b"x")[1:])) == []
        assert each.find(key(query=b"y")) == [b"value"]


def test_a_fetch_that_was_on_its_way_then_is_not_stored(two):
    one, other = two
    assert one.find(key()) == []  # and now it asks the target
    other.tier.forget(b"test", b"/", None)
    other.work()
    one.put(key(), b"old")
    assert other.find(key()) == []
    other.put(key(), b"new")
    assert one.find(key()) == [b"new"]
    one.put(key(), b"newer")
    assert other.find(key()) == [b"newer"]


def test_what_waits_to_be_stored_is_dropped_when_it_is_made_invalid(two):
    one, _ = two
    one.tier.offer(entry(), b"old", 60)
    one.tier.forget(b"test", b"/", None)
    one.work()
    assert one.find(key()) == []


@pytest.mark.parametrize(
    ("kind", "value", "left"),
    [
        ("url", "https://test/a/1", [b"/a/2", b"/b"]),
        ("url", "/a/1", [b"/a/2", b"/b"]),
        ("url", "TEST/a/1", [b"/a/2", b"/b"]),
        ("prefix", "http://test/a/", [b"/b"]),
        ("prefix", "/a", [b"/b"]),
        ("tag", "blue", [b"/a/2"]),
        ("tag", "blu", [b"/a/1", b"/a/2", b"/b"]),
        ("all", "", []),
    ],
)
def test_purging(two, process, kind, value, left):
    one, other = two
    process.command("SET", "a*b:other", "x")
    process.command("HSET", "axb:cache:cache:y", "url", "test/a/1")
    tags = {b"/a/1": (b"red", b"blue"), b"/a/2": (), b"/b": (b"blue",)}
    for path in tags:
        one.put(key(path), tags=tags[path])
    other.tier.purge(kind, value)
    assert [other.find(key(path)) for path in tags] == [[]] * 3  # until it is through
    other.work()
    assert [path for path in tags if one.find(key(path))] == left
    assert process.command("GET", "a*b:other") == b"x"
    assert process.command("HGET", "axb:cache:cache:y", "url") == b"test/a/1"


def test_a_uri_holds_so_many_replies_and_a_search_finds_some(two, process):
    one, other = two
    for at in range(REPLIES + 20):
        one.put(key(), vary=(b"a",), selected=(b"%d" % at,))
    (name,) = process.command("KEYS", "*")
    assert process.command("HLEN", name) <= REPLIES + 3
    assert 0 < len(other.find(key())) <= redis_tier.VARIANTS


def test_only_so_much_waits_to_be_stored(two):
    one, _ = two
    for at in range(OFFERS + 10):
        one.tier.offer(entry(key=key(b"/%d" % at)), b"x", 60)
    assert len(one.tier._offers) == OFFERS
    one.work()
    assert one.tier._offered == 0
    big = b"x" * (redis_tier.OFFERED // 2 + 1)
    one.tier.offer(entry(), big, 60)
    one.tier.offer(entry(key=key(b"/2")), big, 60)
    assert len(one.tier._offers) == 1
    one.tier.purge("all", "")
    one.work()


def test_what_was_made_invalid_while_redis_was_out_is_so_when_it_is_back(process):
    with asyncio.Runner() as runner:
        clock = FakeClock()
        one, other = Gateway(process, runner.run, clock, 0.1), Gateway(process, runner.run)
        one.put(key())
        process.freeze()
        one.tier.forget(b"test", b"/", None)
        assert not runner.run(one.tier.step())
        assert one.find(key(b"/x")) == []  # at once: it is known to be out
        one.tier.offer(entry(key=key(b"/y")), b"x", 60)
        assert not one.tier._offers
        process.thaw()
        clock.advance(5)
        one.work()
        assert other.find(key()) == []
        runner.run(redis.close())
        one.tier.forget(b"test", b"/", None)
        assert not runner.run(one.tier.step())
        assert not one.tier._forgotten  # it is over


def test_too_much_to_forget_is_everything(two, monkeypatch):
    monkeypatch.setattr(redis_tier, "FORGOTTEN", 3)
    one, other = two
    one.put(key(b"/kept"))
    for at in range(4):
        one.tier.forget(b"test", b"/%d" % at, None)
    assert one.tier._purges == [("all", b"")]
    one.work()
    assert other.find(key(b"/kept")) == []


def test_searches_are_bounded(two):
    one, _ = two
    one.put(key())

    async def ask():
        return await asyncio.gather(*(one.tier.find(key()) for _ in range(redis_tier.SEARCHES + 5)))

    assert one.run(ask()).count([b"value"]) == redis_tier.SEARCHES


# -- whole gateways -------------------------------------------------------------------------------------------------


class Joined(Scene):
    """A gateway that shares what it stores."""

    def __init__(self, process):
        super().__init__(reply(FRESH), shared=True)
        self.process = process

    def document(self):
        return {**super().document(), "redis": {"url": self.process.url, "timeout": "10s"}}


def replies(process):
    """What is stored in Redis."""
    return [name for key in process.command("KEYS", "*") for name in process.command("HKEYS", key) if len(name) == 64]


def test_two_gateways_fetch_once(process):
    with Joined(process) as first, Joined(process) as second:
        assert first.get("/a").body == b"body"
        first.edge.until(lambda: replies(process))
        found = second.get("/a")
        assert found.body == b"body"
        assert "hit" in found.headers["cache-status"]
        assert second.origin.count == 0
        assert first.get("/a", method="POST").status == 200
        first.edge.until(lambda: not replies(process))
    with Joined(process) as third:
        third.get("/a")
        assert third.origin.count == 1


def test_a_purge_is_one_of_redis_too(process):
    with Joined(process) as scene:
        scene.get("/a")
        scene.edge.until(lambda: replies(process))
        assert scene.edge.call(scene.edge.edge.tell, "cache/purge", b'{"kind": "all"}') == b"[1]"
        scene.edge.until(lambda: not replies(process))


def test_with_redis_out_replies_are_fetched(process):
    scene = Joined(process)
    process.kill()
    try:
        with scene:
            assert scene.get("/a").body == b"body"
            assert scene.get("/a").body == b"body"
            assert scene.origin.count == 1
    finally:
        process.start()
