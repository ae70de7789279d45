"""Tokens that only their issuer can read: it is asked what they are worth (RFC 7662), and the answer remembered."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from gatewayd.config.model import Count, File, Span
from gatewayd.config.units import Duration
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity import issuer
from gatewayd.identity.claims import Bearing, hooks
from gatewayd.identity.fetch import is_url, load_client
from gatewayd.identity.introspection import Belief, Introspection, Server

STACKS = False

Text = Annotated[str, Meta(min_length=1)]


class Config(Bearing, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `introspection`."""

    url: str  # where tokens are asked about
    client_id: str = ""  # who we are there; "": nobody in particular
    client_secret: str = ""  # and how we prove it
    auth: Literal["basic", "post"] = "basic"  # how both are sent: client_secret_basic or client_secret_post
    ca: File = ""  # PEM file: who signs the server's certificate; "": the system's
    timeout: Span = Duration(2)  # for a whole answer
    max_age: Duration = Duration(60)  # how long "active" is believed, and never longer than the token lasts
    refused_for: Duration = Duration(10)  # how long "not active" is believed
    refused_remembered: Count = 10_000  # tokens that are not active, per worker
    issuer: str = ""  # whose tokens they are: as `iss` says it, and [[consumers.<id>.tokens]]
    audience: list[Text] = field(default_factory=list)  # one of these must be meant by `aud`; none: not asked
    consumer: str = ""  # all tokens are this consumer's
    consumer_claim: str = ""  # claim that holds the consumer's id; "": [[consumers.<id>.tokens]] names the subject
    consumers: Literal["known", "any"] = "known"  # any: subjects that nobody knows may come, too

    def __repr__(self) -> str:
        """Without the secret."""
        return f"Config(url={self.url!r})"


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    faults = [*_wrong(config), *issuer.wrong_consumer(config, context), *config.wrong_headers()]
    if faults:
        raise ConfigError(faults)
    if context.arena is not None and issuer.in_use(context):
        load_client()
    server = Server(config.url, config.client_id, config.client_secret, config.auth, float(config.timeout), config.ca)
    belief = Belief(
        config.issuer,
        frozenset(config.audience),
        float(config.max_age),
        float(config.refused_for),
        config.remembered,
        config.refused_remembered,
    )
    verify = Introspection(server, belief, context.clock).verify
    finds = {config.issuer: issuer.find(config, context)}
    return hooks(config, "introspection", verify, finds, context, f"asks {config.url}")


def _wrong(config: Config) -> list[Fault]:
    faults = []
    if not is_url(config.url):
        faults.append(Fault("url", "is no http or https URL", config.url))
    if not config.issuer and not (config.consumer or config.consumer_claim):
        faults.append(Fault("issuer", "whose tokens are they?", allowed="issuer, consumer or consumer_claim"))
    if config.client_secret and not config.client_id:
        faults.append(Fault("client_id", "a secret of nobody"))
    return faults
