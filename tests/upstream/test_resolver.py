"""Names: answers, failures, pauses."""

import asyncio
import logging
import socket
from random import Random

from gatewayd.core.tasks import spawn
from gatewayd.upstream.resolver import Resolver, in_order, resolve_name

from .build import Pauses


class Names:
    """Answers in turn; the last one for ever."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        """The next answer."""
        assert (host, port) == ("api.internal", 80)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


FAILURE = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def resolved(*answers, interval: float = 30.0) -> tuple[list[tuple[str, ...]], list[float], Resolver]:
    """What was told, the pauses, and the resolver, after one question for each of the answers."""

    async def run() -> tuple[list[tuple[str, ...]], list[float], Resolver]:
        told: list[tuple[str, ...]] = []
        pauses, seconds = Pauses(), []
        resolver = Resolver(
            "api.internal",
            80,
            interval,
            told.append,
            resolve=Names(*answers),
            random=Random(1),
            sleep=pauses.sleep,
        )
        task = spawn(resolver.run(), "under test")
        for _ in answers:
            seconds += await pauses.step()
            assert resolver.asked.is_set()
        task.cancel()
        return told, seconds, resolver

    return asyncio.run(run())


def test_addresses_are_sorted_by_family_and_number_each_once():
    found = ["fd00::2", "10.0.0.10", "10.0.0.9", "fd00::1", "10.0.0.9"]
    assert in_order(found) == ("10.0.0.9", "10.0.0.10", "fd00::1", "fd00::2")


def test_only_changes_are_told():
    told, _, _ = resolved(["10.0.0.1", "10.0.0.2"], ["10.0.0.2", "10.0.0.1"], ["10.0.0.2"], ["10.0.0.2"])
    assert told == [("10.0.0.1", "10.0.0.2"), ("10.0.0.2",)]


def test_failures_and_empty_answers_keep_the_last_answer():
    told, _, resolver = resolved(["10.0.0.1"], FAILURE, [], UnicodeError("label too long"), ["10.0.0.1"])
    assert told == [("10.0.0.1",)]
    assert (resolver.ips, resolver.failures) == (("10.0.0.1",), 3)


def test_it_asks_again_around_the_interval():
    _, pauses, _ = resolved(*[["10.0.0.1"]] * 30)
    assert all(27 <= pause <= 33 for pause in pauses)
    assert len(set(pauses)) > 20


def test_after_a_failure_it_asks_sooner_and_then_less_and_less_often():
    _, pauses, _ = resolved(["10.0.0.1"], *[FAILURE] * 7, ["10.0.0.1"])
    for pause, expected in zip(pauses, [30, 1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert expected * 0.9 <= pause <= expected * 1.1


def test_it_never_asks_without_a_pause():
    _, pauses, _ = resolved(["10.0.0.1"], FAILURE, interval=0.001)
    assert all(pause >= 0.9 for pause in pauses)


def test_a_failure_is_logged_once_and_so_is_its_end(caplog):
    with caplog.at_level(logging.INFO):
        resolved(FAILURE, ["10.0.0.1"], FAILURE, FAILURE, ["10.0.0.1"])
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"api.internal cannot be resolved, it has no address yet: {FAILURE}"),
        ("INFO", "api.internal can be resolved again"),
        ("INFO", "api.internal is at 10.0.0.1"),
        ("WARNING", f"api.internal cannot be resolved, keeping 10.0.0.1: {FAILURE}"),
        ("INFO", "api.internal can be resolved again"),
    ]


def test_the_system_resolves():
    found = asyncio.run(resolve_name("localhost", 80))
    assert set(found) & {"127.0.0.1", "::1"}


def test_the_system_does_not_know_every_name():
    async def run() -> int:
        pauses = Pauses()
        resolver = Resolver("no-such-name.invalid", 80, 30.0, lambda _: None, random=Random(1), sleep=pauses.sleep)
        task = spawn(resolver.run(), "under test")
        await pauses.step()
        task.cancel()
        return resolver.failures

    assert asyncio.run(run()) == 1
