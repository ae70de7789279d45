"""From a file to a configuration that can be served: what `run`, a reload and `gatewayd check` do alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import msgspec

from gatewayd.config.expiry import expiring
from gatewayd.config.faults import Locate, placed
from gatewayd.config.idle import idle
from gatewayd.config.load import load
from gatewayd.config.model import Document
from gatewayd.config.subscriptions import planless
from gatewayd.core.arena import Arena
from gatewayd.core.workers import MAX_WORKERS
from gatewayd.errors import ConfigError, Fault
from gatewayd.server.sockets import CONTROL, AddressError, Place, Wanted, key_of, path_of, place, probe


@dataclass(frozen=True, slots=True)
class Rules:
    """What only the data path knows of right and wrong: each policy's `Config`, and whether a document can be built."""

    policies: Mapping[str, type[msgspec.Struct]]
    verify: Callable[..., Collection[Fault]]
    """Of a document and a `Locate`; and of `contents`, if there are any."""
    contents: Arena | None = None
    """The workers' shared memory. Where it is, verifying leaves there what each of them would stop for to make it."""


Held = Callable[[Document], Collection[str]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration without faults. `packed`: its raw form as msgpack, for workers. `warnings` can be lived with."""

    document: Document
    packed: bytes
    locate: Locate
    warnings: tuple[Fault, ...] = ()

    def __repr__(self) -> str:
        return "Prepared()"  # a document holds secrets

    def located(self, error: ConfigError) -> ConfigError:
        """The same faults with their files and lines."""
        return ConfigError(placed(error.faults, (), self.locate))


def _nothing(_: Document) -> Collection[str]:
    return ()


def prepare(path: str, environ: Mapping[str, str], rules: Rules | None = None, held: Held = _nothing) -> Prepared:
    """Load, check and, with `rules`, build the configuration at `path`; see whether its addresses are free.

    `held` tells the keys of sockets the daemon has already. Raises `ConfigError` with everything that is wrong.
    """

    def verify(document: Document, locate: Locate) -> list[Fault]:
        shared = {"contents": rules.contents} if rules and rules.contents else {}
        built = rules.verify(document, locate, **shared) if rules else ()
        return [*_workers(document), *_addresses(document, held(document)), *built]

    loaded = load(path, environ, rules.policies if rules else None, verify)
    said = [each for look in (expiring, planless, idle) for each in look(loaded.document, loaded.locate)]
    return Prepared(loaded.document, msgspec.msgpack.encode(loaded.raw), loaded.locate, tuple(said))


def wanted(document: Document) -> dict[str, Wanted]:
    """The addresses `document` wants, by listener; the control listener's under `CONTROL`."""
    listeners = {name: Wanted(each.address, each.backlog) for name, each in document.listeners.items()}
    if document.control.enabled:
        listeners[CONTROL] = Wanted(document.control.address, 128, share=False)
    return listeners


def _workers(document: Document) -> list[Fault]:
    workers = document.gateway.workers
    if workers == "auto" or 1 <= workers <= MAX_WORKERS:
        return []
    return [Fault("gateway.workers", "so many cannot run", str(workers), f'1 to {MAX_WORKERS}, or "auto"')]


def _addresses(document: Document, held: Collection[str]) -> list[Fault]:
    """Addresses that cannot be had. One that stands twice is a fault that `check` finds."""
    faults = []
    for name, listener in wanted(document).items():
        reason = "" if key_of(name, listener.address) in held else _why_not(listener.address)
        if reason:
            faults.append(Fault(path_of(name), f"cannot listen there: {reason}", found=listener.address))
    return faults + _overlapping(document)


_ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def _overlapping(document: Document) -> list[Fault]:
    """Addresses that are one for the kernel: the same port under two names, or under a name and the wildcard."""
    faults = []
    seen: list[tuple[Place, str]] = []
    for name, listener in wanted(document).items():
        try:
            here = place(listener.address)
        except AddressError:
            continue  # said elsewhere
        for other, its_name in seen:
            if _overlap(here, other):
                faults.append(Fault(path_of(name), f"it overlaps with {path_of(its_name)}", found=listener.address))
        seen.append((here, name))
    return faults


def _overlap(one: Place, other: Place) -> bool:
    if one.path or other.path or one.family != other.family or not one.where[1]:
        return False
    return one.where[1] == other.where[1] and (
        one.where[0] == other.where[0] or one.where[0] in _ANYWHERE or other.where[0] in _ANYWHERE
    )


def _why_not(address: str) -> str:
    try:
        return probe(place(address))
    except AddressError as error:
        return str(error)
