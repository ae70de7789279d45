"""Consumers and what they may show to prove who they are: the tables `[consumers.<id>]`, and each line of
`identity.consumers_file`. Times are `Moment`s: "" is none.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from gatewayd.config.units import Moment
from gatewayd.config.values import FieldValue, Name, Section

KeyHash = Annotated[
    str,
    Meta(
        pattern=r"^hmac-sha256:[0-9a-f]{64}$",
        extra={"allowed": '"hmac-sha256:" and 64 hexadecimal digits, as `gatewayd keys` writes it'},
    ),
]
PasswordHash = Annotated[
    str,
    Meta(
        pattern=r"^\$argon2id\$[!-~]{20,500}$",
        extra={"allowed": 'an argon2id hash, "$argon2id$v=19$…", never the password'},
    ),
]
Label = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{0,256}$", extra={"allowed": "a line of at most 256 characters"})
]
NotEmpty = Annotated[
    str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,1024}$", extra={"allowed": "a line of 1 to 1024 characters"})
]


class ApiKey(Section, frozen=True, omit_defaults=True):
    """An API key: its keyed hash, never the key. `gatewayd keys` writes these."""

    id: Name  # what it is called in logs and by `gatewayd keys`
    hash: KeyHash  # HMAC-SHA-256 of the key under identity.pepper
    hint: Annotated[str, Meta(max_length=4)] = ""  # the key's last characters, to tell keys apart
    created: Moment = Moment(0)  # when it was made
    not_before: Moment = Moment(0)  # refused before
    expires: Moment = Moment(0)  # refused from then on
    grace_until: Moment = Moment(0)  # replaced by another: it works until then, and replies say so
    revoked: Moment = Moment(0)  # refused since, whatever else stands here
    scopes: list[NotEmpty] = field(default_factory=list)  # what it reaches


class Login(Section, frozen=True, omit_defaults=True):
    """A name and password for HTTP Basic."""

    username: Annotated[
        str, Meta(pattern=r"^[^:\x00-\x1f\x7f]{1,255}$", extra={"allowed": "1 to 255 characters, no colon"})
    ]  # shown in logs
    hash: PasswordHash  # of the password
    not_before: Moment = Moment(0)  # refused before
    expires: Moment = Moment(0)  # refused from then on
    scopes: list[NotEmpty] = field(default_factory=list)  # what it reaches


class CertificateName(Section, frozen=True, omit_defaults=True):
    """How a client certificate is recognised: exactly one of the three."""

    fingerprint: Annotated[
        str, Meta(pattern=r"^([0-9a-f]{64})?$", extra={"allowed": "64 hexadecimal digits, lower case"})
    ] = ""  # SHA-256 of the certificate's DER form
    subject: str = ""  # distinguished name as RFC 4514 writes it, such as "CN=acme,O=Acme"
    san: Annotated[
        str,
        Meta(
            pattern=r"^((dns|uri|email):[!-~]{1,1024})?$",
            extra={"allowed": '"dns:<name>", "uri:<uri>" or "email:<address>"'},
        ),
    ] = ""  # a subject alternative name
    scopes: list[NotEmpty] = field(default_factory=list)  # what it reaches


class TokenSubject(Section, frozen=True, omit_defaults=True):
    """Whose tokens are the consumer's."""

    issuer: NotEmpty  # the token's iss
    subject: NotEmpty  # the token's sub


SignatureAlgorithm = Literal["ed25519", "ecdsa-p256-sha256", "rsa-pss-sha512", "rsa-v1_5-sha256", "hmac-sha256"]
"""Those of RFC 9421 §3.3 that are taken."""


class SignatureKey(Section, frozen=True, omit_defaults=True):
    """A key that the consumer signs requests with (RFC 9421)."""

    keyid: NotEmpty  # as the signature names it
    algorithm: SignatureAlgorithm  # the key says it, not the request
    key: Annotated[str, Meta(min_length=1)]  # public key as PEM, or the shared secret
    not_before: Moment = Moment(0)  # refused before
    expires: Moment = Moment(0)  # refused from then on
    scopes: list[NotEmpty] = field(default_factory=list)  # what it reaches


class Consumer(Section, frozen=True, omit_defaults=True):
    """Who is known to the gateway, and by what."""

    name: Label = ""  # for people
    groups: list[Name] = field(default_factory=list)  # what access rules may go by
    plan: str = ""  # name of the plan it is on
    labels: dict[Name, FieldValue] = field(default_factory=dict)  # anything else, for headers and logs
    keys: list[ApiKey] = field(default_factory=list)  # API keys
    basic: list[Login] = field(default_factory=list)  # names and passwords
    certificates: list[CertificateName] = field(default_factory=list)  # client certificates
    tokens: list[TokenSubject] = field(default_factory=list)  # subjects of tokens
    signatures: list[SignatureKey] = field(default_factory=list)  # keys of signed requests

    def __repr__(self) -> str:
        """Without what it shows: some of it is secret."""
        return f"<Consumer {self.name!r}>"


class ListedConsumer(Consumer, frozen=True, omit_defaults=True, kw_only=True):
    """A line of `identity.consumers_file`: a consumer that says its id itself."""

    id: Name  # what the table `[consumers.<id>]` is called elsewhere


Record = tuple[str, Consumer]
"""A consumer and its id: what indexes are made of, wherever it came from."""
