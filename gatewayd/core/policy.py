"""What a policy is to the data path: a few closures, made at load time.

A policy is one file in `policies/` with a docstring, a `Config` (a frozen msgspec struct), `STACKS` and
`build(config, context) -> Hooks`. A refusal is a value (`Reply`), never an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from gatewayd.config.model import Document
from gatewayd.core.arena import Arena
from gatewayd.core.clock import Clock, SystemClock
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from gatewayd.core.identity import Authenticator, Consumer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer made by the gateway itself. `code` is the stable problem code, "" if it is no refusal."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    code: str = ""


class Undecided(GatewaydError):
    """A policy cannot decide now, because what it asks is out of order: raised where it fails by no fault of its own.

    `reply` is what the caller gets if the policy fails closed.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.code)
        self.reply = reply


Verdict = Reply | None
AccessHook = Callable[[Exchange], "Verdict | Awaitable[Verdict]"]
"""None lets the exchange go on; a `Reply` ends it there."""
ReplyHook = Callable[[Exchange, Headers], None]
"""May change the reply's header list in place; `exchange.status` holds the status. Runs on every reply of the route,
refusals included."""
LogHook = Callable[[Exchange], None]
"""Runs exactly once, after the reply; must not raise or wait."""
Handler = Callable[[Exchange], None]
"""Answers an exchange that every access hook let through."""


Figures = Callable[[], dict[str, int]]
"""What an instance says of itself, by name (`server.told` knows the names). Asked in the worker's loop; cheap."""


class Limit(Protocol):
    """One limit of an exchange. Those of a route are taken in one step: if one refuses, the others get it back."""

    def take(self, exchange: Exchange, now: int) -> Reply | None:
        """Charge `exchange` at monotonic nanosecond `now`; the refusal, with nothing charged, if there is no room."""
        ...

    def give_back(self, exchange: Exchange) -> None:
        """Another limit of the step refused: undo `take`, if it charged anything. The exchange is as it was then."""
        ...


class Usage(NamedTuple):
    """What somebody has used of a limit, in requests or what they weigh."""

    limit: int
    used: int
    remaining: int
    resets_in: int
    """Seconds until all of it is there again."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a policy does, None where it does nothing. `explain` is one line for `gatewayd explain`."""

    access: AccessHook | None = None
    reply: ReplyHook | None = None
    log: LogHook | None = None
    explain: str = ""
    limit: Limit | None = None
    """Decided together with the route's other limits, at the place of the first of them in ORDER."""
    usage: Callable[[Exchange, int], Usage | None] | None = None
    """Of a limit: what the caller has used at monotonic nanosecond `now`; None: that is not told. Charges nothing."""
    authenticate: Authenticator | None = None
    """Of a policy that authenticates: the bare question, for policies that combine several. `access` asks it too."""
    challenges: tuple[bytes, ...] = ()
    """Of such a policy: values for WWW-Authenticate, which say how one may show who one is."""
    tells: frozenset[bytes] = frozenset()
    """Fields by which it tells targets who calls, and which callers could send themselves where it does not run.
    Whoever asks such a policy for `authenticate` takes their copies out first."""
    handler: Callable[[Handler], Handler] | None = None
    """Wraps the route's handler: a policy that may answer in its stead, or ask it on behalf of several exchanges."""
    why: Callable[[Exchange], str] | None = None
    """For `gatewayd explain` with a request at hand: what of the configuration decides about it."""


class Consumers(Protocol):
    """All consumers of a generation and their credentials (`identity.consumers`)."""

    def by_id(self, consumer: str) -> Consumer | None:
        """The consumer of that id."""
        ...

    def by_credential(self, kind: str, key: bytes) -> Credential | None:
        """The credential of `kind` ("key", "basic", "certificate", "token", "signature") found under `key`.

        What `key` is depends on the kind: for API keys their keyed hash, never the key itself.
        """
        ...


@dataclass(frozen=True, slots=True)
class Credential:
    """What a consumer may show. Times are seconds since the epoch, 0 for no limit; `data` depends on the kind."""

    consumer: Consumer
    id: str
    """For logs; tells nothing secret."""
    not_before: float = 0.0
    expires: float = 0.0
    scopes: frozenset[str] = frozenset()
    data: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Without `data`: it may hold secrets."""
        return f"Credential({self.id!r})"


class NoConsumers:
    """No consumers at all."""

    def by_id(self, consumer: str) -> Consumer | None:
        """None."""
        return None

    def by_credential(self, kind: str, key: bytes) -> Credential | None:
        """None."""
        return None


@dataclass(slots=True)
class BuildContext:
    """What a policy's `build` may lean on."""

    instance: str = ""
    """Name of the table `policies.<instance>`."""
    route: str = ""
    """Name of the route it is built for."""
    clock: Clock = field(default_factory=SystemClock)
    kept: dict[tuple[str, str], Any] = field(default_factory=dict)
    document: Document = field(default_factory=Document)
    """The whole configuration, for sections that several policies share (`identity`, `redis`, …)."""
    arena: Arena | None = None
    """Memory shared by the workers; None where nothing is served (`check`, `explain`): policies then make their own."""
    worker: int = 0
    """Which worker this is, from 0; a cell of shared memory is written by one worker alone."""
    workers: int = 1
    """Cells a row of shared counters has, a power of two: `worker` is below it (`core.workers.columns`)."""
    consumers: Consumers = field(default_factory=NoConsumers)
    hooks_of: Callable[[str], Hooks] | None = None
    """The hooks of another instance, for policies that combine. Raises `ConfigError`: none of that name, or a cycle."""

    topics: dict[str, list[Callable[[bytes], Any]]] = field(default_factory=dict)
    figures: dict[str, list[Figures]] = field(default_factory=dict)

    def hear(self, topic: str, answer: Callable[[bytes], Any]) -> None:
        """Have `answer` told what the supervisor tells all workers on `topic`, as long as this generation serves.

        It returns what JSON can say, and does not wait.
        """
        self.topics.setdefault(topic, []).append(answer)

    def show(self, figures: Figures) -> None:
        """Have what `figures` says stand in `/status` and among the metrics, as long as this generation serves."""
        self.figures.setdefault(self.instance, []).append(figures)

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """The object `name` of this instance, carried over reloads (counters, pools); made on first use."""
        key = (self.instance, name)
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found


class Route:
    """A route as compiled for serving: all decisions that do not depend on the request are made."""

    __slots__ = (
        "access",
        "body_limit",
        "by_plan",
        "handler",
        "hosts",
        "log",
        "name",
        "operation",
        "path",
        "reply",
        "service",
        "slot",
        "upgrades",
    )

    def __init__(self, name: str, handler: Handler) -> None:
        self.name = name
        self.handler = handler
        self.service = ""
        self.path = ""  # the template
        self.operation: Any = None  # as its call records have it, encoded; None: calls are not recorded
        self.hosts: tuple[str, ...] = ()
        self.access: tuple[tuple[str, AccessHook], ...] = ()  # (policy instance, hook), in ORDER
        self.reply: tuple[ReplyHook, ...] = ()
        self.log: tuple[LogHook, ...] = ()
        self.slot = 0  # index of its row in shared memory
        self.body_limit = 0  # bytes; 0: none
        self.upgrades: frozenset[bytes] = frozenset()  # {b"*"}: any
        self.by_plan: dict[str, Route] | None = None  # how it goes on behind `access`, by the plan of who calls
