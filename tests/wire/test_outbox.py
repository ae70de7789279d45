"""Writes of one loop iteration: together, in order, and past what has closed meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gatewayd.wire.outbox import TOGETHER, Outbox


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False
        self.broken = False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("the handler is closed")
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing


def transports(count: int) -> list[Any]:
    return [cast(Any, Transport()) for _ in range(count)]


def test_nothing_is_written_before_the_iteration_ends_and_everything_then() -> None:
    one, other = transports(2)

    async def run() -> None:
        outbox = Outbox()
        outbox.write(one, b"a")
        outbox.write(other, b"b")
        outbox.write(one, b"c")
        assert one.written == other.written == []
        await asyncio.sleep(0)
        assert (one.written, other.written) == ([b"a", b"c"], [b"b"])
        outbox.write(one, b"d")
        await asyncio.sleep(0)
        assert one.written == [b"a", b"c", b"d"]

    asyncio.run(run())


def test_what_is_written_at_once_stays_behind_what_was_pending() -> None:
    (one,) = transports(1)

    async def run() -> None:
        outbox = Outbox()
        outbox.write(one, b"head")
        outbox.write_now(one, b"body")
        assert one.written == [b"head", b"body"]
        await asyncio.sleep(0)
        assert one.written == [b"head", b"body"]

    asyncio.run(run())


def test_a_connection_that_closed_meanwhile_costs_the_others_nothing() -> None:
    closing, broken, open_ = transports(3)
    closing.closing = broken.broken = True

    async def run() -> None:
        outbox = Outbox()
        for transport in (closing, broken, open_):
            outbox.write(transport, b"x")
        outbox.flush()
        outbox.write_now(closing, b"y")

    asyncio.run(run())
    assert (closing.written, broken.written, open_.written) == ([], [], [b"x"])


def test_what_is_written_during_a_flush_is_not_lost() -> None:
    (other,) = transports(1)

    async def run() -> None:
        outbox = Outbox()

        class Answering(Transport):
            def write(self, data: bytes) -> None:
                super().write(data)
                outbox.write(other, b"answer to " + data)

        one = cast(Any, Answering())
        outbox.write(one, b"x")
        outbox.flush()
        await asyncio.sleep(0)
        assert other.written == [b"answer to x"]

    asyncio.run(run())


def test_a_body_goes_out_with_the_head_it_follows() -> None:
    one, other = transports(2)

    async def run() -> None:
        outbox = Outbox()
        outbox.write(one, b"head")
        outbox.follow(one, b"body")
        assert one.written == []
        await asyncio.sleep(0)
        assert one.written == [b"headbody"]
        outbox.follow(one, b"more")
        assert one.written == [b"headbody", b"more"]
        outbox.write(one, b"head")
        outbox.write(other, b"head")
        outbox.follow(one, b"body")  # behind everything pending
        assert (one.written[2:], other.written) == ([b"head", b"body"], [b"head"])
        outbox.write(one, b"head")
        outbox.follow(one, b"x" * TOGETHER)
        assert one.written[4:] == [b"head", b"x" * TOGETHER]

    asyncio.run(run())
