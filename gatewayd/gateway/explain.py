"""What would become of a request, and why, without sending it: `gatewayd explain`; and the table of
`gatewayd routes`.

The same parser, router, chains, redirects and hash are asked as for a real request, so the answer cannot drift from
the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from gatewayd.config import model
from gatewayd.core.exchange import Exchange
from gatewayd.errors import ConfigError, Fault, RequestError
from gatewayd.gateway.plans import from_then_on, until_known
from gatewayd.gateway.rehearsal import Said, rehearse
from gatewayd.gateway.router import Considered, Miss
from gatewayd.gateway.snapshot import ChainLink, Snapshot
from gatewayd.handlers.proxy import path_rewriter
from gatewayd.handlers.redirect import location
from gatewayd.rfc.headers import is_withheld
from gatewayd.rfc.host import check_host
from gatewayd.rfc.methods import METHODS
from gatewayd.rfc.path import PathRules
from gatewayd.rfc.target import parse_target
from gatewayd.upstream.balancer import key_of
from gatewayd.upstream.group import UpstreamGroup

_KEYS = {"ip": "address"}


@dataclass(slots=True)
class TargetState:
    """A target of the upstream. `note`: that a name is not resolved yet, or that the request's key leads there."""

    address: str
    weight: int
    note: str = ""


@dataclass(slots=True)
class Explanation:
    """What becomes of a request. Everything below `route` is empty where no route answers."""

    method: str
    url: str
    listener: str
    client: str = ""
    status: int = 0
    """400, 404 or 405 where the gateway refuses the request; 0 where a route takes it."""
    code: str = ""
    detail: str = ""
    allow: str = ""
    host: str = ""
    path: str = ""
    """Normalised."""
    query: str | None = None
    route: str = ""
    template: str = ""
    host_rule: str = ""
    """The host pattern the route was found under, "" for any host."""
    params: dict[str, str] = field(default_factory=dict)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """More specific routes that match the path, each with the reason why it does not answer."""
    chain: tuple[ChainLink, ...] = ()
    """Once it is known who calls, with what the caller's plan has."""
    verdicts: dict[str, Said] = field(default_factory=dict)
    """What the instances of the chain said that were asked."""
    answer: str = ""
    """What answers, such as `service policies → upstream policies`."""
    location: str = ""
    """Where a redirect leads."""
    service: str = ""
    upstream: str = ""
    upstream_path: str = ""
    """Path and query as the target gets them."""
    upstream_host: str = ""
    targets: list[TargetState] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The explanation as text, a line each."""
        by = f" from {self.client}" if self.client else ""
        return [
            f"{self.method} {self.url}{by} at listener {self.listener}",
            *self._body(),
        ]

    def _body(self) -> Iterator[str]:
        if self.path:
            query = "" if self.query is None else f"?{self.query}"
            host = f"host {self.host}" if self.host else "no host: only HTTP/1.0 does without"
            yield f"  path      {self.path}{query}  {host}"
        for name, reason in self.passed_over:
            yield f"  not       {name}: {reason}"
        if self.status:
            yield f"  answer    {self.status} {self.code}: {self.detail}" + (
                f"; Allow: {self.allow}" if self.allow else ""
            )
            return
        host = f"host {self.host_rule}" if self.host_rule else "any host"
        yield f"  route     {self.route}: {self.template} at {host}"
        for name, value in self.params.items():
            yield f"            {name} = {value}"
        for number, link in enumerate(self.chain, 1):
            said = f": {link.explain}" if link.explain else ""
            yield f"  policy {number:<2} {link.instance} ({link.policy}, {link.mode}, fails {link.failure}){said}"
            if link.instance in self.verdicts:
                yield f"            {self.verdicts[link.instance].text}"
        yield from self._answers()

    def _answers(self) -> Iterator[str]:
        refused = [said for said in self.verdicts.values() if said.reply is not None]
        for said in refused:
            yield f"  answer    {said.reply.status} {said.reply.code} by {said.instance}"  # type: ignore[union-attr]
        yield f"  {'otherwise' if refused else 'answer   '} {self.answer}"
        if self.location:
            yield f"  location  {self.location}"
        if self.service:
            yield f"  sent      {self.method} {self.upstream_path}  host {self.upstream_host}"
        for target in self.targets:
            note = f"  {target.note}" if target.note else ""
            yield f"  target    {target.address} weight {target.weight}{note}"


def explain(
    snapshot: Snapshot,
    listener: str,
    method: str,
    url: str,
    headers: Sequence[tuple[str, str]] = (),
    client: str = "",
    online: bool = False,
) -> Explanation:
    """What `snapshot` would do with a request at `listener`. `url` is a URL or a path, then with a Host in
    `headers`. `online`: policies may ask others who calls, as they would (`gateway.rehearsal`).

    Raises `ConfigError` if there is no such listener; a request that would be refused is an explanation
    too.
    """
    if listener not in snapshot.routers:
        raise ConfigError([Fault("listeners", "there is no such listener", listener, ", ".join(snapshot.routers))])
    said = Explanation(method, url, listener, client)
    try:
        exchange = _exchange(snapshot, said, headers)
    except RequestError as error:
        said.status, said.code, said.detail = error.status, error.code, error.detail
        return said
    said.host, said.path = exchange.host.decode(), exchange.path.decode()
    said.query = None if exchange.query is None else exchange.query.decode()
    router = snapshot.routers[listener]
    found = router.match(exchange)
    considered = router.considered(exchange)
    if isinstance(found, Miss):
        _missed(said, found, considered)
    else:
        _matched(said, snapshot, found.name, exchange, considered)
        exchange.route = snapshot.routes[found.name]
        _judged(said, snapshot, exchange, online)
    return said


def _judged(said: Explanation, snapshot: Snapshot, exchange: Exchange, online: bool) -> None:
    """What policies say: those that find out who calls, then those that the caller's plan, if it has one, leaves."""
    document, before = snapshot.document, until_known(said.chain)
    verdicts = rehearse(exchange, before, online)
    if all(each.passes for each in verdicts):
        identity = exchange.identity
        if identity is not None:
            route, plan = document.routes[said.route], identity.consumer.plan
            said.chain = before + from_then_on(before, snapshot.links, document, route, plan)
        verdicts += rehearse(exchange, said.chain[len(before) :], online)
    said.verdicts = {each.instance: each for each in verdicts}


def _exchange(snapshot: Snapshot, said: Explanation, headers: Sequence[tuple[str, str]]) -> Exchange:
    """The request as the wire would hand it over."""
    paths = snapshot.document.gateway.paths
    exchange = Exchange()
    exchange.listener, exchange.client = said.listener, said.client
    exchange.method = said.method.encode()
    if exchange.method not in METHODS:
        raise RequestError(501, "method_not_implemented", "the method is not known here")
    rules = PathRules(paths.encoded_slash, paths.semicolon, paths.empty_segments)
    scheme, authority, exchange.path, exchange.query = parse_target(exchange.method, said.url.encode(), rules)
    exchange.scheme = scheme or exchange.scheme
    for name, value in headers:
        pair = name.lower().encode(), value.encode()
        (exchange.withheld if is_withheld(pair[0]) else exchange.headers).append(pair)
    hosts = [value for name, value in exchange.withheld if name == b"host"]
    if len(hosts) > 1:
        raise RequestError(400, "host_repeated", "more than one Host")
    exchange.host = check_host(hosts[0]) if hosts else authority or b""
    return exchange


def _missed(said: Explanation, miss: Miss, considered: Sequence[Considered]) -> None:
    said.status, said.allow = miss.status, miss.allow.decode()
    if miss.status == 405:
        said.code, said.detail = "method_not_allowed", "the path's routes take other methods"
    else:
        said.code, said.detail = (
            "route_not_found",
            "no route has this path" if not considered else "no route matches",
        )
    said.passed_over = [(one.name, _reason(one)) for one in considered]


def _reason(considered: Considered) -> str:
    if considered.objection.startswith("method"):
        return f"does not take {considered.objection}"
    return f"asks for {considered.objection}" if considered.objection else "less specific"


def _matched(
    said: Explanation, snapshot: Snapshot, name: str, exchange: Exchange, considered: Sequence[Considered]
) -> None:
    route = snapshot.document.routes[name]
    said.route, said.template = name, route.path
    said.params = {key: value.decode() for key, value in (exchange.params or {}).items()}
    for one in considered:
        if one.name == name:
            said.host_rule = one.host.decode()
            break
        said.passed_over.append((one.name, _reason(one)))
    said.chain = tuple(snapshot.chains.get(name, ()))
    said.answer = _answer(snapshot.document, route)
    if route.redirect is not None:
        said.location = location(route.redirect)(exchange).decode()
    if route.service:
        _sent(said, snapshot, route, exchange)


def _sent(said: Explanation, snapshot: Snapshot, route: model.Route, exchange: Exchange) -> None:
    """What would be sent, and to whom it could be."""
    service = snapshot.document.services[route.service]
    said.service, said.upstream = route.service, service.upstream
    rewrite = path_rewriter(route.strip_prefix, route.add_prefix)
    said.upstream_path = (exchange.path if rewrite is None else rewrite(exchange.path)).decode()
    if said.query is not None:
        said.upstream_path += f"?{said.query}"
    hosts = {"preserve": said.host, "target": "the target's address"}
    said.upstream_host = hosts.get(service.host, service.host)
    group, config = snapshot.upstreams[service.upstream], snapshot.document.upstreams[service.upstream]
    resolved = {target.address for target in group.targets}
    chosen = _hashed(group, config, exchange) if resolved.issuperset(each.address for each in config.targets) else ""
    for target in config.targets:
        note = "not resolved yet" if target.address not in resolved else ""
        note = f"its {_KEYS.get(config.hash_on, config.hash_on)} leads here" if target.address == chosen else note
        said.targets.append(TargetState(target.address, target.weight, note))


def _hashed(group: UpstreamGroup, config: model.Upstream, exchange: Exchange) -> str:
    """The address that a request's key leads to while all targets serve, "" if none leads anywhere."""
    if config.balance != "consistent_hash" or not key_of(config.hash_on)(exchange):
        return ""
    target = group.pick(exchange)
    return target.address if target is not None else ""


def _answer(document: model.Document, route: model.Route) -> str:
    if route.service:
        return f"service {route.service} → upstream {document.services[route.service].upstream}"
    if route.redirect is not None:
        return f"redirect {route.redirect.status} to {route.redirect.to}"
    if route.usage:
        return "what the caller has used"
    return f"reply {route.reply.status}" if route.reply is not None else "nothing"


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A row of `gatewayd routes`."""

    name: str
    path: str
    methods: tuple[str, ...]
    """None: any but TRACE and CONNECT."""
    hosts: tuple[str, ...]
    """None: any."""
    listeners: tuple[str, ...]
    conditions: tuple[str, ...]
    """Such as `header x-beta = 2`."""
    answer: str
    policies: tuple[str, ...]
    """Instances, in the order they run."""


def route_table(snapshot: Snapshot) -> list[RouteRow]:
    """All routes, in the order of the configuration."""
    document = snapshot.document
    return [
        RouteRow(
            name,
            route.path,
            tuple(route.methods),
            tuple(route.hosts),
            tuple(route.listeners) or tuple(document.listeners),
            tuple(_conditions(route)),
            _answer(document, route),
            tuple(link.instance for link in snapshot.chains.get(name, ())),
        )
        for name, route in document.routes.items()
    ]


def _conditions(route: model.Route) -> Iterator[str]:
    for kind, wanted in (("header", route.headers), ("query", route.query)):
        for name, value in wanted.items():
            yield f"{kind} {name}" if value == "*" else f"{kind} {name} = {value}"
