"""The supervisor: keeps the processes, obeys signals, reloads, upgrades, drains. No request passes through."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from socket import socket
from typing import Any, Literal

import msgspec

from gatewayd import __version__
from gatewayd.audit.actions import user
from gatewayd.config.model import Document
from gatewayd.core import arena
from gatewayd.core.tasks import spawn
from gatewayd.errors import ConfigError, Fault, GatewaydError
from gatewayd.observe import metrics
from gatewayd.server import pid_file, shared_memory, upgrade
from gatewayd.server.channel import AnyMessage, ChannelError, Observe, Ready, Reload, Status, Tell
from gatewayd.server.control_keeper import ControlKeeper
from gatewayd.server.crew import Crew
from gatewayd.server.generations import Generations, drain_of
from gatewayd.server.notify import Notifier
from gatewayd.server.prepare import Rules
from gatewayd.server.process import SIGNALS, StartError
from gatewayd.server.recording import Recording, configured, refused, reloaded
from gatewayd.server.sockets import SocketStore

_log = logging.getLogger(__name__)
_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""Variables that are between the service manager and the supervisor alone."""


@dataclass(frozen=True, slots=True)
class Commands:
    """The command lines of what the supervisor starts. `-P`: no module comes from the working directory."""

    worker: tuple[str, ...] = (sys.executable, "-P", "-m", "gatewayd.server.worker")
    control: tuple[str, ...] = (sys.executable, "-P", "-m", "gatewayd.server.control")
    successor: tuple[str, ...] = field(default_factory=lambda: tuple(upgrade.own_command()))


class Supervisor:
    """A running daemon. To be made in the loop that runs it."""

    def __init__(
        self,
        path: str,
        environ: MutableMapping[str, str],
        rules: Callable[[], Rules],
        commands: Commands | None = None,
    ) -> None:
        """Serve the configuration at `path`; `rules` say what is right beyond the document itself.

        What `environ` says of sockets to inherit is taken out of it.
        """
        self._inheritance = upgrade.inherit(environ)
        self._notifier = Notifier(environ)
        self._environ = dict(environ)
        self._commands = commands or Commands()
        self._slots = shared_memory.Slots(metrics.ROUTE_ROWS)
        self._store = SocketStore(self._inheritance.sockets)
        memory, contents = shared_memory.create(metrics.size_bytes()), shared_memory.create(arena.SIZE)
        self._generations = Generations(
            os.path.abspath(path), self._environ, rules, self._store, self._slots, arena.Arena(contents)
        )
        children = {key: text for key, text in environ.items() if key not in _PRIVATE}
        shared = {"memory": memory, "arena": contents}
        self._crew = Crew(self._commands.worker, shared, children, self._generations.listening)
        self._crew.shared = self._inheritance.channel is not None
        self._control = ControlKeeper(self._commands.control, memory, children, self._answer)
        self._state: Literal["starting", "serving", "draining"] = "starting"
        self._started = time.time()
        self._reloads = {"succeeded": 0, "failed": 0}
        self._last_reload: dict[str, Any] | None = None
        self._changing = asyncio.Lock()
        self._stop, self._now = asyncio.Event(), asyncio.Event()
        self._failure: GatewaydError | OSError | None = None
        self._succession: upgrade.Succession | None = None
        self._handed_over = self._reload_waits = False
        self._recording = Recording()
        self._stopped_by = ""

    async def run(self) -> None:
        """Serve until told to stop. Raises `ConfigError`, `StartError`, `OSError` if the daemon cannot start."""
        self._obey_signals()
        raise_file_limit()
        beginning = spawn(self._begin(), "begin")
        await self._stop.wait()
        beginning.cancel()
        if self._state == "serving":
            stopped = spawn(self._record_stop(), "record the stop")
            await self._leave()
            await stopped
        await self._end()
        if self._failure is not None:
            raise self._failure

    async def reload(self, actor: str = "") -> None:
        """Serve the next generation, for `actor`. Raises `ConfigError`; the old one then serves on."""
        async with self._changing:
            if self._state != "serving":
                raise ConfigError([Fault("reload", f"not while the daemon is {self._state}")])
            self._notifier.reloading()
            document, packed = self._generations.document, self._generations.packed
            faults: tuple[Fault, ...] = ()
            try:
                await self._generations.advance(self._crew)
                pid_file.move(document.gateway.pid_file, self._generations.document.gateway.pid_file)
            except ConfigError as error:
                faults = error.faults
                raise
            except Exception as error:
                _log.exception("reload broke")
                faults = (Fault("reload", f"broke: {type(error).__name__}: {error}"),)
                raise ConfigError(faults) from error
            finally:
                self._reloaded(faults)
                await self._record_reload(actor, document, packed, faults)
            # Later, because the control process may be the one that asked, and is still to get its answer.
            spawn(self._match_control(), "match control")

    async def upgrade(self) -> None:
        """Start a new daemon on the same sockets and leave once it serves; if it does not, serve on."""
        async with self._changing:
            if self._state != "serving":
                _log.error("no upgrade while the daemon is %s", self._state)
                return
            if os.getpid() == 1:
                _log.error("no upgrade: the container would end with process 1; replace the container instead")
                return
            _log.info("upgrading: starting %s", " ".join(self._commands.successor))
            self._notifier.status("upgrading")
            self._succession = upgrade.Succession(self._hand_over)
            await self._crew.share(True)
            try:
                await self._succession.attempt(self._commands.successor, self._store.items(), self._environ)
            except (ChannelError, OSError) as error:
                _log.error("upgrade failed, generation %d serves on: %s", self._generations.number, error)
                await self._crew.share(False)
                self._notifier.status(self._summary())

    def readiness(self) -> dict[str, Any]:
        """Whether every worker serves the current generation."""
        ready = self._state == "serving" and self._crew.ready
        return {"ready": ready, "state": self._state, "generation": self._generations.number}

    async def status(self) -> dict[str, Any]:
        """How the daemon is, as JSON would have it. Times are seconds since the epoch."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            **self.readiness(),
            "started": self._started,
            "uptime_seconds": round(time.time() - self._started, 1),
            **self._generations.status(),
            "workers": await self._crew.status(),
            "parts": sorted(self._crew.parts),
            "control": {"restarts": self._control.restarts},
            "reloads": self._reloads,
            "last_reload": self._last_reload,
            "actions": self._recording.status(),
        }

    def _obey_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: spawn(self._reload_on_signal(), "reload"))
        loop.add_signal_handler(signal.SIGUSR1, lambda: spawn(self._crew.reopen_logs(), "reopen logs"))
        loop.add_signal_handler(signal.SIGUSR2, lambda: spawn(self.upgrade(), "upgrade"))
        loop.add_signal_handler(signal.SIGTERM, self._terminated)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_signal_handler(signal.SIGQUIT, self._quit)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked if an older daemon started this one

    def _terminated(self) -> None:
        self._stopped_by = self._stopped_by or "signal SIGTERM"
        self._stop.set()

    def _interrupted(self) -> None:
        """Ctrl-C drains; the second does not wait for that."""
        if self._stop.is_set():
            self._now.set()
        self._stopped_by = self._stopped_by or "signal SIGINT"
        self._stop.set()

    def _quit(self) -> None:
        self._stopped_by = self._stopped_by or "signal SIGQUIT"
        self._now.set()
        self._stop.set()

    async def _begin(self) -> None:
        try:
            await self._generations.begin(self._crew)
            if await self._inheritance.take_over():
                _log.info("took over from the daemon before")
        except (GatewaydError, OSError) as error:
            self._failure = error
            self._stop.set()
            return
        except Exception as error:
            _log.exception("the start broke")
            self._failure = StartError(f"it broke: {type(error).__name__}")
            self._stop.set()
            return
        pid_file.move("", self._generations.document.gateway.pid_file)
        await self._crew.share(False)
        self._store.own()
        self._generations.forget_the_rest()
        self._state = "serving"
        await self._match_control()
        self._announce()
        spawn(self._record_start(), "record the start")
        if self._notifier.watchdog_interval:
            spawn(self._watchdog(), "watchdog")

    def _announce(self) -> None:
        if os.geteuid() == 0:
            _log.warning("running as root: a user of its own is enough, see docs/operations.md")
        for line in self._generations.lines():
            _log.info("%s", line)
        _log.info("%s", self._summary())
        self._notifier.ready(self._summary())

    async def _watchdog(self) -> None:
        while not self._stop.is_set():
            self._notifier.watchdog()
            await asyncio.sleep(self._notifier.watchdog_interval)

    async def _reload_on_signal(self) -> None:
        if self._reload_waits:
            return  # the one that waits will read the file as it is then
        self._reload_waits = True
        async with self._changing:
            self._reload_waits = False
        with contextlib.suppress(ConfigError):  # logged, and kept for /status
            await self.reload("signal SIGHUP")

    async def _record_start(self) -> None:
        generations = self._generations
        told = configured(generations.number, generations.packed)
        await self._recording.record(generations.document, "start", user(), told=told, generation=generations.number)

    async def _record_stop(self) -> None:
        action = "upgrade" if self._handed_over else "stop"
        generations = self._generations
        await self._recording.record(generations.document, action, self._stopped_by, generation=generations.number)

    async def _record_reload(self, actor: str, before: Document, packed: bytes, faults: tuple[Fault, ...]) -> None:
        """One that ends the recording is on record, too."""
        generations, number = self._generations, self._generations.number
        document = generations.document if generations.document.audit.enabled else before
        told = refused(number, faults) if faults else reloaded(number, packed, generations.packed)
        action = "reload.failed" if faults else "reload"
        await self._recording.record(document, action, actor, told=told, generation=number)

    def _reloaded(self, faults: tuple[Fault, ...]) -> None:
        self._reloads["failed" if faults else "succeeded"] += 1
        self._last_reload = {
            "at": time.time(),
            "succeeded": not faults,
            "faults": [str(each) for each in faults],
        }
        for fault in faults:
            _log.error("reload: %s", fault)
        if faults:
            _log.error("reload failed, generation %d serves on", self._generations.number)
        else:
            _log.info("%s", self._summary())
        self._notifier.ready(self._summary())

    def _summary(self) -> str:
        document = self._generations.document
        counts = f"workers {len(self._crew)}, listeners {len(document.listeners)}, routes {len(document.routes)}"
        return f"generation {self._generations.number} serves: {counts}"

    async def _match_control(self) -> None:
        generations = self._generations
        document = generations.document
        observe = Observe(document.control.address, self._slots.names(), generations.packed)
        await self._control.match(generations.control(), observe, document.audit.enabled)

    async def _answer(self, message: AnyMessage, _: list[socket]) -> bytes | None:
        """What the control process asks."""
        match message:
            case Ready():
                return msgspec.json.encode(self.readiness())
            case Status():
                return msgspec.json.encode(await self.status())
            case Reload():
                await self.reload(message.actor)
                return msgspec.json.encode({"generation": self._generations.number})
            case Tell():
                await self._record_order(message)
                return msgspec.json.encode(await self._crew.tell(message))
            case _:
                raise ChannelError(f"the control process does not ask for {type(message).__name__}")

    async def _record_order(self, message: Tell) -> None:
        """What changes something in workers is done only if it is on record."""
        if message.actor:
            after = msgspec.json.decode(message.body)
            document, number = self._generations.document, self._generations.number
            action = message.topic.replace("/", ".")
            await self._recording.record(
                document, action, message.actor, told=lambda _: (None, after), generation=number, needed=True
            )

    async def _hand_over(self, successor: int) -> None:
        """The new daemon serves: leave the sockets, the control listener and the service manager to it."""
        _log.info("process %d has taken over; draining", successor)
        self._handed_over = True
        self._stopped_by = f"process {successor}"
        await self._control.end()
        self._notifier.successor(successor)
        self._stop.set()

    async def _leave(self) -> None:
        """Drain. A second Ctrl-C or SIGQUIT cuts that short."""
        self._state = "draining"
        if self._succession is not None:
            self._succession.give_up()
        draining = spawn(self._drain(), "drain")
        at_once = spawn(self._now.wait(), "at once")
        await asyncio.wait({draining, at_once}, return_when=asyncio.FIRST_COMPLETED)
        draining.cancel()
        at_once.cancel()

    async def _drain(self) -> None:
        _log.info("draining")
        if not self._handed_over:
            self._notifier.stopping()
            await self._generations.close_ports()
        self._crew.drain(drain_of(self._generations.document))
        if not self._handed_over:
            self._generations.forget_ports()
        await self._crew.gone()

    async def _end(self) -> None:
        await self._crew.kill()
        await self._control.end()
        if self._handed_over:
            self._store.disown()
        self._store.close(self._store.keys())
        pid_file.remove(self._generations.document.gateway.pid_file)


def raise_file_limit() -> None:
    """As many descriptors as this user may have: two per exchange are needed, and a few for every worker."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
