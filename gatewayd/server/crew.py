"""The crew: all workers, which of them accepts on which sockets, and which document they serve."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Any

import msgspec

from gatewayd.core.tasks import spawn
from gatewayd.errors import ConfigError, Fault
from gatewayd.observe import metrics
from gatewayd.server import sockets
from gatewayd.server.channel import AnyMessage, Apply, ChannelError, Drain, Listen, ReopenLogs, Status, Tell
from gatewayd.server.process import START_TIMEOUT, Child, Kept, StartError, start

_log = logging.getLogger(__name__)
_STATUS_TIMEOUT = 2.0
_CALM_WITHIN = 10.0
"""Seconds that workers get to come back before something new is asked of the crew."""
_KILL_AFTER = 2.0
"""Seconds a worker gets beyond the drain deadline to leave by itself."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What workers are told to serve: one generation of the configuration."""

    generation: int
    packed: bytes
    slots: dict[str, int]
    secret: bytes

    def __repr__(self) -> str:
        return f"Serving(generation={self.generation})"  # a document holds secrets, too


class Member(Kept):
    """One worker of the crew. `generation` is what it said it applied; 0: nothing yet."""

    index: int
    generation: int = 0


class Crew:
    """The workers. `listening` tells each listener's sockets, `memory` the descriptors of what workers share."""

    def __init__(
        self,
        command: Sequence[str],
        memory: Mapping[str, int],
        environ: Mapping[str, str],
        listening: Callable[[], Mapping[str, Sequence[socket]]],
    ) -> None:
        self.serving: Serving | None = None
        self.shared = False
        """Whether another daemon holds the sockets too; told to the workers by `deal`."""
        self.parts: set[int] = set()
        """The parts of shared memory that workers have ever written to."""
        self._command = command
        self._memory = memory
        self._environ = environ
        self._listening = listening
        self._members: dict[int, Member] = {}
        self._leaving: dict[int, Member] = {}
        self._dealing = asyncio.Lock()
        self._change = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether every worker serves the current generation."""
        generation = self.serving.generation if self.serving else -1
        return all(each.state == "serving" and each.generation == generation for each in self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    async def hire(self, count: int) -> None:
        """Start workers until there are `count`; they accept nothing before the next `deal`.

        Raises `ConfigError` or `StartError` if one does not get ready; then the new ones are gone again.
        """
        new = [self._member(index) for index in self._free(count - len(self._members))]
        results = await asyncio.gather(*(each.start() for each in new), return_exceptions=True)
        errors = [error for error in results if error is not None]
        if errors:
            await _end(new)
            raise next((error for error in errors if isinstance(error, ConfigError)), errors[0])
        self._members |= {each.index: each for each in new}
        self.parts.update(self._members)

    async def dismiss(self, count: int, drain: Drain) -> None:
        """Let workers go until there are `count`; their sockets are dealt to the others first."""
        surplus = sorted(self._members)[count:]
        going = {index: self._members.pop(index) for index in surplus}
        await self.deal()
        for member in going.values():
            self._send_off(member, drain)

    async def apply(self, serving: Serving) -> None:
        """Have every worker serve this. Raises `ConfigError` if one refuses; then all serve what they did."""
        await self._wait(lambda: all(each.state == "serving" for each in self._members.values()), _CALM_WITHIN)
        before, self.serving = self.serving, serving
        try:
            await self._apply_everywhere()
            if not await self._wait(self._anybody_serves, START_TIMEOUT):
                raise ConfigError([Fault("reload", "no worker got ready with it")])
        except ConfigError:
            self.serving = before
            if before is not None:
                await self._apply_everywhere()
            raise

    async def deal(self) -> None:
        """Tell every worker which sockets are its own now."""
        async with self._dealing:
            living = [each for each in self._members.values() if each.state == "serving"]
            listening = {name: list(socks) for name, socks in self._listening().items()}
            shares = {
                name: sockets.deal(len(socks), sorted(self._members), [each.index for each in living])
                for name, socks in listening.items()
            }
            await self._tell(
                living,
                lambda index: {
                    name: [socks[number] for number in shares[name][index]] for name, socks in listening.items()
                },
            )

    async def share(self, shared: bool) -> None:
        """Tell every worker whether another daemon holds the sockets, too."""
        if self.shared != shared:
            self.shared = shared
            await self.deal()

    def drain(self, drain: Drain) -> None:
        """Send every worker home."""
        for member in list(self._members.values()):
            self._send_off(member, drain)
        self._members.clear()

    async def gone(self) -> None:
        """Wait for the end of all that were sent off."""
        children = [each.child for each in self._leaving.values() if each.child]
        await asyncio.gather(*(asyncio.shield(child.exited) for child in children))

    async def kill(self) -> None:
        """End everything now, and see it gone."""
        members = [*self._members.values(), *self._leaving.values()]
        self._members.clear()
        await _end(members)

    async def reopen_logs(self) -> None:
        """Have every worker open its logs anew, those that drain too."""
        await self._everybody(ReopenLogs())

    async def tell(self, message: Tell) -> list[Any]:
        """Tell every worker, those that drain too; what all of them say. Raises `ChannelError` if one cannot be told.

        One that is only being started has nothing yet that it could be told about.
        """
        members = [*self._members.values(), *self._leaving.values()]
        told = [each.child.channel for each in members if each.child and each.state in ("serving", "draining")]
        async with asyncio.timeout(_STATUS_TIMEOUT):
            answers = await asyncio.gather(*(channel.call(message) for channel in told))
        return [said for answer in answers for said in msgspec.json.decode(answer)]

    async def status(self) -> list[dict[str, Any]]:
        """One entry per worker, draining ones included; `edge` is what the data path says of itself."""
        members = [*self._members.values(), *self._leaving.values()]
        edges = await asyncio.gather(*(_edge_of(each) for each in members))
        return [_entry(member, edge) for member, edge in zip(members, edges, strict=True)]

    def _free(self, count: int) -> list[int]:
        """The lowest indices nobody uses: two workers must never write to the same rows of shared memory."""
        used = {*self._members, *self._leaving}
        free = [index for index in range(metrics.MAX_WORKERS) if index not in used]
        if len(free) < count:
            raise StartError(f"{len(self._leaving)} workers are still draining")
        return free[: max(count, 0)]

    def _member(self, index: int) -> Member:
        command = [*self._command, "--index", str(index)]
        for name, descriptor in self._memory.items():
            command += [f"--{name}", str(descriptor)]

        def launch() -> Child:
            return start(command, _nothing_to_say, [*self._memory.values()], self._environ)

        async def bring_up(child: Child) -> None:
            member.generation = await self._bring_up(child)

        member = Member(f"worker {index}", launch, bring_up, lambda: self._member_changed(member))
        member.index = index
        return member

    async def _bring_up(self, child: Child) -> int:
        """Apply what is current, again if it changed meanwhile. Returns its generation."""
        done: Serving | None = None
        while self.serving is not done:
            done = self.serving
            if done is not None:
                await child.channel.call(_apply_message(done))
        return done.generation if done else 0

    def _member_changed(self, member: Member) -> None:
        self._change.set()
        if member.state == "gone":
            self._leaving.pop(member.index, None)
        if self._members.get(member.index) is member and member.state in ("serving", "waiting"):
            spawn(self.deal(), "deal")

    async def _wait(self, condition: Callable[[], bool], within: float) -> bool:
        """Whether `condition`, which depends on workers' states, holds in so many seconds."""
        try:
            async with asyncio.timeout(within):
                while not condition():
                    self._change.clear()
                    await self._change.wait()
        except TimeoutError:
            return False
        return True

    def _anybody_serves(self) -> bool:
        """A crew whose members all keep dying has not said yes to anything."""
        return not self._members or any(each.state == "serving" for each in self._members.values())

    async def _apply_everywhere(self) -> None:
        serving = self.serving
        assert serving is not None
        message = _apply_message(serving)
        members = [each for each in self._members.values() if each.state == "serving" and each.child]
        results = await asyncio.gather(*(_call(each, message) for each in members), return_exceptions=True)
        faults: list[Fault] = []
        for member, result in zip(members, results, strict=True):
            if result is None:
                member.generation = serving.generation
            elif isinstance(result, ConfigError):
                faults += [fault for fault in result.faults if fault not in faults]
            else:  # one that dies of it counts: else all would, one after the other
                faults.append(Fault("reload", f"{member.name} failed to apply it: {str(result) or 'no answer'}"))
        if faults:
            raise ConfigError(faults)

    async def _tell(self, members: Iterable[Member], dealt: Callable[[int], Mapping[str, Sequence[socket]]]) -> None:
        calls = []
        for member in members:
            share = dealt(member.index)
            message = Listen([(name, len(socks)) for name, socks in share.items()], self.shared)
            calls.append(_call(member, message, [sock for socks in share.values() for sock in socks]))
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                _log.warning("a worker did not take its sockets: %s", result)

    def _send_off(self, member: Member, drain: Drain) -> None:
        child = member.child
        member.let_go()
        if child is None or child.exited.done():
            return
        self._leaving[member.index] = member
        spawn(self._see_off(member, child, drain), f"see off {member.name}")

    async def _see_off(self, member: Member, child: Child, drain: Drain) -> None:
        try:
            async with asyncio.timeout(drain.timeout + _KILL_AFTER):
                await child.channel.call(drain)
                await asyncio.shield(child.exited)
        except (ChannelError, TimeoutError) as error:
            _log.warning("%s is ended by force: %s", member.name, str(error) or "it did not leave in time")
        finally:
            await child.end(within=0.0)

    async def _everybody(self, message: AnyMessage) -> None:
        members = [*self._members.values(), *self._leaving.values()]
        results = await asyncio.gather(*(_call(each, message) for each in members), return_exceptions=True)
        for member, result in zip(members, results, strict=True):
            if isinstance(result, BaseException):
                _log.warning("%s: %s failed: %s", member.name, type(message).__name__, result)


async def _end(members: Sequence[Member]) -> None:
    for each in members:
        each.kill()
    await asyncio.gather(*(asyncio.shield(each.child.exited) for each in members if each.child))


async def _call(member: Member, message: AnyMessage, socks: Sequence[socket] = ()) -> None:
    if member.child is not None:
        async with asyncio.timeout(START_TIMEOUT):
            await member.child.channel.call(message, socks)


def _apply_message(serving: Serving) -> Apply:
    return Apply(serving.generation, serving.packed, serving.slots, serving.secret)


async def _nothing_to_say(message: AnyMessage, _: list[socket]) -> bytes | None:
    raise ChannelError(f"a worker does not ask for {type(message).__name__}")


async def _edge_of(member: Member) -> dict[str, Any] | None:
    if member.child is None or member.state not in ("serving", "draining"):
        return None
    try:
        async with asyncio.timeout(_STATUS_TIMEOUT):
            found: dict[str, Any] = msgspec.json.decode(await member.child.channel.call(Status()))
    except (ChannelError, TimeoutError):
        return None
    return found


def _entry(member: Member, edge: dict[str, Any] | None) -> dict[str, Any]:
    child = member.child
    return {
        "index": member.index,
        "pid": child.pid if child else 0,
        "state": member.state,
        "generation": member.generation,
        "restarts": member.restarts,
        "uptime_seconds": round(time.monotonic() - child.started, 1) if child else 0.0,
        "edge": edge,
    }
