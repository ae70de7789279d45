"""An issuer of tokens as configurations describe it, and what becomes of the description: keys, rules, consumers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Protocol

from msgspec import Meta, Struct, field

from gatewayd.config.attachment import reached
from gatewayd.config.model import File, Positive, Span
from gatewayd.config.units import Duration
from gatewayd.core.policy import BuildContext
from gatewayd.errors import Fault
from gatewayd.identity.admission import Find, Finding, always
from gatewayd.identity.fetch import is_url, load_client
from gatewayd.identity.jose import Refused
from gatewayd.identity.jwk import SECRET, KeySet, load_library, secret_key
from gatewayd.identity.jwks import KeySource, Timing, from_discovery, from_file, from_url, read_file
from gatewayd.identity.tokens import TYPES, Rules

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"
]  # fmt: skip
Text = Annotated[str, Meta(min_length=1)]
_WAYS = ("jwks", "jwks_file", "discovery", "secret")
_Sources = dict[tuple[object, ...], KeySource]


class Issuer(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who signs tokens, with which keys, and whose they are. Exactly one of jwks, jwks_file, discovery and secret."""

    issuer: Annotated[str, Meta(pattern=r"^[^\x00-\x20|]+$")]  # as `iss` says it, letter for letter
    jwks: str = ""  # URL of its keys
    jwks_file: File = ""  # file with its keys; looked at again every `refresh`
    discovery: bool = False  # its keys are where <issuer>/.well-known/openid-configuration says
    secret: str = ""  # shared with the issuer, for HS256 and its like
    ca: File = ""  # PEM file: who signs its certificate; "": the system's
    algorithms: Annotated[list[Algorithm], Meta(min_length=1)]  # its tokens may be signed by these, and no others
    audience: list[Text] | Literal["any"]  # one of these must be meant by `aud`; "any": not asked
    type: str = ""  # `typ`, such as "at+jwt"; "": JWT, at+jwt or none
    required: list[Text] = field(default_factory=lambda: ["exp"])  # claims that must be there
    leeway: Duration = Duration(30)  # by which clocks may differ
    consumer: str = ""  # all its tokens are this consumer's
    consumer_claim: str = ""  # claim that holds the consumer's id; "": [[consumers.<id>.tokens]] names the subject
    consumers: Literal["known", "any"] = "known"  # any: subjects that nobody knows may come, too
    refresh: Span = Duration(300)  # how often its keys are asked for
    stale: Span = Duration(6 * 3600)  # how old they may become while it does not answer
    fetches_per_minute: Positive = 6  # at most, per worker, whatever tokens say

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Issuer({self.issuer!r})"


class Assigning(Protocol):
    """How tokens of an issuer are assigned to consumers: options as `Issuer` has them."""

    @property
    def issuer(self) -> str:
        """Under whose name `consumers.<id>.tokens` stand."""
        ...

    @property
    def consumer(self) -> str:
        """All are this consumer's; "": see the others."""
        ...

    @property
    def consumer_claim(self) -> str:
        """The claim that holds a consumer's id."""
        ...

    @property
    def consumers(self) -> Literal["known", "any"]:
        """Whether subjects that nobody knows may come."""
        ...


def check(issuers: Sequence[Issuer], context: BuildContext) -> list[Fault]:
    """All that is wrong with `issuers` beyond the types of their options."""
    faults: list[Fault] = []
    for at, each in enumerate(issuers):
        found = [*_wrong(each), *wrong_consumer(each, context)]
        if any(each.issuer == other.issuer for other in issuers[:at]):
            found.append(Fault("issuer", "stands there twice", found=each.issuer))
        faults += [Fault(f"issuers[{at}].{f.path}", f.message, f.found, f.allowed) for f in found]
    return faults


def _wrong(issuer: Issuer) -> Iterator[Fault]:
    ways = [way for way in _WAYS if getattr(issuer, way)]
    if len(ways) != 1:
        yield Fault("issuer", "its keys must come from one place", " ".join(ways), allowed=", ".join(_WAYS))
    if not issuer.audience:
        yield Fault("audience", "nobody is named, so no token would do", allowed='a list of at least one, or "any"')
    if issuer.jwks and not is_url(issuer.jwks):
        yield Fault("jwks", "is no http or https URL", issuer.jwks)
    if issuer.discovery and not is_url(issuer.issuer):
        yield Fault("issuer", "is no http or https URL, so nothing can be discovered there", issuer.issuer)
    for at, algorithm in enumerate(issuer.algorithms):
        if (algorithm in SECRET) != bool(issuer.secret):
            wanted = "a secret" if algorithm in SECRET else "public keys"
            yield Fault(f"algorithms[{at}]", f"goes with {wanted}", algorithm)
        elif issuer.secret and len(issuer.secret.encode()) * 8 < int(algorithm[2:]):
            yield Fault("secret", f"is too short for {algorithm}", allowed=f"{int(algorithm[2:]) // 8} bytes or more")
    if issuer.jwks_file:
        yield from _wrong_file(issuer.jwks_file)


def _wrong_file(path: str) -> Iterator[Fault]:
    try:
        if not read_file(path):
            yield Fault("jwks_file", "has no key that can be used", path)
    except Refused as error:
        yield Fault("jwks_file", f"is no key set ({error.reason})", path)
    except OSError as error:
        yield Fault("jwks_file", f"cannot be read: {error.strerror}", path)


def wrong_consumer(issuer: Assigning, context: BuildContext) -> Iterator[Fault]:
    """What is wrong with how tokens are assigned to consumers."""
    said = [name for name in ("consumer", "consumer_claim") if getattr(issuer, name)]
    if len(said) + (issuer.consumers == "any") > 1:
        yield Fault("consumers", "tokens can be assigned to consumers in one way only", ", ".join(said))
    if issuer.consumer and context.consumers.by_id(issuer.consumer) is None:
        yield Fault("consumer", "no consumer of this id", issuer.consumer)


def rules(issuer: Issuer, context: BuildContext) -> Rules:
    """What its tokens must be like. `check` has found nothing wrong."""
    kind = issuer.type.lower().removeprefix("application/")
    return Rules(
        issuer.issuer,
        _source(issuer, context),
        frozenset(issuer.algorithms),
        None if issuer.audience == "any" else frozenset(issuer.audience),
        frozenset({kind}) if kind else TYPES,
        frozenset(issuer.required),
        float(issuer.leeway),
    )


def find(issuer: Assigning, context: BuildContext) -> Find:
    """Whose its tokens are. `check` has found nothing wrong."""
    consumer = context.consumers.by_id(issuer.consumer) if issuer.consumer else None
    if consumer is not None:
        return always(consumer)
    anyone = issuer.consumers == "any"
    return Finding(issuer.issuer, context.consumers, context.clock.wall, issuer.consumer_claim, anyone).find


def _source(issuer: Issuer, context: BuildContext) -> KeySource:
    """Its keys, one `KeySource` per worker for all that ask for the same, kept over reloads."""
    timing = Timing(float(issuer.refresh), float(issuer.stale), issuer.fetches_per_minute)
    if issuer.secret:
        source = KeySource(issuer.issuer, None, timing, context.clock.monotonic)
        source.take(KeySet([secret_key(issuer.secret.encode())]))
        return source
    key = (issuer.issuer, issuer.jwks, issuer.jwks_file, issuer.ca, timing)
    sources: _Sources = context.kept.setdefault(("", "identity.issuer"), {})
    if key not in sources:
        if issuer.jwks_file:
            read = from_file(issuer.jwks_file)
        else:
            read = from_url(issuer.jwks, issuer.ca) if issuer.jwks else from_discovery(issuer.issuer, issuer.ca)
        sources[key] = KeySource(issuer.issuer, read, timing, context.clock.monotonic)
    if issuer.jwks_file:
        sources[key].take(read_file(issuer.jwks_file))
    elif context.arena is not None and in_use(context):
        _fetch_early(sources[key])
    return sources[key]


def in_use(context: BuildContext) -> bool:
    """Whether any route asks the instance: one that only stands there asks nobody for keys."""
    return context.instance in reached(context.document)


def _fetch_early(source: KeySource) -> None:
    """Where requests will be served, the first need not wait for keys if they can be fetched before it comes."""
    load_client()
    load_library()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not source.usable:
        source.begin()
