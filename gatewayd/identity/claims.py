"""What policies that take tokens have in common, whoever vouches for these: options, and the hooks made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta, Struct, field

from gatewayd.config.model import FieldName, Positive
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.errors import Fault
from gatewayd.identity import bound, dpop
from gatewayd.identity.admission import Binding, Find, admission, proofs_by
from gatewayd.identity.bearer import Bearer, Replies, place
from gatewayd.identity.require import require
from gatewayd.identity.tokens import Verify
from gatewayd.rfc.headers import FORWARDING, HOP_BY_HOP, OVERRIDES, REWRITTEN

_NOT_FOR_CLAIMS = HOP_BY_HOP | FORWARDING | OVERRIDES | REWRITTEN | {b"authorization", b"cookie"}
_SCHEMES = {"none": ("Bearer",), "mtls": ("Bearer",), "dpop": ("DPoP",), "any": ("Bearer", "DPoP")}

Where = Annotated[
    str,
    Meta(
        pattern=r"^(authorization|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|cookie:[!#$%&'*+.^_`|~0-9A-Za-z-]+)$",
        extra={"allowed": '"authorization", "header:<name>", "cookie:<name>"'},
    ),
]


class Bearing(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of a policy that takes tokens."""

    place: Where = "authorization"  # of the token: "authorization" (Bearer), "header:<name>" or "cookie:<name>"
    scopes: list[str] = field(default_factory=list)  # that a token must have, all of them; else 403
    claims_to_headers: dict[str, FieldName] = field(default_factory=dict)  # claim = header in which targets get it
    binding: Binding = "none"  # proof that every token must ask for: "dpop", "mtls" or "any" of them
    pass_on: bool = False  # targets get the token, too
    remembered: Positive = 10_000  # tokens, per worker

    def wrong_headers(self) -> list[Fault]:
        """Faults of `claims_to_headers`."""
        return [
            Fault(f"claims_to_headers.{claim}", "this field is the gateway's own", found=name)
            for claim, name in self.claims_to_headers.items()
            if name.lower().encode() in _NOT_FOR_CLAIMS
        ]

    def explained(self) -> list[str]:
        """What they ask, for `gatewayd explain`."""
        said = [f"scopes {' '.join(self.scopes)}"] if self.scopes else []
        return [*said, f"bound by {self.binding}"] if self.binding != "none" else said


def hooks(
    config: Bearing, method: str, verify: Verify, finds: Mapping[str, Find], context: BuildContext, explain: str
) -> Hooks:
    """Hooks that let in by tokens: `verify` says what one is worth, `finds` whose it is, by issuer.

    `method` is the name of the policy.
    """
    told = frozenset(name.lower().encode() for name in config.claims_to_headers.values())
    replies = Replies(context.document.identity.realm, tuple(config.scopes), _SCHEMES[config.binding])
    bearer = Bearer(
        place(config.place),
        verify,
        admission(finds, method, config.scopes, replies, config.claims_to_headers),
        proofs_by(config.binding, dpop.proofs(context).check, bound.check),
        replies,
        context.clock,
        config.remembered,
        config.pass_on,
        told,
    )
    return Hooks(
        access=require(bearer.authenticate, replies.challenges, context),
        authenticate=bearer.authenticate,
        challenges=replies.challenges,
        tells=told,
        explain=", ".join([explain, *config.explained()]),
    )
