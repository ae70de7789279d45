"""Signed access tokens (JWT, RFC 7519 and RFC 9068) of one or several issuers, checked here without asking anybody.

Everything is refused that the configuration does not name: issuers, algorithms, audiences, types of token. A token that
says it was issued to the holder of a key or certificate (`cnf`) counts only with the proof of it.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import ConfigError
from gatewayd.identity import issuer
from gatewayd.identity.claims import Bearing, hooks
from gatewayd.identity.tokens import Tokens

STACKS = False


class Config(Bearing, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `jwt`."""

    issuers: Annotated[list[issuer.Issuer], Meta(min_length=1)]  # whose tokens are taken


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    faults = [*issuer.check(config.issuers, context), *config.wrong_headers()]
    if faults:
        raise ConfigError(faults)
    verify = Tokens([issuer.rules(each, context) for each in config.issuers], context.clock).verify
    finds = {each.issuer: issuer.find(each, context) for each in config.issuers}
    explain = ", ".join(f"{each.issuer} ({' '.join(each.algorithms)})" for each in config.issuers)
    return hooks(config, "jwt", verify, finds, context, explain)
