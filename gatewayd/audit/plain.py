"""Records as JSON has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gatewayd.audit.actions import decode_action
from gatewayd.audit.frames import UNREADABLE
from gatewayd.audit.record import decode_call
from gatewayd.audit.segments import ACTIONS
from gatewayd.audit.subjects import SubjectKeys


def moment(nanoseconds: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 has them, to the microsecond; "" for 0."""
    if not nanoseconds:
        return ""
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def told(chain: str, body: bytes, subjects: SubjectKeys | None = None) -> dict[str, Any]:
    """What a record says; personal data only where `subjects` has the key that it is sealed with.

    Bytes are text where they are UTF-8, else hexadecimal. Raises `OSError`.
    """
    try:
        if chain == ACTIONS:
            return _timed(plain(decode_action(body)))
        call = decode_call(body)
    except UNREADABLE as error:
        return {"unreadable": str(error)}
    found = plain(call)
    sealed = found.pop("sealed")
    if call.sealed is not None:
        opened = subjects.open(call.sealed) if subjects else None
        found["personal"] = plain(opened)
        found["sealed"] = {"subject": call.sealed.subject.hex(), "opened": opened is not None}
    else:
        found["sealed"] = sealed
    return _timed(found)


def plain(value: Any) -> Any:
    """Structures by the names of their fields, bytes as text."""
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes):
        return _text(value)
    return value


def _timed(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "at": moment(found["at"])}


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()
