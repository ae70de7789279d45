"""Tokens that only the holder of a certificate may use (RFC 8705 §3): stolen, they are of no use.

The token names the certificate by its SHA-256 in `cnf.x5t#S256`; the caller has to have shown that very certificate on
the connection, so the listener needs `client_auth`. A certificate that a proxy in front forwards in a header does not
count: the gateway has not seen its holder prove anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatewayd.core.exchange import Exchange
from gatewayd.identity.jose import encode


def confirmation(claims: Mapping[str, Any], member: str) -> str:
    """What the claim `cnf` (RFC 7800 §3) says under `member`; "" if it says nothing that can be read."""
    named = claims.get("cnf")
    value = named.get(member) if isinstance(named, dict) else None
    return value if isinstance(value, str) else ""


def check(exchange: Exchange, token: bytes, claims: Mapping[str, Any]) -> str:
    """Whether the caller's certificate is the one that a token with these `claims` is bound to.

    "" if so; "token_not_bound", "certificate_missing" or "certificate_mismatch", for logs.
    """
    wanted = confirmation(claims, "x5t#S256")
    if not wanted:
        return "token_not_bound"
    shown = exchange.tls.client_fingerprint if exchange.tls is not None else b""
    if not shown:
        return "certificate_missing"
    return "" if encode(shown).decode() == wanted else "certificate_mismatch"
