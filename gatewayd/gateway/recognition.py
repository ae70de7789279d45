"""Who a call on record was, as a policy of another configuration would find out.

Credentials are not on record: only who showed one, of which kind, and what it is called. So a policy takes who was
recognised by a credential of its kind that is valid still; about all others it cannot be told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from gatewayd.audit.record import Call
from gatewayd.config.attachment import policy_of
from gatewayd.config.model import Document
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import Consumers, Credential
from gatewayd.gateway.unrecorded import NotOnRecord, Unrecorded
from gatewayd.identity.consumers import Index

KINDS = {"api_key": "key", "basic_auth": "basic", "mtls": "certificate", "http_signature": "signature"}
"""Policies whose credentials stand among the consumers', and as what."""
TOKENS = ("jwt", "introspection")
MISSING, INVALID = "credential_missing", "credential_invalid"
ANONYMOUS = "anonymous"


class Recognition:
    """Asks for the policies of `document`. `serving`: the configuration that the calls were served by, if at hand."""

    def __init__(self, document: Document, consumers: Consumers, serving: Document | None) -> None:
        self._tables = document.policies
        self._consumers = consumers
        self._served = serving.policies if serving is not None else None
        self._same_consumers = serving is not None and (
            (serving.consumers, serving.identity) == (document.consumers, document.identity)
        )
        self._credential = lru_cache(8_192)(self._look_up)

    def ask(self, instance: str, call: Call, now: float) -> Identity | str:
        """Who calls, or the code with which the instance refuses. `now`: Unix time. Raises `NotOnRecord`."""
        table = self._tables[instance]
        wanted = self._kinds(instance, self._tables)
        guest = str(table.get("anonymous", "")) if policy_of(instance, table) == "authentication" else ""
        caller = call.caller
        if caller is None:
            return self._stranger(instance, call, wanted, guest)
        shown = caller.method.split("+")
        if caller.method == ANONYMOUS:
            if policy_of(instance, table) != "authentication":
                raise NotOnRecord(f"whether an anonymous caller shows what {instance} asks for")
            return self._guest(guest)
        every = bool(table.get("all_of"))
        having = [kind for kind in wanted if kind in shown]
        if not having or (every and len(having) < len(wanted)):
            raise NotOnRecord(f"whether who was recognised by {caller.method} shows what {instance} asks for")
        return self._known(instance, call, having if every else having[:1], now)

    def _known(self, instance: str, call: Call, kinds: list[str], now: float) -> Identity | str:
        """The caller by credentials of `kinds`, if they are valid."""
        assert call.caller is not None
        shown, names = call.caller.method.split("+"), call.caller.credential.split("+")
        found: Identity | str = INVALID
        for kind in kinds:
            name = names[shown.index(kind)] if len(names) == len(shown) else ""
            found = self._by_token(instance, call, kind) if kind in TOKENS else self._by_own(call, kind, name, now)
            if isinstance(found, str):
                return found
        if len(kinds) > 1 and isinstance(found, Identity):
            return Identity(found.consumer, call.caller.method, call.caller.credential, _SCOPES, _CLAIMS)  # type: ignore[arg-type]
        return found

    def _by_own(self, call: Call, kind: str, name: str, now: float) -> Identity | str:
        """By a credential that stands among the consumers'."""
        assert call.caller is not None
        found = self._credential(call.caller.consumer, KINDS[kind], name)
        if found is None or not found.not_before <= now < (found.expires or math.inf):
            return INVALID
        claims: Any = _CLAIMS if kind == "mtls" else {}
        return Identity(found.consumer, kind, name, found.scopes, claims)

    def _by_token(self, instance: str, call: Call, kind: str) -> Identity | str:
        """By a token: what else it says is not on record."""
        assert call.caller is not None
        if self._served is not None and self._served.get(instance) != self._tables.get(instance):
            raise NotOnRecord(f"the token that {instance} is to judge, which is not what it was")
        consumer = self._consumers.by_id(call.caller.consumer)
        if consumer is None:
            if not ("|" in call.caller.consumer and self._takes_strangers(instance)):
                return INVALID
            consumer = Consumer(call.caller.consumer)
        return Identity(consumer, kind, call.caller.credential, _SCOPES, _CLAIMS)  # type: ignore[arg-type]

    def _takes_strangers(self, instance: str) -> bool:
        """Whether some issuer's subjects may come that nobody knows."""
        table = self._tables[instance]
        members = [*table.get("any_of", ()), *table.get("all_of", ())]
        if any(name in self._tables and self._takes_strangers(name) for name in members):
            return True
        return any(each.get("consumers") == "any" for each in (table, *table.get("issuers", ())))

    def _stranger(self, instance: str, call: Call, wanted: list[str], guest: str) -> Identity | str:
        """Nobody was recognised. What was shown is known only if it was nothing."""
        by = next((name for name, verdict in reversed(call.verdicts or ()) if verdict == "refused"), "")
        if by and call.code == MISSING:
            asked = self._kinds(by, self._tables if self._served is None else self._served)
            if set(wanted) <= set(asked):
                return self._guest(guest)
        served = self._served or {}
        if (
            by == instance
            and self._same_consumers
            and served.get(by) == self._tables[by]
            and not served[by].get("any_of")
        ):
            return call.code
        raise NotOnRecord(f"what the caller showed, which {instance} asks for")

    def _guest(self, guest: str) -> Identity | str:
        if not guest:
            return MISSING
        consumer = self._consumers.by_id(guest)
        return MISSING if consumer is None else Identity(consumer, ANONYMOUS)

    def _kinds(self, instance: str, tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The policies that an instance asks, itself or those it combines."""
        table = tables.get(instance)
        if table is None:
            return []
        policy = policy_of(instance, dict(table))
        if policy != "authentication":
            return [policy]
        members = [*table.get("any_of", ()), *table.get("all_of", ())]
        return [kind for name in members for kind in self._kinds(name, tables)]

    def _look_up(self, consumer: str, kind: str, name: str) -> Credential | None:
        return self._consumers.by_name(consumer, kind, name) if isinstance(self._consumers, Index) else None


_SCOPES = Unrecorded("the token's scopes")
_CLAIMS = Unrecorded("the token's claims")
