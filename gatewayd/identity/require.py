"""From "who is it" to "nobody else comes in": what every policy that authenticates does with its answer.

The texts of refusals are the same whatever was wrong: a stranger learns no more from them than that it was refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Authenticator, Identity, Outcome
from gatewayd.core.policy import AccessHook, BuildContext, Reply, Verdict
from gatewayd.core.problem import problem
from gatewayd.identity.guessing import Guessing, guessing

CONFLICT = problem(403, "identity_conflict", "the credentials of this request are not of one consumer")


def challenge(scheme: str, realm: str, **parameters: str) -> bytes:
    """The value of a WWW-Authenticate field (RFC 9110 §11.6.1), such as `Bearer realm="gatewayd"`."""
    pairs = [f'{name}="{_quoted(value)}"' for name, value in {"realm": realm, **parameters}.items()]
    return f"{scheme} {', '.join(pairs)}".encode()


def unauthorized(challenges: Iterable[bytes]) -> Reply:
    """The 401 for a credential that is refused, for whatever reason; `challenges` are values of `challenge`."""
    return problem(401, "credential_invalid", "the credential shown is not taken here", _fields(challenges))


def missing(challenges: Iterable[bytes]) -> Reply:
    """The 401 for a request that shows no credential, or not all that it needs."""
    return problem(401, "credential_missing", "this route asks who calls", _fields(challenges))


def insufficient_scope(scheme: str, realm: str, needed: Sequence[str] = ()) -> Reply:
    """The 403 of RFC 6750 §3.1; `needed` is what would do, if that may be said."""
    more = {"scope": " ".join(needed)} if needed else {}
    value = challenge(scheme, realm, error="insufficient_scope", **more)
    return problem(403, "insufficient_scope", "the credential does not reach so far", _fields([value]))


def require(authenticate: Authenticator, challenges: Sequence[bytes], context: BuildContext) -> AccessHook:
    """A hook that lets pass whom `authenticate` knows, and puts who that is on the exchange.

    Without a credential: 401 `credential_missing` with `challenges` (of `challenge`). Refused as invalid: counted
    against the caller's address (`identity.guessing`); one that fails too often is answered 429 before anything it
    shows is looked at. A second policy on the route has to find the same consumer, else 403 `identity_conflict`.
    """
    nothing = missing(challenges)
    failures = guessing(context)
    refusal, known = failures.refusal, failures.known
    settle = _settler(nothing, failures)

    async def wait(exchange: Exchange, waiting: Awaitable[Outcome]) -> Verdict:
        return settle(exchange, await waiting)

    def access(exchange: Exchange) -> Verdict | Awaitable[Verdict]:
        if known and (refused := refusal(exchange)) is not None:
            return refused
        found = authenticate(exchange)
        if found.__class__ is Identity and exchange.identity is None:  # the common case first
            exchange.identity = found
            return None
        if found is None or isinstance(found, Identity | Reply):
            return settle(exchange, found)
        return wait(exchange, found)

    return access


def agree(first: Identity, second: Identity) -> Identity | Reply:
    """Two credentials that must both hold: one identity with what both say, or 403 `identity_conflict`."""
    if first.consumer.id != second.consumer.id:
        return CONFLICT
    return Identity(
        second.consumer,
        f"{first.method}+{second.method}",
        f"{first.credential}+{second.credential}",
        first.scopes | second.scopes,
        {**first.claims, **second.claims},
    )


def _settler(missing: Reply, failures: Guessing) -> Callable[[Exchange, Outcome], Verdict]:
    """What becomes of an exchange by what was found out."""

    def settle(exchange: Exchange, found: Outcome) -> Verdict:
        if found is None:
            return missing
        if isinstance(found, Identity) and exchange.identity is not None:
            found = agree(exchange.identity, found)
        if isinstance(found, Reply):
            if found.code == "credential_invalid":
                failures.failed(exchange)
            return found
        exchange.identity = found
        return None

    return settle


def _fields(challenges: Iterable[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple((b"www-authenticate", value) for value in challenges)


def _quoted(value: str) -> str:
    """As a quoted string can hold it (RFC 9110 §5.6.4)."""
    return value.replace("\\", "\\\\").replace('"', '\\"')
