"""Tokens that only their issuer can read: it is asked what they are worth (RFC 7662).

Answers are believed for a while, the good ones no longer than the token lasts: also those about tokens that then let
nobody in, or their bearers could have us ask without end. However many show a token at once, it is asked about once. A
server that does not answer, or not in a way that can be understood, is left alone for a while: callers are then told at
once that nothing can be said, instead of waiting in line.
"""

from __future__ import annotations

import base64
import logging
import math
import re
from collections.abc import Awaitable
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import quote_plus, urlencode

from gatewayd.core.clock import Clock
from gatewayd.core.policy import Undecided
from gatewayd.identity.fetch import Fetched, FetchError, Shared, fetch
from gatewayd.identity.jose import LIMIT, Refused, members
from gatewayd.identity.tokens import UNAVAILABLE, Verified, date, is_meant_for

T = TypeVar("T")

_log = logging.getLogger(__name__)

ANSWER_LIMIT = 64 * 1024
"""Bytes of an answer."""
FAILURES = 3
"""In a row, after which the server is left alone."""
LONGEST_REST = 10.0
"""Seconds; it begins with one, and doubles."""
_TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")  # b64token of RFC 6750 §2.1


class Server(NamedTuple):
    """Who is asked, and how we say who we are. The secret is never shown."""

    url: str
    client: str
    secret: str
    auth: Literal["basic", "post"] = "basic"
    timeout: float = 2.0
    """Seconds for the whole call."""
    ca: str = ""

    def __repr__(self) -> str:
        return f"<Server {self.url}>"

    def question(self, token: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body of the request (RFC 7662 §2.1, RFC 6749 §2.3.1)."""
        fields = {"token": token.decode("ascii"), "token_type_hint": "access_token"}
        headers = [(b"accept", b"application/json"), (b"content-type", b"application/x-www-form-urlencoded")]
        if self.auth == "post":
            fields |= {"client_id": self.client, "client_secret": self.secret}
        elif self.client:
            pair = f"{quote_plus(self.client)}:{quote_plus(self.secret)}"
            headers.append((b"authorization", b"Basic " + base64.b64encode(pair.encode())))
        return headers, urlencode(fields).encode()


class Belief(NamedTuple):
    """What is believed, and for how long. Times are seconds."""

    issuer: str = ""
    """What answers must say as `iss` if they say any; "": whatever."""
    audiences: frozenset[str] = frozenset()
    """One of these must be meant; none: the server knows whom it answers."""
    good: float = 60.0
    bad: float = 10.0
    remembered: int = 10_000
    """Good tokens."""
    bad_remembered: int = 10_000


class Introspection:
    """Asks about tokens."""

    def __init__(self, server: Server, belief: Belief, clock: Clock) -> None:
        self._server = server
        self._belief = belief
        self._clock = clock
        self._good: dict[bytes, Verified] = {}  # by digest, the oldest first
        self._bad: dict[bytes, float] = {}  # monotonic seconds at which they may be asked about again
        self._flight: Shared[dict[str, Any]] = Shared()
        self._breaker = Breaker()

    def verify(self, token: bytes) -> Verified | Awaitable[Verified]:
        """A `tokens.Verify`. Raises `Refused` at once for what cannot be a token, or was bad lately.

        Awaited it raises `Undecided` where the server does not say.
        """
        if len(token) > LIMIT or not _TOKEN.fullmatch(token):
            raise Refused("malformed")
        digest = sha256(token).digest()
        now = self._clock.monotonic()
        if self._bad.get(digest, 0.0) > now:
            raise Refused("inactive")
        known = self._good.get(digest)
        if known is not None and known.due > now and known.expires > self._clock.wall():
            return known
        return self._ask(token, digest)

    async def _ask(self, token: bytes, digest: bytes) -> Verified:
        try:
            claims = await self._flight.get(digest, lambda: self._fetch(token))
        except FetchError:
            raise Undecided(UNAVAILABLE) from None
        belief = self._belief
        try:
            verified = self._judge(claims)
        except Refused:
            _remember(self._bad, digest, self._clock.monotonic() + belief.bad, belief.bad_remembered)
            raise
        _remember(self._good, digest, verified, belief.remembered)
        return verified

    async def _fetch(self, token: bytes) -> dict[str, Any]:
        """The server's answer. Raises `FetchError`."""
        server, breaker, now = self._server, self._breaker, self._clock.monotonic
        if not breaker.allow(now()):
            raise FetchError("resting")
        headers, body = server.question(token)
        try:
            answer = read(
                await fetch(
                    server.url,
                    method="POST",
                    headers=headers,
                    body=body,
                    timeout=server.timeout,
                    limit=ANSWER_LIMIT,
                    ca=server.ca,
                )
            )
        except FetchError as error:
            breaker.failed(now())
            _log.warning("%s cannot say what a token is worth: %s", server.url, error.reason)
            raise
        breaker.succeeded()
        return answer

    def _judge(self, claims: dict[str, Any]) -> Verified:
        """RFC 7662 §2.2: `active` alone says that it is good; what it says besides must fit. Raises `Refused`."""
        if not claims["active"]:
            raise Refused("inactive")
        belief, now = self._belief, self._clock.wall()
        expires = date(claims, "exp", math.inf)
        if expires <= now or date(claims, "nbf", 0.0) > now:
            raise Refused("expired")
        if belief.issuer and claims.get("iss", belief.issuer) != belief.issuer:
            raise Refused("issuer")
        if belief.audiences and not is_meant_for(claims.get("aud"), belief.audiences):
            raise Refused("audience")
        return Verified(claims, belief.issuer, expires, self._clock.monotonic() + belief.good)


def _remember(table: dict[bytes, T], digest: bytes, value: T, most: int) -> None:
    table.pop(digest, None)
    if len(table) >= most > 0:
        del table[next(iter(table))]
    if most:
        table[digest] = value


def read(answer: Fetched) -> dict[str, Any]:
    """What an answer says. Raises `FetchError` for one that is none: `active` must be true or false, and no text."""
    if answer.status != 200:
        raise FetchError(f"status_{answer.status}")
    kinds = [value for name, value in answer.headers if name == b"content-type"]
    if [kind.partition(b";")[0].strip().lower() for kind in kinds] != [b"application/json"]:
        raise FetchError("not_json")
    try:
        found = members(answer.body)
    except Refused:
        raise FetchError("not_json") from None
    if not isinstance(found.get("active"), bool):
        raise FetchError("not_active_or_inactive")
    return found


class Breaker:
    """Leaves a server alone that fails: after some failures in a row for a while, then one call tries again."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = -math.inf

    def allow(self, now: float) -> bool:
        """Whether the server may be asked at monotonic second `now`. While it rests one call per rest may."""
        if self._failures < FAILURES:
            return True
        if now < self._until:
            return False
        self._rest(now)
        return True

    def failed(self, now: float) -> None:
        """A call failed."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._rest(now)

    def succeeded(self) -> None:
        """A call was answered."""
        self._failures = 0

    def _rest(self, now: float) -> None:
        self._until = now + min(LONGEST_REST, 2.0 ** min(self._failures - FAILURES, 8))
