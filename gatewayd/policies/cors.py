"""Cross-origin requests: preflights are answered here, replies say which pages may read them (`rfc.cors`).

Targets need not know of CORS: their own `Access-Control-*` reply fields are replaced. A request from an origin that is
not listed passes without such fields, and the browser keeps the reply from the page; `reject` refuses the request.
"""

from __future__ import annotations

from msgspec import Struct, field

from gatewayd.config.model import Token
from gatewayd.config.units import Duration
from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.policy import BuildContext, Hooks, Reply, Verdict
from gatewayd.core.problem import problem
from gatewayd.errors import ConfigError, Fault
from gatewayd.rfc.cors import Sharing, is_preflight, origin_of
from gatewayd.rfc.origin import Origins, is_same_origin

STACKS = False
PREFLIGHT = True


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `cors`."""

    origins: list[str]  # "https://portal.example", "https://*.example.com" or "*"
    methods: list[Token] = field(default_factory=lambda: ["*"])  # "*": what the route takes
    headers: list[Token] = field(default_factory=lambda: ["Authorization", "Content-Type"])  # "*": what is asked for
    expose: list[Token] = field(default_factory=list)  # reply fields pages may read beside the safelisted ones
    credentials: bool = False  # cookies and HTTP authentication
    max_age: Duration = Duration(600)  # how long browsers may remember a preflight's answer
    private_network: bool = False  # pages of public sites may ask here though the address is private
    reject: bool = False  # answer 403 to origins not listed


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    origins = _origins(config)
    sharing = Sharing(
        origins,
        config.methods,
        config.headers,
        config.expose,
        config.credentials,
        int(config.max_age),
        config.private_network,
    )
    refusal = problem(403, "origin_not_allowed", "pages of this origin may not ask here")

    def may_ask(exchange: Exchange) -> bool:
        origin = origin_of(exchange.headers)
        return not origin or origin in origins or is_same_origin(origin, exchange.scheme, exchange.host)

    def access(exchange: Exchange) -> Verdict:
        if exchange.method == b"OPTIONS" and is_preflight(exchange.headers):
            return Reply(204, sharing.preflight(exchange.headers))
        return None

    def access_or_reject(exchange: Exchange) -> Verdict:
        return access(exchange) if may_ask(exchange) else refusal

    def reply(exchange: Exchange, headers: Headers) -> None:
        if exchange.method != b"OPTIONS" or not is_preflight(exchange.headers):
            sharing.mark(origin_of(exchange.headers), headers)

    who = "any origin" if origins.everyone else ", ".join(config.origins)
    others = "are refused" if config.reject else "get no CORS fields"
    return Hooks(access_or_reject if config.reject else access, reply, explain=f"{who}; others {others}")


def _origins(config: Config) -> Origins:
    """The listed origins. Raises `ConfigError` for everything in the table that cannot work."""
    faults: list[Fault] = []
    origins = Origins()
    for at, text in enumerate(config.origins):
        try:
            origins.add(text)
        except ValueError as error:
            allowed = '"https://portal.example", "https://*.example.com" or "*"'
            faults.append(Fault(f"origins[{at}]", str(error), repr(text), allowed))
    if not config.origins:
        faults.append(Fault("origins", "an empty list lets no page in", hint="leave the policy off the route instead"))
    if config.credentials and origins.everyone:
        faults.append(
            Fault("credentials", "browsers send none where every origin may ask", "true", hint="list the origins")
        )
    if config.credentials and "*" in config.expose:
        faults.append(Fault("expose", "with credentials * is a name like any other", "*", hint="list the names"))
    if faults:
        raise ConfigError(faults)
    return origins
