"""Who may come, by address: CIDRs in the configuration or in files, hundreds of thousands of them if need be.

What is denied is refused even if it is allowed as well. Where anything is allowed, everyone else is refused; a caller
without an address (on a unix socket) is then refused too. The address is the caller's, trusted proxies looked through.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from msgspec import Struct, field

from gatewayd.config.model import File
from gatewayd.core.cidr import CidrSet, parse_cidr
from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import BuildContext, Hooks, Reply, Verdict
from gatewayd.core.problem import problem
from gatewayd.errors import ConfigError, Fault

STACKS = True

MEMO_LIMIT = 4096
"""Addresses whose verdict is remembered, per worker and instance."""
_Prefix = tuple[int, int, int]
_MANY = 20
"""Faults shown per file."""


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `ip_restriction`; at least one list must be given."""

    allow: list[str] = field(default_factory=list)  # CIDRs or addresses
    deny: list[str] = field(default_factory=list)
    allow_files: list[File] = field(default_factory=list)  # one CIDR or address per line; "#" starts a comment
    deny_files: list[File] = field(default_factory=list)


class _Tables(NamedTuple):
    """The lists as read at one time; `memo` keeps verdicts of recent callers."""

    signature: object
    allowed: CidrSet | None
    denied: CidrSet
    memo: dict[str, Reply | None]


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for one route."""
    if not (config.allow or config.deny or config.allow_files or config.deny_files):
        raise ConfigError(
            [Fault("allow", "nothing is allowed or denied", allowed="allow, deny, allow_files, deny_files")]
        )
    tables = _tables(config, context)
    _, allowed, denied, memo = tables
    refusal = problem(403, "ip_restricted", "requests from this address are not taken here")

    def decide(client: str) -> Verdict:
        refused = client in denied or (allowed is not None and client not in allowed)
        verdict = refusal if refused else None
        if len(memo) >= MEMO_LIMIT:
            del memo[next(iter(memo))]
        memo[client] = verdict
        return verdict

    def access(exchange: Exchange) -> Verdict:
        try:
            return memo[exchange.client]
        except KeyError:
            return decide(exchange.client)

    return Hooks(access=access, explain=_explain(allowed, denied))


def _explain(allowed: CidrSet | None, denied: CidrSet) -> str:
    allows = "any address" if allowed is None else f"{len(allowed)} ranges"
    return f"allow {allows}, deny {len(denied)} ranges"


def _tables(config: Config, context: BuildContext) -> _Tables:
    """The lists, read once for all routes of the instance, and again when they or their files change."""
    kept: list[_Tables] = context.keep("tables", list)
    signature = (config, [_stamp(path) for path in (*config.allow_files, *config.deny_files)])
    if not kept or kept[0].signature != signature:
        faults: list[Fault] = []
        allowed = _set(config.allow, config.allow_files, "allow", faults)
        denied = _set(config.deny, config.deny_files, "deny", faults)
        if faults:
            raise ConfigError(faults)
        kept[:] = [_Tables(signature, allowed if config.allow or config.allow_files else None, denied, {})]
    return kept[0]


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _set(inline: list[str], files: list[str], name: str, faults: list[Fault]) -> CidrSet:
    def prefixes() -> Iterator[_Prefix]:
        for at, text in enumerate(inline):
            yield from _checked(text, Fault(f"{name}[{at}]", "", found=text), faults)
        for at, path in enumerate(files):
            yield from _read(path, f"{name}_files[{at}]", faults)

    return CidrSet.of_parsed(prefixes())


def _read(path: str, key: str, faults: list[Fault]) -> Iterator[_Prefix]:
    own: list[Fault] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                text = line.partition("#")[0].strip()
                if text and len(own) < _MANY:
                    yield from _checked(text, Fault(key, "", found=text[:50], file=path, line=number), own)
    except OSError as error:
        own.append(Fault(key, f"cannot be read: {error.strerror}", found=path))
    faults += own


def _checked(text: str, where: Fault, faults: list[Fault]) -> Iterator[_Prefix]:
    try:
        yield parse_cidr(text)
    except ValueError as error:
        faults.append(replace(where, message=str(error), allowed="192.0.2.0/24, 2001:db8::/32, or an address"))
