"""Finds out who calls by signed requests (HTTP Message Signatures, RFC 9421): no secret is sent, nothing repeated."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gatewayd.config.model import Bytes, Positive, Span
from gatewayd.config.units import Duration, Size
from gatewayd.core.policy import BuildContext, Hooks
from gatewayd.identity.require import challenge, require, unauthorized
from gatewayd.identity.signed import Signed, Terms

STACKS = False

Component = Annotated[
    str, Meta(pattern=r"^@?[a-z0-9-]+$", extra={"allowed": 'a component such as "@method", or a field in lower case'})
]


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `http_signature`."""

    components: list[Component] = field(  # what every signature must cover
        default_factory=lambda: ["@method", "@authority", "@path", "@query"]
    )
    digest: bool = True  # one of a request with a body must cover content-digest, too
    largest_body: Bytes = Size(1024**2)  # of bodies whose digest is checked, for they are held in memory; larger: 413
    max_age: Span = Duration(300)  # a signature is taken for so long from its `created` on
    nonce: Literal["required", "optional"] = "required"  # without one a request can be sent again within max_age
    nonces: Positive = 65_536  # remembered at most, per worker
    label: str = ""  # only the signature of this name counts; "": there must be one, and no other
    tag: str = ""  # what signatures must be made for; "": anything
    pass_on: bool = False  # targets get the signature


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    challenges = (challenge("Signature", context.document.identity.realm),)
    terms = Terms(
        components=tuple(config.components),
        digest=config.digest,
        largest_body=config.largest_body,
        max_age=config.max_age,
        nonce_required=config.nonce == "required",
        nonces=config.nonces,
        label=config.label,
        tag=config.tag,
        pass_on=config.pass_on,
    )
    authenticate = Signed(terms, context, unauthorized(challenges)).authenticate
    covers = " ".join([*config.components, *(["content-digest"] if config.digest else ())])
    return Hooks(
        access=require(authenticate, challenges, context),
        authenticate=authenticate,
        challenges=challenges,
        explain=f"signed: {covers}",
    )
