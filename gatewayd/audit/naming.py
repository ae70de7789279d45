"""Which record a number is: its time and request id, for whoever looks for it elsewhere."""

from __future__ import annotations

import msgspec

from gatewayd.audit.actions import decode_action
from gatewayd.audit.following import Following
from gatewayd.audit.frames import RECORD, UNREADABLE
from gatewayd.audit.record import decode_call
from gatewayd.audit.report import Finding
from gatewayd.audit.salvage import wholes
from gatewayd.audit.segments import ACTIONS

_GONE = ("removed", "truncated")


def named(finding: Finding, followed: Following) -> Finding:
    """The same with what the record itself says or, where that is gone or cannot be read, the one before it."""
    first = finding.record - int(finding.kind in _GONE)
    bodies = _bodies(followed, {first, finding.record - 1})
    for number in (first, finding.record - 1):
        told = _told(finding.chain, bodies.get(number, b""))
        if told is not None:
            changes = {"at": told[0], "request_id": told[1], "before": number < finding.record}
            return msgspec.structs.replace(finding, **changes)
    return finding


def _bodies(followed: Following, numbers: set[int]) -> dict[int, bytes]:
    """The records of these numbers, by where they stand."""
    found = {}
    number = followed.said.records
    for each in wholes(followed.data, followed.begin, len(followed.data)):
        number += each.records
        if number in numbers and each.frame.kind == RECORD:
            found[number] = each.frame.body
        if number > max(numbers):
            break
    return found


def _told(chain: str, body: bytes) -> tuple[int, str] | None:
    try:
        if chain == ACTIONS:
            return decode_action(body).at, ""
        call = decode_call(body)
        return call.at, call.request_id.decode("latin-1")
    except UNREADABLE:
        return None
