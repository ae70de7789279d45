"""From a document to a snapshot: everything that does not depend on a request is decided here, once per generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from gatewayd import policies
from gatewayd.config import model
from gatewayd.config.faults import Locate, nowhere
from gatewayd.config.model import Document
from gatewayd.core.arena import Arena
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import BuildContext, Figures, Handler, NoConsumers, Route
from gatewayd.core.workers import columns
from gatewayd.errors import ConfigError, Fault
from gatewayd.gateway import chains, recording
from gatewayd.gateway.accounts import accounts, hearing
from gatewayd.gateway.dial import Dialler
from gatewayd.gateway.plans import attach_with_plans, misplaced
from gatewayd.gateway.router import Router, RouteSpec, compile_routes
from gatewayd.gateway.snapshot import ChainLink, Snapshot
from gatewayd.gateway.template import parse_template
from gatewayd.handlers import proxy, redirect, static_reply, usage
from gatewayd.identity.consumer_source import open_consumers
from gatewayd.identity.consumers import Index
from gatewayd.observe import access_log
from gatewayd.rfc.forwarding import Via
from gatewayd.rfc.rewrite import Rewriting
from gatewayd.upstream.group import UpstreamGroup
from gatewayd.upstream.target import Target
from gatewayd.wire.outbox import Outbox
from gatewayd.wire.tls import ListenerContexts

LONGEST_DIAL = 5.0
"""Seconds for one dial to a target that no service with a connect timeout uses."""


@dataclass(slots=True)
class Ground:
    """What a build stands on beside the document; kept from generation to generation."""

    clock: Clock = field(default_factory=SystemClock)
    random: Random = field(default_factory=Random)
    slots: Mapping[str, int] = field(default_factory=dict)
    """Row in shared memory of each route."""
    kept: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What policies keep over reloads (`BuildContext.keep`)."""
    arena: Arena | None = None
    """What workers share; None where nothing is served."""
    contents: Arena | None = None
    """Where nothing is served: what workers will share, to leave there what they would have to make."""
    worker: int = 0
    outbox: Outbox = field(default_factory=Outbox)
    locate: Locate = nowhere


def build(document: Document, ground: Ground, generation: int = 0) -> Snapshot:
    """Compile `document`; no I/O beyond reading the files it names. Raises `ConfigError` with everything wrong."""
    return _Build(document, ground).snapshot(generation)


def verify(document: Document, locate: Locate = nowhere, contents: Arena | None = None) -> list[Fault]:
    """What a build of `document` would raise, and the listeners' TLS files. `contents` are the workers' to be."""
    faults: list[Fault] = []
    try:
        build(document, Ground(locate=locate, contents=contents)).close()
    except ConfigError as error:
        faults.extend(error.faults)
    for name, listener in document.listeners.items():
        if listener.tls is not None:
            try:
                ListenerContexts(listener.tls, name, path=f"listeners.{name}.tls")
            except ConfigError as error:
                faults.extend(error.faults)
    faults.extend(access_log.faults(document.access_log))
    faults.extend(recording.faults(document))
    return faults


def below(path: str, error: ConfigError) -> ConfigError:
    """`error`, whose paths begin below `path`."""
    return ConfigError(
        [Fault(f"{path}.{f.path}", f.message, f.found, f.allowed, f.hint, f.file, f.line) for f in error.faults]
    )


class _Build:
    def __init__(self, document: Document, ground: Ground) -> None:
        self.document = document
        self.ground = ground
        self.faults: list[Fault] = []
        self.links: dict[str, ChainLink] = {}
        self.upstreams: dict[str, UpstreamGroup] = {}
        self.services: dict[tuple[object, ...], proxy.ProxyService] = {}
        self.generation = 0
        self.via = Via(document.gateway.name)
        self.columns = columns(document)
        self.consumers: Index | None = None
        self.topics: dict[str, list[Callable[[bytes], Any]]] = {}
        self.figures: dict[str, list[Figures]] = {}
        self.accounts: tuple[usage.Account, ...] = ()

    def snapshot(self, generation: int) -> Snapshot:
        document = self.document
        self.generation = generation
        self._gather(self._open_consumers)
        self.links, faults = chains.build_links(document.policies, self._context, self.ground.locate)
        self.faults.extend(faults)
        self.faults.extend(chains.crowded(self.links, document))
        self.faults.extend(misplaced(self.links, document))
        self._account()
        for name, upstream in document.upstreams.items():
            self._gather(lambda n=name, u=upstream: self._upstream(n, u))  # type: ignore[misc]
        snapshot = Snapshot(
            generation,
            document,
            links=self.links,
            upstreams=self.upstreams,
            consumers=self.consumers,
            topics=self.topics,
            figures=self.figures,
        )
        for name, route in document.routes.items():
            self._gather(lambda n=name, r=route: self._route(snapshot, n, r))  # type: ignore[misc]
        self._routers(snapshot)
        if self.faults:
            snapshot.close()
            raise ConfigError(self.faults)
        return snapshot

    def _open_consumers(self) -> None:
        """Where there are none, nothing is made."""
        if self.document.consumers or self.document.identity.consumers_file:
            self.consumers = open_consumers(self.document, self.ground.arena or self.ground.contents)

    def _account(self) -> None:
        """Find out which limits hold for whom, and have operators told who has used what."""
        self.accounts = accounts(self.links, self.document)
        known = self.consumers or NoConsumers()
        self.topics["usage"] = [hearing(self.accounts, known, self.ground.clock.monotonic)]

    def _context(self, instance: str) -> BuildContext:
        ground, workers = self.ground, self.columns
        return BuildContext(
            instance,
            clock=ground.clock,
            kept=ground.kept,
            document=self.document,
            arena=ground.arena,
            consumers=self.consumers or NoConsumers(),
            topics=self.topics,
            figures=self.figures,
            worker=min(ground.worker, workers - 1),
            workers=workers,
        )

    def _gather(self, step: Callable[[], None]) -> None:
        try:
            step()
        except ConfigError as error:
            self.faults.extend(error.faults)

    # -- upstreams and services ---------------------------------------------------------------------------------

    def _upstream(self, name: str, config: model.Upstream) -> None:
        limits = self.document.limits
        try:
            dialler = Dialler(config, limits, self._dial_timeout(name), self.ground.outbox)
        except ConfigError as error:
            raise below(f"upstreams.{name}", error) from None

        def join(target: Target) -> None:
            if target.pool is None:
                target.pool = dialler.pool(target)
            else:
                target.pool.configure(config.pool, dialler.dial_for(target))

        self.upstreams[name] = UpstreamGroup(
            name,
            config,
            self.ground.clock,
            self.ground.random,
            dialler.probe,
            on_join=join,
            on_retire=retire,
        )

    def _dial_timeout(self, upstream: str) -> float:
        services = self.document.services.values()
        used = [float(service.timeouts.connect) for service in services if service.upstream == upstream]
        return max((seconds for seconds in used if seconds), default=LONGEST_DIAL)

    def _service(self, route: model.Route) -> proxy.ProxyService | None:
        """The compiled service of `route`, shared by all routes that do the same with it."""
        service = self.document.services.get(route.service)
        group = self.upstreams.get(service.upstream) if service is not None else None
        if service is None or group is None:
            return None  # `config.check` has said so
        key = (route.service, route.strip_prefix, route.add_prefix, route.rewrite_location, tuple(route.upgrades))
        found = self.services.get(key)
        if found is None:
            rewriting = None
            if route.rewrite_location and (route.strip_prefix or route.add_prefix):
                rewriting = Rewriting(route.strip_prefix, route.add_prefix)
            found = self.services[key] = proxy.ProxyService(
                service,
                group,
                self.ground.clock,
                self.via,
                frozenset(protocol.lower().encode() for protocol in route.upgrades),
                proxy.path_rewriter(route.strip_prefix, route.add_prefix),
                rewriting,
            )
        return found

    # -- routes -------------------------------------------------------------------------------------------------

    def _handler(self, name: str, route: model.Route) -> Handler | None:
        if route.redirect is not None:
            names = parse_template(route.path, f"routes.{name}.path").names
            return redirect.build(route.redirect, names)
        if route.reply is not None:
            return static_reply.build(route.reply)
        if route.usage:
            return usage.build(self.accounts, self.ground.clock.monotonic)
        if route.strip_prefix and not _is_prefix(route.strip_prefix, route.path):
            raise ConfigError(
                [
                    Fault(
                        f"routes.{name}.strip_prefix",
                        "the route's path does not begin with it",
                        found=repr(route.strip_prefix),
                        allowed=f"a literal beginning of {route.path!r}, whole segments",
                    )
                ]
            )
        service = self._service(route)
        return None if service is None else proxy.handler(service)

    def _route(self, snapshot: Snapshot, name: str, config: model.Route) -> None:
        try:
            handler = self._handler(name, config) or _nobody
        except ConfigError as error:
            own = all(fault.path.startswith("routes.") for fault in error.faults)
            self.faults.extend((error if own else below(f"routes.{name}", error)).faults)
            handler = _nobody
        route = Route(name, handler)
        route.service = config.service
        route.path = config.path
        route.hosts = tuple(config.hosts)
        if self.document.audit.enabled:
            route.operation = self._operation(name, config)
        route.slot = self.ground.slots.get(name, 0)
        route.body_limit = self.document.limits.body if config.body is None else config.body
        route.upgrades = frozenset(protocol.lower().encode() for protocol in config.upgrades)
        links = attach_with_plans(route, self.links, self.document, config, self.ground.clock.monotonic)
        snapshot.routes[name] = route
        snapshot.chains[name] = links

    def _operation(self, name: str, config: model.Route) -> Any:
        """What the calls of a route have on record of it."""
        from gatewayd.audit.record import Operation
        from gatewayd.audit.recorder import encoded

        try:
            names = list(parse_template(config.path, f"routes.{name}.path").names)
        except ConfigError:
            names = []  # told of where routes are compiled
        return encoded(Operation(name, config.service, config.path, names, self.generation))

    def _routers(self, snapshot: Snapshot) -> None:
        """A router per listener; listeners with the same routes share one. Without any, routes are tried yet."""
        routers: dict[frozenset[str], Router] = {}
        specs = {name: self._spec(snapshot, name) for name in snapshot.routes}
        for listener in self.document.listeners or ("",):
            names = [name for name in specs if self._listens(name, listener)]
            key = frozenset(names)
            if key not in routers:
                try:
                    routers[key] = compile_routes([specs[name] for name in names])
                except ConfigError as error:
                    self.faults.extend(fault for fault in error.faults if fault not in self.faults)
                    continue
            snapshot.routers[listener] = routers[key]

    def _listens(self, route: str, listener: str) -> bool:
        listeners = self.document.routes[route].listeners
        return not listeners or listener in listeners

    def _spec(self, snapshot: Snapshot, name: str) -> RouteSpec:
        config = self.document.routes[name]
        return RouteSpec(
            name=name,
            path=config.path,
            hosts=config.hosts,
            methods=config.methods,
            headers={name.lower(): value for name, value in config.headers.items()},
            query=config.query,
            value=snapshot.routes[name],
            preflight=any(_answers_preflights(link.policy) for link in snapshot.chains[name]),
        )


def _nobody(_: Exchange) -> None:
    """In place of a handler that could not be made, until all other faults are found: nothing such is ever served."""
    raise RuntimeError("it is served in spite of its faults")


def _answers_preflights(policy: str) -> bool:
    return getattr(policies.load(policy), "PREFLIGHT", False)


def _is_prefix(prefix: str, path: str) -> bool:
    prefix = prefix.rstrip("/")
    return "{" not in prefix and (path == prefix or path.startswith(prefix + "/"))


def retire(target: Target) -> None:
    """Nothing new goes to `target`: close its idle connections."""
    if target.pool is not None:
        target.pool.retire()
