"""The channel: calls, replies, refusals and sockets between two ends."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from gatewayd.errors import ConfigError, Fault
from gatewayd.server.channel import (
    Apply,
    Channel,
    ChannelClosed,
    ChannelError,
    Listen,
    Ready,
    ReopenLogs,
    Status,
    Tell,
)

FAULTS = [Fault("routes.a", "is wrong", "1", "2", "try 2", "conf.toml", 7)]


async def deaf(message, socks):
    raise AssertionError(f"nobody calls this end, yet here is {message}")


def between(serve, talk):
    """Run `talk(channel)` at one end while `serve` answers at the other; the result of `talk`."""

    async def run():
        ours, theirs = socket.socketpair()
        near, far = Channel(ours, deaf), Channel(theirs, serve)
        try:
            async with asyncio.timeout(20):
                return await talk(near)
        finally:
            near.close()
            far.close()

    return asyncio.run(run())


def test_a_call_is_answered():
    async def serve(message, socks):
        assert message == Status()
        return b"fine"

    assert between(serve, lambda channel: channel.call(Status())) == b"fine"


def test_a_refusal_brings_its_faults():
    async def serve(message, socks):
        raise ConfigError(FAULTS)

    with pytest.raises(ConfigError) as refused:
        between(serve, lambda channel: channel.call(Status()))
    assert list(refused.value.faults) == FAULTS


def test_what_breaks_at_the_other_end_is_named_and_logged_there(caplog):
    async def serve(message, socks):
        raise ZeroDivisionError("by zero")

    with pytest.raises(ChannelError, match="ZeroDivisionError: by zero"):
        between(serve, lambda channel: channel.call(Status()))
    assert caplog.records[0].exc_info is not None


def test_calls_are_served_in_order_and_answered_as_they_end():
    first = asyncio.Event()
    served = []

    async def serve(message, socks):
        served.append(type(message))
        if isinstance(message, Status):
            await first.wait()
        else:
            first.set()
        return type(message).__name__.encode()

    async def talk(channel):
        return await asyncio.gather(channel.call(Status()), channel.call(Ready()))

    assert between(serve, talk) == [b"Status", b"Ready"]
    assert served == [Status, Ready]


def test_a_document_of_many_megabytes_passes_and_so_does_a_reply():
    document = bytes(range(256)) * 40_000

    async def serve(message, socks):
        assert message == Apply(7, document, {"a": 1}, b"secret")
        return document[::-1]

    reply = between(serve, lambda channel: channel.call(Apply(7, document, {"a": 1}, b"secret")))
    assert reply == document[::-1]


@pytest.mark.parametrize("count", [1, 300])
def test_sockets_arrive_in_order_and_are_the_same_sockets(count):
    async def serve(message, socks):
        assert message == Listen([("http", count)])
        ports = [sock.getsockname()[1] for sock in socks]
        for sock in socks:
            sock.close()
        return msgspec.json.encode(ports)

    async def talk(channel):
        socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        ports = [sock.getsockname()[1] for sock in socks]
        call = asyncio.get_running_loop().create_future()

        async def say():
            call.set_result(await channel.call(Listen([("http", count)]), socks))

        async with asyncio.TaskGroup() as group:
            group.create_task(say())
            await asyncio.sleep(0)
            for sock in socks:  # the caller's own are its to close, even before the frame is out
                sock.close()
        return ports, msgspec.json.decode(call.result())

    sent, arrived = between(serve, talk)
    assert sent == arrived


def test_frames_may_come_in_any_pieces():
    async def run():
        ours, theirs = socket.socketpair()
        wire, far_wire = socket.socketpair()
        answered = []

        async def serve(message, socks):
            answered.append(message)
            return b"yes"

        near, far = Channel(ours, deaf), Channel(far_wire, serve)
        loop = asyncio.get_running_loop()
        theirs.setblocking(False)
        wire.setblocking(False)

        async def forward(source, target):
            while data := await loop.sock_recv(source, 1):
                await loop.sock_sendall(target, data)

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            both = [group.create_task(forward(theirs, wire)), group.create_task(forward(wire, theirs))]
            replies = [await near.call(Listen([("a", 0)])), await near.call(ReopenLogs())]
            for task in both:
                task.cancel()
        near.close()
        far.close()
        theirs.close()
        wire.close()
        return replies, answered

    replies, answered = asyncio.run(run())
    assert replies == [b"yes", b"yes"]
    assert answered == [Listen([("a", 0)]), ReopenLogs()]


def test_when_the_other_end_leaves_everybody_hears_of_it():
    async def run():
        ours, theirs = socket.socketpair()
        left = asyncio.Event()
        channel = Channel(ours, deaf, left.set)
        asyncio.get_running_loop().call_soon(theirs.close)
        async with asyncio.timeout(20):
            with pytest.raises(ChannelClosed):
                await channel.call(Status())
            await left.wait()
            with pytest.raises(ChannelClosed):
                await channel.call(Status())

    asyncio.run(run())


def test_what_is_told_does_not_show_its_body():
    assert "hunter2" not in repr(Tell("topic", b"hunter2"))


def test_hanging_up_calls_nobody():
    async def run():
        ours, theirs = socket.socketpair()
        channel = Channel(ours, deaf, lambda: pytest.fail("we hung up ourselves"))
        channel.close()
        channel.close()
        assert theirs.recv(1) == b""
        theirs.close()

    asyncio.run(run())


def test_a_reply_nobody_waits_for_any_more_is_dropped():
    release = asyncio.Event()

    async def serve(message, socks):
        if isinstance(message, Status):
            await release.wait()
            return b"late"
        release.set()
        return b"in time"

    async def talk(channel):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.call(Status()), 0.01)
        return [await channel.call(Ready()), await channel.call(Ready())]

    assert between(serve, talk) == [b"in time", b"in time"]


def test_an_apply_does_not_show_the_document():
    assert "hunter2" not in repr(Apply(1, b"hunter2", {}, b"hunter2"))
