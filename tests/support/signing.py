"""A caller that signs its requests (RFC 9421), written from the RFC alone: it uses nothing of the gateway."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

SECRET = "0123456789abcdef0123456789abcdef"
USUAL = ("@method", "@authority", "@path", "@query")


def digest(body: bytes) -> str:
    """A Content-Digest (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def hmac_of(base: bytes) -> bytes:
    """A signature with `SECRET`."""
    return hmac.digest(SECRET.encode(), base, "sha256")


def sign(
    values: dict[str, str],
    created: int | None,
    nonce: str = "",
    keyid: str = "acme-1",
    label: str = "sig1",
    make: Callable[[bytes], bytes] = hmac_of,
    **parameters: str,
) -> list[tuple[bytes, bytes]]:
    """The two fields of a signature over `values`, each component with its value, in this order.

    Parameters with "" are left out; the others are written as strings, but for numbers.
    """
    shown = {"created": created, "nonce": nonce, "keyid": keyid, **parameters}
    tail = "".join(f";{name}={_written(value)}" for name, value in shown.items() if value not in (None, ""))
    covered = f"({' '.join(_identifier(name) for name in values)}){tail}"
    lines = [f"{_identifier(name)}: {value}\n" for name, value in values.items()]
    made = make(("".join(lines) + f'"@signature-params": {covered}').encode())
    return [
        (b"signature-input", f"{label}={covered}".encode()),
        (b"signature", f"{label}=:{base64.b64encode(made).decode()}:".encode()),
    ]


def _identifier(name: str) -> str:
    name, mark, parameters = name.partition(";")
    return f'"{name}"{mark}{parameters}'


def _written(value: object) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'
