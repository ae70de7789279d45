"""The document: every option there is, its type and its true default. What `conf.toml` means is said here.

Values arrive validated: durations are seconds, sizes are bytes (`config.units`), relative file names have
become absolute. What one value may be is said here, in its type; rules that span several values (dangling
names, shadowed routes, unreadable files) live in `config.check` and `gateway.build`. A policy's own options
are not here but in its file's `Config`; the document holds them as the table `policies.<name>`. The comment
behind an option is its description in the JSON Schema (`config.schema`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, field

from gatewayd.config.alerts import Alerts
from gatewayd.config.collector import Collector
from gatewayd.config.consumers import Consumer
from gatewayd.config.sinks import AnySink
from gatewayd.config.tracing import Tracing
from gatewayd.config.units import Duration, Rate, Size, from_plain
from gatewayd.config.values import (
    Address,
    Balance,
    Bytes,
    Count,
    FieldName,
    FieldValue,
    File,
    HashOn,
    HostPattern,
    Method,
    Name,
    PathTemplate,
    Positive,
    Prefix,
    ProbeHost,
    Protocol,
    Section,
    SentHost,
    ServerName,
    Share,
    Span,
    Status,
    Token,
)

__all__ = [
    "Bytes",
    "Count",
    "FieldName",
    "FieldValue",
    "File",
    "Method",
    "Name",
    "Positive",
    "Prefix",
    "Section",
    "Span",
    "Status",
    "Token",
]
"""What policies import from here though it stands in `config.values`."""


class Paths(Section, frozen=True):
    """What becomes of a path's odd spellings before routes are matched; dot segments are always resolved."""

    encoded_slash: Literal["refuse", "keep"] = "refuse"  # %2F: answer 400, or take it as a mere letter
    semicolon: Literal["refuse", "keep"] = "refuse"  # ";": answer 400, or take it as a mere letter
    empty_segments: Literal["merge", "refuse"] = "merge"  # "//": read as one slash, or answer 400


class Gateway(Section, frozen=True):
    """The daemon as a whole."""

    name: Token = "gatewayd"  # our pseudonym in Via
    workers: Positive | Literal["auto"] = "auto"  # auto: one per core this process may run on
    policies: list[str] = field(default_factory=list)  # instances applied to every route
    drain_timeout: Duration = Duration(30)  # after SIGTERM: exchanges still running then are cut off
    drain_idle_grace: Duration = Duration(5)  # while draining: idle connections are closed only after this
    state_dir: File = ""  # what must outlive the daemon; "": $STATE_DIRECTORY, else ~/.local/state/gatewayd
    pid_file: File = ""  # where the supervisor writes its process id; "": nowhere
    paths: Paths = Paths()  # odd spellings of request paths


class Control(Section, frozen=True):
    """Listener of the control process: /livez /readyz /status /metrics. Keep it off the public network."""

    enabled: bool = True  # off: no control process, no probes, no metrics
    address: Address = "127.0.0.1:9901"  # "host:port", "[::1]:port" or "unix:/path"


class AccessLog(Section, frozen=True):
    """One JSON line per exchange."""

    enabled: bool = True  # whether lines are written at all
    path: File = "stdout"  # stdout, stderr or a file, reopened on SIGUSR1
    buffer: Bytes = Size(64 * 1024)  # written when full, and at the latest after flush_interval
    flush_interval: Span = Duration(1)  # the longest a line waits in the buffer


class Audit(Section, frozen=True):
    """One record for every call, in hash-chained and signed files: `<state_dir>/audit`. docs/audit.md"""

    enabled: bool = False  # whether records are written at all
    mode: Literal["batched", "strict"] = "batched"  # strict: replies leave once their records are on the disk
    commit_interval: Span = Duration(0.1)  # how often records are signed and, batched, put on the disk
    on_full: Literal["refuse", "drop"] = "refuse"  # what becomes of calls while no record can be written
    limit: Size = Size(0)  # bytes of all segments that count as full; 0: the disk's end
    segment_size: Bytes = Size(16 * 1024 * 1024)  # a segment ends behind this …
    segment_age: Span = Duration(3600)  # … or after this
    retention: Duration = Duration(0)  # segments older than this go, with their proof kept; 0: none goes
    archive: File = ""  # folder they go to; "": they are deleted
    addresses: Literal["full", "masked", "none"] = "full"  # masked: to /24 and /48
    seal: bool = True  # personal data under a key per consumer, so that it can be erased


class Limits(Section, frozen=True):
    """What callers can use up. Connections are counted per worker."""

    connections: Positive = 10_000  # open at once; more are closed at once
    connections_per_address: Positive = 1_000  # per IPv4 address or IPv6 /64
    head: Bytes = Size(32 * 1024)  # request line and headers together; more: 431
    headers: Positive = 100  # header fields; more: 431
    target: Bytes = Size(8 * 1024)  # path and query; more: 414
    body: Size = Size(1024**3)  # request body; more: 413; 0: no limit
    requests_per_connection: Positive = 100_000  # the last one is answered with Connection: close
    reply_head: Bytes = Size(64 * 1024)  # a target's status line and headers; more: 502
    reply_headers: Positive = 200  # a target's header fields; more: 502


class Timeouts(Section, frozen=True):
    """How long callers may take."""

    head: Span = Duration(10)  # from the first byte (or the accept) to the end of the head, in all
    body_idle: Span = Duration(30)  # between two pieces of a request body
    body_min_rate: Rate = Rate(240)  # bytes per second over the whole body, after body_grace; 0: off
    body_grace: Duration = Duration(10)  # how long a body may be slower than body_min_rate
    keepalive: Span = Duration(75)  # between two requests of a connection
    send_idle: Span = Duration(60)  # a caller who reads nothing for so long is cut off
    handshake: Span = Duration(10)  # TLS, from the accept
    linger: Duration = Duration(2)  # reading on after an early refusal, so that the caller sees the reply


class Certificate(Section, frozen=True):
    """A chain and its key, both PEM files; its subject alternative names say which hosts it serves."""

    cert: File  # PEM file: the certificate, then the chain
    key: File  # PEM file: its private key, not encrypted


class ListenerTls(Section, frozen=True):
    """TLS at a listener. The first certificate serves callers that send no or an unknown server name."""

    certificates: Annotated[list[Certificate], Meta(min_length=1)]  # picked by server name
    profile: Literal["modern", "intermediate"] = "intermediate"  # modern: TLS 1.3 only; intermediate: 1.2 too
    client_auth: Literal["none", "optional", "require"] = "none"  # whether callers show a certificate
    client_ca: File = ""  # PEM file: who signs the callers' certificates
    session_tickets: bool = True  # resumption of earlier sessions


class Listener(Section, frozen=True):
    """Where callers connect."""

    address: Address  # "host:port", "[::]:port" or "unix:/path"
    tls: ListenerTls | None = None  # none: plain HTTP
    proxy_protocol: bool = False  # PROXY v1/v2 required from trusted_proxies, refused from anyone else
    trusted_proxies: list[str] = field(default_factory=list)  # CIDRs whose X-Forwarded-* are believed
    backlog: Positive = 4096  # connections the kernel holds for us until they are accepted


class Target(Section, frozen=True):
    """One instance of an upstream."""

    address: Address  # "host:port" or "unix:/path"; names are resolved again every resolve_interval
    weight: Count = 1  # its share among the targets; 0: none


class UpstreamTls(Section, frozen=True):
    """TLS towards the targets."""

    verify: bool = True  # check the target's certificate and name
    sni: ServerName = ""  # server name to send and to verify; "": the target's host name
    ca: File = ""  # PEM file; "": the system's
    cert: File = ""  # PEM file: our certificate, if targets ask for one
    key: File = ""  # PEM file: its private key


class Pool(Section, frozen=True):
    """Keep-alive connections, per worker and target."""

    connections: Positive = 1_024  # at most, busy ones included; more wait in line
    idle_connections: Count = 64  # kept open though nobody needs them now
    idle_timeout: Span = Duration(30)  # shorter than the target's own, or a stale one is met
    requests_per_connection: Positive = 100_000  # then it is closed and another is dialled
    queue: Count = 1_024  # exchanges that may wait for a connection; more are answered 503


class ActiveHealth(Section, frozen=True):
    """Probes, sent by every worker on its own; off without a path."""

    path: Prefix = ""  # what to GET, such as /health; "": no probes
    host: ProbeHost = ""  # Host to send; "": the target's
    interval: Span = Duration(5)  # between two probes of a target
    timeout: Span = Duration(2)  # a slower answer is a failure
    healthy_after: Positive = 2  # good answers in a row
    unhealthy_after: Positive = 3  # failures in a row
    statuses: list[Status] = field(default_factory=lambda: [200, 204])  # what counts as good


class PassiveHealth(Section, frozen=True):
    """Outlier ejection: a target that fails real exchanges in a row rests for a while."""

    enabled: bool = True  # off: only active probes take a target out
    failures: Positive = 5  # in a row: connect errors, timeouts, broken replies, statuses
    statuses: list[Status] = field(default_factory=lambda: [502, 503, 504])  # replies that count as failures
    eject: Span = Duration(10)  # grows with each ejection in a row, tenfold at most
    max_ejected: Share = 0.5  # share of the targets that may rest at once


class Breaker(Section, frozen=True):
    """Circuit breaker over the whole upstream: opens at a share of failed exchanges, probes, closes."""

    enabled: bool = True  # whether it ever opens
    failure_share: Annotated[float, Meta(gt=0, le=1)] = 0.5  # opens when so many of the window's failed
    min_requests: Positive = 20  # never opens on fewer exchanges in a window
    window: Span = Duration(10)  # over which exchanges are counted
    open_for: Span = Duration(5)  # answers 503 for so long, then tries again
    probes: Positive = 3  # exchanges that must all succeed before it closes


class Upstream(Section, frozen=True):
    """Targets that serve the same thing."""

    targets: Annotated[list[Target], Meta(min_length=1)]  # who serves
    balance: Balance = "p2c_ewma"  # how one is picked
    hash_on: HashOn = "ip"  # consistent_hash: "ip", "header:<name>" or "cookie:<name>"
    resolve_interval: Span = Duration(30)  # how often names are looked up again
    slow_start: Duration = Duration(0)  # a new or recovered target's share grows over this; 0: at once
    tls: UpstreamTls | None = None  # none: plain HTTP
    pool: Pool = Pool()  # kept connections
    active_health: ActiveHealth = ActiveHealth()  # probes
    passive_health: PassiveHealth = PassiveHealth()  # what real exchanges teach
    breaker: Breaker = Breaker()  # when the whole upstream fails


class Retries(Section, frozen=True):
    """Attempts beyond the first; only where no reply byte came and the method allows it."""

    attempts: Count = 2  # beyond the first; 0: none
    statuses: list[Status] = field(default_factory=list)  # replies to idempotent requests to try again
    budget: Share = 0.2  # retries as a share of requests, over ten seconds …
    budget_min: Count = 10  # … but as many are always allowed
    body: Size = Size(64 * 1024)  # request bodies up to this are kept for a second attempt


class ServiceTimeouts(Section, frozen=True):
    """How long targets may take. 0: no limit."""

    connect: Duration = Duration(5)  # until the connection stands, TLS included
    first_byte: Duration = Duration(60)  # from the request's end to the reply's first byte
    idle: Duration = Duration(60)  # between two reads or writes of one exchange
    total: Duration = Duration(0)  # the whole exchange, retries included
    tunnel_idle: Duration = Duration(600)  # after an upgrade


class Service(Section, frozen=True):
    """An API behind the gateway: an upstream and how to speak with it."""

    upstream: str  # name of the upstream
    host: SentHost = "preserve"  # "preserve", "target", or the literal host to send
    policies: list[str] = field(default_factory=list)  # instances applied to its routes
    timeouts: ServiceTimeouts = ServiceTimeouts()  # how long targets may take
    retries: Retries = Retries()  # attempts beyond the first


class Redirect(Section, frozen=True):
    """Answer with a redirection. `to` may use {path}, {query}, {host} and the route's path parameters."""

    to: Annotated[FieldValue, Meta(min_length=1)]  # the Location; may use {path}, {query}, {host}, path parameters
    status: Literal[301, 302, 303, 307, 308] = 308  # 307 and 308 keep the method


class StaticReply(Section, frozen=True):
    """Answer from the configuration."""

    status: Annotated[int, Meta(ge=200, le=599)] = 200  # of the reply
    body: str = ""  # its text
    file: File = ""  # read at load; instead of body
    content_type: FieldValue = "text/plain; charset=utf-8"  # Content-Type of the reply
    headers: dict[FieldName, FieldValue] = field(default_factory=dict)  # more headers of the reply


class Route(Section, frozen=True):
    """Which requests, and what answers them: exactly one of `service`, `redirect`, `reply`, `usage`."""

    path: PathTemplate  # "/a/{id}", "{id:int}", "{id:uuid}", "{id:/regex/}", tails "{rest*}" or "/*"
    hosts: list[HostPattern] = field(default_factory=list)  # "api.example.com", "*.example.com"; none: any
    methods: list[Method] = field(default_factory=list)  # none: any but TRACE and CONNECT
    headers: dict[FieldName, str] = field(default_factory=dict)  # name = exact value; "*": present
    query: dict[str, str] = field(default_factory=dict)  # parameter = exact value; "*": present
    listeners: list[str] = field(default_factory=list)  # none: all
    service: str = ""  # name of the service that answers
    redirect: Redirect | None = None  # instead of a service
    reply: StaticReply | None = None  # instead of a service
    usage: bool = False  # instead of a service: callers are told what they have used of their limits
    strip_prefix: Prefix = ""  # removed from the path before it is sent on
    add_prefix: Prefix = ""  # put before what is left
    rewrite_location: bool = True  # undo strip/add in Location, Content-Location and cookie paths of replies
    upgrades: list[Protocol] = field(default_factory=lambda: ["websocket"])  # protocols; "*": any; []: none
    policies: list[str] = field(default_factory=list)  # instances, beside the service's and the gateway's
    body: Size | None = None  # instead of limits.body


class Plan(Section, frozen=True):
    """What consumers subscribe to: policies that hold for them on every route that asks who they are."""

    policies: list[str] = field(default_factory=list)  # instances that run behind authentication: limits, acl, …


class PolicyTable(Section, frozen=True):
    """What every table `policies.<instance>` may hold beside the policy's own options."""

    policy: str = ""  # which policy it configures; "": the one of the instance's own name
    mode: Literal["enforce", "observe"] = "enforce"  # observe: note refusals, but let exchanges pass
    failure: Literal["closed", "open"] = "closed"  # open: let exchanges pass if the policy itself fails


class Dpop(Section, frozen=True):
    """Proofs that who shows a token holds its key (RFC 9449), for tokens bound to one: jwt and introspection."""

    algorithms: list[
        Literal["ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"]
    ] = field(default_factory=lambda: ["ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256"])  # taken
    max_age: Span = Duration(60)  # a proof older than this is refused
    leeway: Duration = Duration(10)  # by which clocks may differ
    nonces: bool = False  # proofs must hold a nonce of ours, five to ten minutes old at most
    proofs: Positive = 262_144  # used ones remembered at once, per worker; 20 bytes each


class Identity(Section, frozen=True):
    """Who consumers are and how what they show is checked; policies such as `api_key` ask for it."""

    environment: Annotated[str, Meta(pattern=r"^[a-z0-9]{1,16}$")] = "live"  # second part of API keys: gw_live_…
    pepper: str = ""  # secret that keys the hashes of API keys; at least 32 characters; needed by api_key
    consumers_file: File = ""  # more consumers, one JSON object per line; "": only those of [consumers]
    realm: FieldValue = "gatewayd"  # named in WWW-Authenticate
    failures_per_address: Rate = Rate(30, 60)  # refused credentials; then 429, IPv6 counts per /64; 0: no limit
    dpop: Dpop = Dpop()  # proofs of possession


class Redis(Section, frozen=True):
    """A Redis server that several machines share. Requests never wait for it."""

    url: str = ""  # redis://host:6379/0, rediss:// with TLS, unix:///path; "": none
    timeout: Span = Duration(0.1)  # for connecting and for every answer
    prefix: str = "gatewayd:"  # before every key


class Document(Section, frozen=True):
    """A whole configuration."""

    include: list[str] = field(default_factory=list)  # more files: names or globs, relative to this one
    gateway: Gateway = Gateway()  # the daemon as a whole
    control: Control = Control()  # probes and metrics
    access_log: AccessLog = AccessLog()  # one JSON line per exchange
    audit: Audit = Audit()  # one record per call, and the proof of it
    tracing: Tracing = Tracing()  # where spans of sampled calls go
    collector: Collector = Collector()  # the store that records are collected in
    alerts: Alerts = Alerts()  # what is told when traffic is not as usual
    identity: Identity = Identity()  # how consumers are known
    redis: Redis = Redis()  # shared by several machines
    limits: Limits = Limits()  # what callers can use up
    timeouts: Timeouts = Timeouts()  # how long callers may take
    listeners: dict[Name, Listener] = field(default_factory=dict)  # where callers connect
    upstreams: dict[Name, Upstream] = field(default_factory=dict)  # targets that serve the same thing
    services: dict[Name, Service] = field(default_factory=dict)  # APIs behind the gateway
    routes: dict[Name, Route] = field(default_factory=dict)  # which requests, and what answers them
    consumers: dict[Name, Consumer] = field(default_factory=dict)  # who is known, and by what
    plans: dict[Name, Plan] = field(default_factory=dict)  # what consumers subscribe to
    sinks: dict[Name, AnySink] = field(default_factory=dict)  # where call records go besides the store
    policies: dict[Name, dict[str, Any]] = field(default_factory=dict)  # policy instances, by name

    def __repr__(self) -> str:
        """Counts only: values may have come from secrets."""
        tables = ("listeners", "upstreams", "services", "routes", "consumers", "policies")
        return f"<Document {' '.join(f'{name}={len(getattr(self, name))}' for name in tables)}>"


def decode(raw: dict[str, Any]) -> Document:
    """The document of `raw`, plain data that `config.load` found to be without fault.

    Cheap to import and to run, for workers. Raises `msgspec.ValidationError` on anything else.
    """
    return msgspec.convert(raw, Document, dec_hook=from_plain)
