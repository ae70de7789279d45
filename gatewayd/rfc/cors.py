"""Cross-origin resource sharing: the header rules of the Fetch standard (§3.3), on lists of headers alone."""

from __future__ import annotations

from collections.abc import Sequence

from gatewayd.rfc.headers import HeaderList, elements, is_token, vary_on
from gatewayd.rfc.origin import Origins

Fields = tuple[tuple[bytes, bytes], ...]

_METHOD = b"access-control-request-method"
_HEADERS = b"access-control-request-headers"
_PRIVATE = b"access-control-request-private-network"
_REPLY_FIELDS = frozenset(
    {
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
        b"access-control-allow-private-network",
        b"access-control-expose-headers",
        b"access-control-max-age",
    }
)
_VARY = (b"vary", b"Origin")
_VARY_PREFLIGHT = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")


def origin_of(headers: HeaderList) -> bytes:
    """The request's `Origin`, b"" if it has none."""
    for name, value in headers:
        if name == b"origin":
            return value
    return b""


def is_preflight(headers: HeaderList) -> bool:
    """Whether an OPTIONS request is a CORS preflight (Fetch §3.3.1)."""
    names = [name for name, _ in headers]
    return b"origin" in names and _METHOD in names


class Sharing:
    """What pages of which origins may do. `methods` and `headers` may be `["*"]`: whatever a preflight asks for.

    `max_age` is in seconds. With `credentials` the origins have to be listed, for browsers refuse `*` then.
    """

    __slots__ = (
        "_any_header",
        "_everyone",
        "_expose",
        "_fixed",
        "_lists",
        "_private",
        "_reflects_method",
        "_watched",
        "origins",
    )

    def __init__(
        self,
        origins: Origins,
        methods: Sequence[str] = ("*",),
        headers: Sequence[str] = (),
        expose: Sequence[str] = (),
        credentials: bool = False,
        max_age: int = 0,
        private_network: bool = False,
    ) -> None:
        self.origins = origins
        self._fixed: Fields = ((b"access-control-allow-credentials", b"true"),) if credentials else ()
        self._everyone: Fields = ((b"access-control-allow-origin", b"*"),)
        self._expose = _listing(b"access-control-expose-headers", expose)
        self._reflects_method = "*" in methods
        self._any_header = "*" in headers
        self._lists: Fields = (
            (b"access-control-max-age", b"%d" % max_age),
            *(() if self._reflects_method else _listing(b"access-control-allow-methods", methods)),
            *(() if self._any_header else _listing(b"access-control-allow-headers", headers)),
        )
        self._private = private_network
        self._watched = _REPLY_FIELDS if origins.everyone else _REPLY_FIELDS | {b"vary"}

    def allowed(self, origin: bytes) -> Fields:
        """Reply fields that let pages of `origin` read, () if they may not."""
        if self.origins.everyone:
            return self._everyone
        if origin not in self.origins:
            return ()
        return ((b"access-control-allow-origin", origin), *self._fixed)

    def preflight(self, headers: HeaderList) -> Fields:
        """The answer to a preflight with these headers; an origin that may not ask is told nothing, which means no."""
        allowed = self.allowed(origin_of(headers))
        if not allowed:
            return (_VARY_PREFLIGHT,)
        fields = [_VARY_PREFLIGHT, *allowed, *self._lists]
        for name, value in headers:
            if name == _METHOD and self._reflects_method and is_token(value):
                fields.append((b"access-control-allow-methods", value))
            elif name == _HEADERS and self._any_header and all(map(is_token, elements([value]))):
                fields.append((b"access-control-allow-headers", value))
            elif name == _PRIVATE and self._private and value == b"true":
                fields.append((b"access-control-allow-private-network", b"true"))
        return tuple(fields)

    def mark(self, origin: bytes, reply: HeaderList) -> None:
        """Make `reply` say whether pages of `origin` (b"": no page asks) may read it, whatever the target said.

        `Vary: Origin` stands on every reply that depends on the origin, on those without one too: a shared cache
        would otherwise hand one caller's reply to another's page.
        """
        for name, _ in reply:
            if name in self._watched:
                self._clear(reply)
                break
        else:
            if not self.origins.everyone:
                reply.append(_VARY)
        if origin and (allowed := self.allowed(origin)):
            reply += allowed
            reply += self._expose

    def _clear(self, reply: HeaderList) -> None:
        reply[:] = [pair for pair in reply if not pair[0].startswith(b"access-control-")]
        if not self.origins.everyone:
            vary_on(reply, b"Origin")


def _listing(name: bytes, listed: Sequence[str]) -> Fields:
    return ((name, ", ".join(listed).encode()),) if listed else ()
