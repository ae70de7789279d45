"""Generations of the configuration: the first, and how one follows another while traffic flows."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from socket import socket
from typing import Any

from gatewayd.config.model import Document
from gatewayd.core.arena import Arena
from gatewayd.core.workers import worker_count
from gatewayd.errors import ConfigError, Fault
from gatewayd.server.channel import Drain
from gatewayd.server.crew import Crew, Serving
from gatewayd.server.prepare import Prepared, Rules, prepare, wanted
from gatewayd.server.process import StartError
from gatewayd.server.shared_memory import Slots
from gatewayd.server.sockets import CONTROL, LAST_HANDSHAKES, SocketStore, Wanted, key_of, shown

_log = logging.getLogger(__name__)


class Generations:
    """The configuration at `path`, as it is served now, with the sockets and workers that it takes."""

    def __init__(
        self,
        path: str,
        environ: Mapping[str, str],
        rules: Callable[[], Rules],
        store: SocketStore,
        slots: Slots,
        contents: Arena | None = None,
    ) -> None:
        """`rules` are imported when they are first needed; `contents` is the workers' shared memory."""
        self.path = path
        self.number = 0
        self.document = Document()
        self.packed = b"\x80"
        """`document` in its raw form, as msgpack."""
        self._environ = environ
        self._rules = rules
        self._contents = contents
        self._store = store
        self._slots = slots
        self._secret = os.urandom(32)
        self._wanted: dict[str, Wanted] = {}

    async def begin(self, crew: Crew) -> None:
        """Serve the first generation. Raises `ConfigError`, `StartError`.

        What only `rules` would find the workers find while they start; then it is asked after all, to say it all.
        """
        try:
            await self._begin(crew)
        except ConfigError as error:
            raise self._prepare().located(error) from None

    async def _begin(self, crew: Crew) -> None:
        prepared = prepare(self.path, self._environ, held=self._held)
        count = worker_count(prepared.document)
        # One socket each, or those inherited: a port gets no more before there is somebody to serve them.
        self._store.open(wanted(prepared.document), 1)
        crew.serving = self._serving(prepared)
        await crew.hire(count)
        self._store.open(wanted(prepared.document), count)
        self._commit(prepared)
        await crew.deal()

    async def advance(self, crew: Crew) -> None:
        """Load and serve the next generation. Raises `ConfigError`; then nothing has changed for callers."""
        prepared = await asyncio.to_thread(self._prepare)
        count = worker_count(prepared.document)
        opened = self._store.open(wanted(prepared.document), 1)
        try:
            await self._try(prepared, crew, count)
        except ConfigError as error:
            self._store.close(opened)
            raise prepared.located(error) from None
        self._commit(prepared)
        await self._settle(crew, count)

    def listening(self) -> dict[str, list[socket]]:
        """The sockets of each listener but the control listener."""
        listeners = {name: each for name, each in self._wanted.items() if name != CONTROL}
        return {name: self._store.of(name, each.address) for name, each in listeners.items()}

    def control(self) -> socket | None:
        """The control listener's socket; None if it is turned off."""
        each = self._wanted.get(CONTROL)
        return self._store.of(CONTROL, each.address)[0] if each else None

    async def close_ports(self) -> None:
        """Let no caller begin to connect, but those in who have begun. The control listener stays."""
        self._store.drop_new(self._keys() - self._keys(CONTROL))
        await asyncio.sleep(LAST_HANDSHAKES)

    def forget_ports(self) -> None:
        """Leave the sockets to the workers, who close them when nobody waits there any more."""
        self._store.close(self._keys() - self._keys(CONTROL))

    def forget_the_rest(self) -> None:
        """Close inherited sockets that this configuration has no listener for."""
        self._store.close(self._store.keys() - self._keys())

    def lines(self) -> list[str]:
        """Where there is something to connect to, a line each."""
        listeners = self.document.listeners
        lines = [
            f"listener {name}: {'https' if listeners[name].tls else 'http'}://{shown(socks[0])}"
            for name, socks in self.listening().items()
        ]
        control = self.control()
        return [*lines, f"control: http://{shown(control)}"] if control else lines

    def status(self) -> dict[str, Any]:
        """The part of the daemon's status that is known here."""
        return {
            "configuration": self.path,
            "routes": len(self.document.routes),
            "listeners": {
                name: {
                    "address": shown(socks[0]),
                    "sockets": len(socks),
                    "tls": bool(self.document.listeners[name].tls),
                }
                for name, socks in self.listening().items()
            },
            "held": sorted(self._store.keys()),
        }

    def _prepare(self) -> Prepared:
        rules = replace(self._rules(), contents=self._contents)
        return prepare(self.path, self._environ, rules, self._held)

    def _held(self, _: Document) -> set[str]:
        return self._store.keys()

    def _keys(self, *names: str) -> set[str]:
        """The keys of these listeners' sockets, of all if none is named."""
        return {
            key_of(name, self._wanted[name].address) for name in names or tuple(self._wanted) if name in self._wanted
        }

    def _serving(self, prepared: Prepared) -> Serving:
        slots = self._slots.assign(prepared.document.routes)
        return Serving(self.number + 1, prepared.packed, slots, self._secret)

    async def _try(self, prepared: Prepared, crew: Crew, count: int) -> None:
        before = crew.serving
        await crew.apply(self._serving(prepared))
        try:
            await crew.hire(count)
        except (ConfigError, StartError, OSError) as error:
            if before is not None:
                await crew.apply(before)
            if isinstance(error, ConfigError):
                raise
            raise ConfigError([Fault("gateway.workers", f"no more workers could be started: {error}")]) from error

    def _commit(self, prepared: Prepared) -> None:
        self.number += 1
        self.document = prepared.document
        self.packed = prepared.packed
        self._wanted = wanted(prepared.document)
        for warning in prepared.warnings:
            _log.warning("%s", warning)

    async def _settle(self, crew: Crew, count: int) -> None:
        """Bring sockets and workers in line with what is served now."""
        try:
            self._store.open(self._wanted, count)
        except ConfigError as error:  # say, out of descriptors: fewer sockets are shared by the workers
            _log.error("%s", error)
        closing = self._store.keys() - self._keys()
        if closing:
            self._store.drop_new(closing)
            await asyncio.sleep(LAST_HANDSHAKES)
        await crew.deal()
        if count < len(crew):
            await crew.dismiss(count, drain_of(self.document))
        self._store.close(closing)


def drain_of(document: Document) -> Drain:
    """How workers are to drain."""
    return Drain(float(document.gateway.drain_timeout), float(document.gateway.drain_idle_grace))
