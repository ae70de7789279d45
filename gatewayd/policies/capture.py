"""Keeps headers and bodies of calls in the call log, cut to a size and without secrets.

Off unless the gateway, a service, a route or a plan names it; calls are recorded if `audit.enabled`. It refuses nothing
and holds nothing back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta, Struct, field

from gatewayd.audit.capturing import Capturing, Tap, Wanted, any_of, of_status, of_type, settle
from gatewayd.audit.redaction import Redaction
from gatewayd.config.attachment import policy_of
from gatewayd.config.model import Document, FieldName
from gatewayd.config.units import Size
from gatewayd.config.values import Share
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import AccessHook, BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.rfc.json_path import parse

STACKS = False

LARGEST = 1024 * 1024
"""Bytes that are kept of a body at most: it lies in memory meanwhile, and whole in its record."""
_NAMES = ("access_token", "api_key", "client_secret", "id_token", "password", "refresh_token", "secret", "token")
_TYPES = ("application/json", "application/*+json", "application/x-www-form-urlencoded", "text/*")
_PART = r"[a-z0-9!#$&^_.+-]*"
MediaType = Annotated[
    str,
    Meta(
        pattern=rf"^(\*|{_PART}/{_PART}(\*{_PART})?)$",
        extra={"allowed": 'such as "application/json", "text/*" or "*", in lower case'},
    ),
]
StatusClass = Annotated[str, Meta(pattern=r"^[1-5]([0-9]{2}|xx)$", extra={"allowed": 'such as "404" or "5xx"'})]


class Redact(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is hidden beside credentials in headers."""

    names: list[str] = field(default_factory=lambda: [*_NAMES])  # members of JSON, fields of forms, parameters
    paths: list[str] = field(default_factory=list)  # JSONPath into JSON bodies, such as "$.holder.iban"
    headers: list[FieldName] = field(default_factory=list)  # fields whose values are hidden, too


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `capture`."""

    request_headers: list[FieldName] = field(default_factory=list)  # by name; ["*"]: all
    reply_headers: list[FieldName] = field(default_factory=list)  # by name, as callers get them; ["*"]: all
    query: bool = False  # the query, too
    request_body: Size = Size(0)  # bytes of it that are kept; 0: none
    reply_body: Size = Size(0)  # bytes of it that are kept; 0: none
    content_types: list[MediaType] = field(default_factory=lambda: [*_TYPES])  # of bodies that are kept
    redact: Redact = Redact()  # what is hidden
    statuses: list[StatusClass] = field(default_factory=list)  # of calls that are captured, such as "5xx"; none: all
    sample: Share = 1.0  # of those calls


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    faults = list(_faults(config))
    if faults:
        raise ConfigError(faults)
    redact, document = config.redact, context.document
    hidden = [*redact.headers, *_places(document, "header")]
    capturing = Capturing(
        _wanted(config.request_headers, config.request_body),
        _wanted(config.reply_headers, config.reply_body),
        config.query,
        Redaction(redact.names, redact.paths, hidden, [*_places(document, "query")]),
        any_of([of_type(each) for each in config.content_types]),
        any_of([of_status(each) for each in config.statuses]) if config.statuses else lambda status: True,
    )
    return Hooks(access=_access(capturing, config.sample), log=settle, explain=_explain(config))


def _access(capturing: Capturing, sample: float) -> AccessHook:
    drawn = random.random

    def access(exchange: Exchange) -> None:
        if sample < 1 and drawn() >= sample:
            return
        Tap(exchange, capturing)

    return access


def _wanted(headers: list[str], body: int) -> Wanted:
    return Wanted("*" in headers, frozenset(name.lower().encode() for name in headers), int(body))


def _places(document: Document, kind: str) -> Iterator[str]:
    """Headers, or parameters of the query, in which the configuration's policies look for credentials."""
    for instance, table in document.policies.items():
        if policy_of(instance, table) == "api_key" and table.get(kind):
            yield table[kind]
        where, _, name = str(table.get("place", "")).partition(":")
        if where == kind and name:
            yield name


def _faults(config: Config) -> Iterator[Fault]:
    wanted = {
        name: getattr(config, name) for name in ("request_headers", "reply_headers", "request_body", "reply_body")
    }
    if not (config.query or any(wanted.values())):
        yield Fault("request_headers", "nothing is captured", allowed=f"{', '.join(wanted)}, query")
    for name in ("request_body", "reply_body"):
        if wanted[name] > LARGEST:
            yield Fault(name, "more than a record holds", str(wanted[name]), "1MiB at most")
    for at, path in enumerate(config.redact.paths):
        try:
            parse(path)
        except ValueError as error:
            yield Fault(f"redact.paths[{at}]", f"no path that is known here: {error}", path)


def _explain(config: Config) -> str:
    said = []
    for side in ("request", "reply"):
        names, size = getattr(config, f"{side}_headers"), getattr(config, f"{side}_body")
        said += [f"{side} headers {' '.join(names)}"] if names else []
        said += [f"{side} body up to {size}"] if size else []
    return ", ".join([*said, "query"] if config.query else said)
