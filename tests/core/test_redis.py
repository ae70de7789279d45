"""The shared Redis server: given up in time, tried again in time, and silent about secrets."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import pytest

from gatewayd.config.model import Redis, decode
from gatewayd.config.units import Duration
from gatewayd.core import redis
from gatewayd.core.clock import FakeClock
from gatewayd.core.policy import BuildContext
from gatewayd.core.redis import Call, RedisServer, Script, Unreachable
from gatewayd.errors import ConfigError
from tests.support.redis_server import RedisProcess, needs_redis

ECHO = Script("return {KEYS[1], ARGV[1]}")
PING = Call(None, (), ("PING",))


def ask(server: RedisServer, *calls: Call):
    """The answers, from a loop of its own."""

    async def run():
        try:
            return await server.run(calls)
        finally:
            server._closed = False
            for client in redis._clients.pop(asyncio.get_running_loop(), {}).values():
                await client.aclose()

    return asyncio.run(run())


def refused(server: RedisServer, *calls: Call) -> str:
    """Why there is no answer."""
    with pytest.raises(Unreachable) as caught:
        ask(server, *calls)
    return caught.value.reason


def server_at(url: str, clock: FakeClock | None = None, **options) -> RedisServer:
    return RedisServer(Redis(url=url, **options), (clock or FakeClock()).monotonic)


def closed_port() -> int:
    """Nothing listens there."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


@needs_redis
def test_scripts_run_whether_redis_knows_them_or_not():
    with RedisProcess() as process:
        server = server_at(process.url, prefix="p:")
        calls = (Call(ECHO, (b"key",), (7,)), PING)
        assert ask(server, *calls) == [[b"p:key", b"7"], True]
        assert ask(server, *calls) == [[b"p:key", b"7"], True]
        process.command("SCRIPT", "FLUSH")
        assert ask(server, *calls) == [[b"p:key", b"7"], True]
        assert not server.failures


@needs_redis
def test_after_a_failure_nobody_asks_until_it_is_time(caplog):
    clock = FakeClock()
    with RedisProcess() as process:
        server = server_at(process.url, clock)
        ask(server, PING)
        process.kill()
        assert refused(server, PING) == "connect_failed"
        assert not server.up
        assert refused(server, PING) == "resting"
        pauses = []
        for _ in range(7):
            pauses.append(round(server._rests_until - clock.now, 6))
            clock.now = server._rests_until
            assert refused(server, PING) == "connect_failed"
        assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
        process.start()
        assert refused(server, PING) == "resting"
        clock.advance(2)
        assert ask(server, PING) == [True]
    assert server.up
    assert server.outages == 1
    texts = [record.getMessage() for record in caplog.records]
    assert [text.partition(" at ")[0] for text in texts] == ["Redis", "Redis"]  # one each way
    assert "does not answer (connect_failed)" in texts[0]


@needs_redis
def test_one_that_is_stopped_is_given_up_after_the_timeout_and_its_late_answers_reach_nobody():
    clock = FakeClock()
    with RedisProcess() as process:
        server = server_at(process.url, clock)

        async def run():
            await server.run([PING])
            process.freeze()
            with pytest.raises(Unreachable, match="timeout"):
                await server.run([Call(ECHO, (b"old",), (1,))])
            process.thaw()
            clock.advance(1)
            found = await server.run([Call(ECHO, (b"new",), (2,))])
            await redis.close()
            return found

        assert asyncio.run(run()) == [[b"gatewayd:new", b"2"]]
        with pytest.raises(Unreachable, match="closed"):
            asyncio.run(server.run([PING]))


@needs_redis
@pytest.mark.parametrize("secret", ["wrong-secret", ""])
def test_a_wrong_password_is_said_without_it(caplog, secret):
    caplog.set_level(logging.DEBUG)
    with RedisProcess(password="right-secret") as process:
        server = server_at(process.url.replace("right-secret", secret))
        assert refused(server, PING) in ("refused", "NOAUTH")
        assert "secret" not in caplog.text + repr(server)


def test_tls_where_none_is_fails_and_says_no_more(caplog):
    server = server_at(f"rediss://me:my-secret@127.0.0.1:{closed_port()}")
    assert refused(server, PING) == "connect_failed"
    assert "secret" not in caplog.text + repr(server)


@needs_redis
def test_errors_of_redis_are_failures_told_by_their_first_word():
    with RedisProcess() as process:
        process.command("SET", "gatewayd:list", "my-secret")
        broken = Script("return redis.call('LPUSH', KEYS[1], 'x')")
        server = server_at(process.url)
        assert refused(server, Call(broken, (b"list",), ())) in ("WRONGTYPE", "ResponseError")


def context(**options) -> BuildContext:
    return BuildContext("shared", document=decode({"redis": options}))


def test_without_a_url_or_the_library_a_policy_is_told(monkeypatch):
    with pytest.raises(ConfigError) as caught:
        RedisServer.of(context(), "limits")
    assert caught.value.faults[0].hint == "set redis.url"
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError) as caught:
        RedisServer.of(context(url="redis://h"), "limits")
    assert caught.value.faults[0].hint == "pip install 'gatewayd[redis]'"


def test_there_is_one_server_for_a_configuration():
    first = context(url="redis://h")
    found = RedisServer.of(first, "limits")
    assert RedisServer.of(first, "limits") is found
    first.document = decode({"redis": {"url": "unix:///run/r.sock", "timeout": "1s"}})
    assert RedisServer.of(first, "limits") is not found
    assert RedisServer.of(first, "limits").config.timeout == Duration(1)
    assert "/run/r.sock" in repr(RedisServer.of(first, "limits"))
