"""Rules that span several values, or reach outside: references, addresses, files. One function per section.

What a single value may be is its type's business (`config.model`, `config.convert`); path templates and
shadowed routes are the router's.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Collection, Mapping
from datetime import date
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from gatewayd.config import address as addresses
from gatewayd.config import certificates
from gatewayd.config.address import Address
from gatewayd.config.certificates import PemError
from gatewayd.config.faults import Faults, Locate, nowhere
from gatewayd.config.keys import Key, join
from gatewayd.config.model import Certificate, Document, ListenerTls, Route, StaticReply, Upstream
from gatewayd.config.sink_rules import check_sinks
from gatewayd.errors import Fault

Broken = Mapping[str, Collection[str]]
"""Names, by section, of tables that exist but have faults of their own and so are not in the document."""

_REDIS_OPTIONS = {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
"""In the query of a Redis URL; what else redis-py takes would weaken what `core.redis` sees to."""
_OWN_FRAMING = {"connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "trailer", "te"}

_OWN_FIELDS = _OWN_FRAMING | {"host", "content-type", "content-encoding"}
"""What the exporter of spans sends itself."""


def check(document: Document, locate: Locate = nowhere, *, broken: Broken | None = None) -> list[Fault]:
    """All that is wrong with a document whose single values are right."""
    faults = Faults(locate)
    rules = _Check(document, faults, broken or {})
    rules.gateway()
    rules.redis()
    rules.tracing()
    rules.alerts()
    rules.listeners()
    for name, upstream in document.upstreams.items():
        rules.upstream(("upstreams", name), upstream)
    for name, service in document.services.items():
        rules.refer(("services", name, "upstream"), "upstreams", service.upstream)
        rules.policies(("services", name, "policies"), service.policies)
    for name, route in document.routes.items():
        rules.route(("routes", name), route)
    for name, plan in document.plans.items():
        rules.policies(("plans", name, "policies"), plan.policies)
    check_sinks(document, faults)
    return faults.found


class _Check:
    """The rules, with what they lean on."""

    def __init__(self, document: Document, faults: Faults, broken: Broken) -> None:
        self.document = document
        self.faults = faults
        self.names: dict[str, set[str]] = {
            section: {*getattr(document, section), *broken.get(section, ())}
            for section in ("listeners", "upstreams", "services", "policies")
        }

    def refer(self, key: Key, section: str, name: str) -> None:
        """`name` at `key` must be one of the tables of `section`."""
        if name not in self.names[section]:
            what = "policy instance" if section == "policies" else section.removesuffix("s")
            self.faults.choose(key, f"there is no {what} of this name", name, self.names[section])

    def policies(self, key: Key, names: list[str]) -> None:
        """Each of a list of policy instances must be defined."""
        for index, name in enumerate(names):
            self.refer((*key, index), "policies", name)

    def gateway(self) -> None:
        """The daemon's own tables."""
        self.policies(("gateway", "policies"), self.document.gateway.policies)
        self._writable(("gateway", "pid_file"), self.document.gateway.pid_file)
        self._folder(("gateway", "state_dir"), self.document.gateway.state_dir)
        if self.document.access_log.enabled and self.document.access_log.path not in ("stdout", "stderr"):
            self._writable(("access_log", "path"), self.document.access_log.path)

    def redis(self) -> None:
        """A URL that says nothing but where, as whom and how; what it holds is never shown."""
        url, key = self.document.redis.url, ("redis", "url")
        allowed = "redis://name:password@host:6379/0, rediss://… (TLS), unix:///path"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            self.faults.add(key, "this is no URL of a Redis server", allowed=allowed)
            return
        if not url:
            return
        place = parts.path if parts.scheme == "unix" else parts.hostname
        if parts.scheme not in ("redis", "rediss", "unix") or not place or port == 0:
            self.faults.add(key, "this is no URL of a Redis server", allowed=allowed)
        elif parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
            self.faults.add(key, "the path of a Redis URL is the number of a database", allowed=allowed)
        options = parse_qs(parts.query, keep_blank_values=True).keys()
        for name in sorted(options - _REDIS_OPTIONS):
            self.faults.add(key, "this option cannot be set here", name, allowed=", ".join(sorted(_REDIS_OPTIONS)))

    def tracing(self) -> None:
        """A URL of a collector; and that calls are recorded, for spans are made of records."""
        tracing = self.document.tracing
        if not tracing.url:
            return
        try:
            parts = urlsplit(tracing.url)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound or parts.query or parts.fragment or "@" in parts.netloc:
            allowed = "http://host:4318 or https://host/path, what proves who we are in headers"
            self.faults.add(("tracing", "url"), "this is no URL of an OpenTelemetry collector", allowed=allowed)
        for name in tracing.headers:
            if name.lower() in _OWN_FIELDS:
                self.faults.add(("tracing", "headers", name), "the exporter sends this field itself", name)
        self._file(("tracing", "ca"), tracing.ca, certificates.check_authorities)
        for section in ("audit", "collector", "control"):
            if not getattr(self.document, section).enabled:
                message, hint = "spans are made of records that are collected", f"set {section}.enabled = true"
                self.faults.add(("tracing", "url"), message, hint=hint)

    def alerts(self) -> None:
        """Its time zone and its holidays exist."""
        alerts = self.document.alerts
        try:
            ZoneInfo(alerts.time_zone)
        except (KeyError, ValueError, OSError):
            allowed = 'a name such as "Europe/Berlin"'
            self.faults.add(("alerts", "time_zone"), "there is no such time zone", alerts.time_zone, allowed=allowed)
        for index, day in enumerate(alerts.holidays):
            try:
                date.fromisoformat(day)
            except ValueError:
                self.faults.add(("alerts", "holidays", index), "there is no such day", day)

    def listeners(self) -> None:
        """There is one at least; no address is taken twice, the control listener's included."""
        if not self.names["listeners"]:
            self.faults.add(("listeners",), "no listener: nobody could connect", hint="add [listeners.http]")
        taken: dict[Address, str] = {}
        for name, listener in self.document.listeners.items():
            key = ("listeners", name)
            self._bind((*key, "address"), listener.address, taken)
            self._networks((*key, "trusted_proxies"), listener.trusted_proxies)
            if listener.proxy_protocol and not listener.trusted_proxies:
                self.faults.add(key, "proxy_protocol without trusted_proxies refuses everyone")
            if listener.tls is not None:
                self._listener_tls((*key, "tls"), listener.tls)
        if self.document.control.enabled:
            self._bind(("control", "address"), self.document.control.address, taken)

    def upstream(self, key: Key, upstream: Upstream) -> None:
        """Targets that can be reached and share the load; TLS files that can be used."""
        for index, target in enumerate(upstream.targets):
            where = (*key, "targets", index, "address")
            address = self._address(where, target.address)
            if address and not address.path and not address.port:
                self.faults.add(where, "the port is 0", target.address, allowed="a port from 1 to 65535")
            if address and address.path and upstream.tls is not None and not upstream.tls.sni:
                self.faults.add(where, "a unix socket has no name that TLS could ask for", hint="set tls.sni")
        if not any(target.weight for target in upstream.targets):
            self.faults.add((*key, "targets"), "every weight is 0: no target would be picked")
        if upstream.hash_on != "ip" and upstream.balance != "consistent_hash":
            self.faults.add((*key, "hash_on"), f'nothing is hashed by balance = "{upstream.balance}"', upstream.hash_on)
        if upstream.tls is not None:
            self._file((*key, "tls", "ca"), upstream.tls.ca, certificates.check_authorities)
            if upstream.tls.cert or upstream.tls.key:
                self._pair((*key, "tls"), Certificate(upstream.tls.cert, upstream.tls.key))

    def route(self, key: Key, route: Route) -> None:
        """One answer, from what exists."""
        answers = [name for name in ("service", "redirect", "reply", "usage") if getattr(route, name)]
        if len(answers) != 1:
            message = f"{' and '.join(answers)} exclude each other" if answers else "nothing answers it"
            self.faults.add(key, message, allowed="exactly one of service, redirect, reply, usage")
        if route.service:
            self.refer((*key, "service"), "services", route.service)
        for index, listener in enumerate(route.listeners):
            self.refer((*key, "listeners", index), "listeners", listener)
        self.policies((*key, "policies"), route.policies)
        if route.strip_prefix and not _below(route.path, route.strip_prefix):
            self.faults.add(
                (*key, "strip_prefix"),
                "the route's path does not start with it",
                route.strip_prefix,
                allowed="a beginning of path, up to a slash, without parameters",
            )
        if route.reply is not None:
            self._reply((*key, "reply"), route.reply)
        self._spelled_once((*key, "headers"), route.headers)

    def _spelled_once(self, key: Key, headers: Collection[str]) -> None:
        first: dict[str, str] = {}
        for name in headers:
            other = first.setdefault(name.lower(), name)
            if other != name:
                self.faults.add((*key, name), f"it is the same header as {other}: case does not count")

    def _reply(self, key: Key, reply: StaticReply) -> None:
        if reply.body and reply.file:
            self.faults.add((*key, "file"), "body and file exclude each other", reply.file)
        self._file((*key, "file"), reply.file, certificates.read)
        for name in reply.headers:
            if name.lower() in _OWN_FRAMING:
                self.faults.add((*key, "headers", name), "the gateway frames its replies itself")

    def _listener_tls(self, key: Key, tls: ListenerTls) -> None:
        for index, pair in enumerate(tls.certificates):
            self._pair((*key, "certificates", index), pair)
        self._file((*key, "client_ca"), tls.client_ca, certificates.check_authorities)
        if tls.client_auth != "none" and not tls.client_ca:
            self.faults.add((*key, "client_ca"), "missing", allowed="a PEM file, as client_auth asks for certificates")

    def _pair(self, key: Key, pair: Certificate) -> None:
        """A certificate and its key, each readable and fit for the other."""
        certificate = None
        if not pair.cert:
            self.faults.add((*key, "cert"), "a key needs its certificate")
            return
        try:
            certificate = certificates.check_chain(pair.cert)
        except PemError as error:
            self.faults.add((*key, "cert"), str(error), pair.cert)
        # One file may hold both.
        self._file((*key, "key"), pair.key or pair.cert, lambda path: certificates.check_key(path, certificate))

    def _file(self, key: Key, path: str, use: Callable[[str], object]) -> None:
        """The file at `path`, if one is named, is of `use`."""
        if path:
            try:
                use(path)
            except PemError as error:
                self.faults.add(key, str(error), path)

    def _writable(self, key: Key, path: str) -> None:
        if not path:
            return
        place = path if os.path.lexists(path) else Path(path).parent
        if Path(path).is_dir() or not os.access(place, os.W_OK):
            self.faults.add(key, "cannot be written", path, allowed="a file in a directory that exists")

    def _folder(self, key: Key, path: str) -> None:
        """A directory to write to, or a place for one."""
        place = path or os.sep
        while not os.path.exists(place):
            place = os.path.dirname(place) or os.sep
        if path and not (os.path.isdir(place) and os.access(place, os.W_OK)):
            self.faults.add(key, "cannot be written", path, allowed="a directory, which may still have to be made")

    def _address(self, key: Key, text: str) -> Address | None:
        try:
            return addresses.parse(text)
        except ValueError as error:
            self.faults.add(key, str(error), text, allowed="host:port, [::1]:port or unix:/path")
            return None

    def _bind(self, key: Key, text: str, taken: dict[Address, str]) -> None:
        """An address to listen on, which nobody else does. Port 0 is another free port each time."""
        address = self._address(key, text)
        if address is None or not (address.port or address.path):
            return
        if address in taken:
            self.faults.add(key, f"{taken[address]} listens there already", text)
        taken.setdefault(address, join(key[:-1]))

    def _networks(self, key: Key, networks: list[str]) -> None:
        for index, network in enumerate(networks):
            where = (*key, index)
            try:
                ipaddress.ip_network(network)
            except ValueError:
                hint = "" if self.faults.hides(where) else _network(network)
                allowed = 'a CIDR such as "10.0.0.0/8"'
                self.faults.add(where, "no network", network, allowed=allowed, hint=hint)


def _network(text: str) -> str:
    """The network around an address that has bits set beyond its prefix."""
    try:
        return f'did you mean "{ipaddress.ip_network(text, strict=False)}"?'
    except ValueError:
        return ""


def _below(path: str, prefix: str) -> bool:
    """Whether every path of a template starts with `prefix` and a slash, or is it."""
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")
