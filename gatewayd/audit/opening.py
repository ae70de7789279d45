"""The openings of a chain's segments: what each says, and whether it may be believed."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from gatewayd.audit import frames
from gatewayd.audit.frames import Frame, Opening, decode_opening
from gatewayd.audit.report import Kind
from gatewayd.audit.salvage import is_cut
from gatewayd.audit.stored import Stored
from gatewayd.audit.trust import Trust


class Opened(NamedTuple):
    """A segment's file, and its opening."""

    number: int
    frame: Frame | None = None
    said: Opening | None = None
    """Neither is there if the file was cut off before its opening was whole, or `fault` says what is wrong."""
    fault: str = ""
    kind: Kind = "changed"
    """Of the fault."""
    behind: bytes = b""
    """What the frame behind it goes on from; b"": it is not known."""


def read(stored: Stored, number: int) -> Opened:
    """The opening of a segment as it stands there. Raises `OSError`."""
    data, size = stored.peek(number)
    first = list(itertools.islice(frames.frames(data), 2))
    frame = first[0] if first else None
    if frame is None:
        whole = size < 0 or size == len(data)
        cut = whole and is_cut(data, None)
        return Opened(number, fault="" if cut else "its opening cannot be read")
    if frame.kind != frames.OPENING:
        return Opened(number, fault="it does not begin with an opening")
    try:
        said = decode_opening(frame.body[frames.SIGNATURE :])
    except frames.UNREADABLE:
        return Opened(number, fault="its opening cannot be read")
    return Opened(number, frame, said, behind=first[1].previous if len(first) > 1 else b"")


def checked(opened: Opened, chain: str, trust: Trust) -> Opened:
    """The same with its `fault`, if it is not signed by whom we trust, or not for this place."""
    frame, said = opened.frame, opened.said
    if frame is None or said is None:
        return opened
    if not trust.signed(said.key, frame):
        whole = frames.frame(frame.kind, frame.previous, frame.body)
        changed = opened.behind and opened.behind != frames.digest(whole)
        wrong = "the signature of its opening is not right"
        fault = wrong if said.key in trust else f"it is signed with {said.key}, a key that is not trusted"
        return opened._replace(fault=fault, kind="changed" if changed else "forged")
    if said.chain != chain:
        fault = f"it is segment {said.segment} of the chain {said.chain}"
        return opened._replace(fault=fault, kind="segment moved")
    if said.segment != opened.number:
        return opened._replace(fault=f"it is segment {said.segment}, moved here", kind="segment moved")
    return opened
