"""Anchors: what a chain's last signed frame is, to be kept where nobody who can write the files can write.

Who has the files alone can still cut off their ends, or put old copies in their place. An anchor shows that: what it
says must be in the chain for ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from gatewayd.audit import frames
from gatewayd.audit.frames import SIGNATURE, Frame, decode_head, decode_opening
from gatewayd.audit.keys import is_signed, load_public_pem, pem_of, public_keys
from gatewayd.audit.segments import chains, segment_path, segments
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORM = "gatewayd audit anchor 1"
_KINDS: dict[int, Literal["opening", "head", "end"]] = {
    frames.OPENING: "opening",
    frames.HEAD: "head",
    frames.END: "end",
}


class AnchorError(GatewaydError):
    """A file is no anchor."""


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed frame of a chain. Bytes are in hexadecimal."""

    chain: str
    segment: int
    kind: Literal["opening", "head", "end"]
    records: int
    """Of the chain up to here."""
    at: int
    """When it was signed: nanoseconds since the epoch."""
    key: str
    digest: str
    """SHA-256 of the frame."""
    previous: str
    said: str
    """What is signed, behind `frames.CONTEXT`, the kind and `previous`."""
    signature: str

    def frame(self) -> Frame:
        """The frame. Raises `ValueError` if the digest is not its."""
        kind = next(number for number, name in _KINDS.items() if name == self.kind)
        previous, body = bytes.fromhex(self.previous), bytes.fromhex(self.signature + self.said)
        whole = frames.frame(kind, previous, body)
        if frames.digest(whole).hex() != self.digest:
            raise ValueError("its digest is of another frame")
        return Frame(kind, previous, body, 0, len(whole))


class Anchors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document that `gatewayd audit export` prints."""

    form: str
    at: int
    """When it was made: nanoseconds since the epoch."""
    chains: list[Anchor]
    keys: dict[str, str]
    """The public keys in PEM, by id."""


def heads(state: Path) -> list[Anchor]:
    """The last signed frame of each chain that has one: on the disk when this returns. Raises `OSError`."""
    keys = public_keys(state)
    found = (_last(folder, keys) for folder in chains(state))
    return [each for each in found if each is not None]


def export(state: Path, now: float | None = None) -> Anchors:
    """The anchors of all chains. Raises `OSError`, `SigningKeyError`."""
    at = int((time.time() if now is None else now) * 1e9)
    pems = {name: pem_of(key).decode() for name, key in public_keys(state).items()}
    return Anchors(FORM, at, heads(state), pems)


def load(path: Path) -> Anchors:
    """Read what was exported. Raises `AnchorError`."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Anchors)
    except OSError as error:
        raise AnchorError(f"{path}: {error.strerror}") from error
    except frames.UNREADABLE as error:
        raise AnchorError(f"{path}: this is no anchor: {error}") from None
    if found.form != FORM:
        raise AnchorError(f"{path}: an anchor of the form {FORM!r} is wanted, this says {found.form!r}")
    return found


def keys_of(anchors: Iterable[Anchors]) -> dict[str, Ed25519PublicKey]:
    """The public keys that come with anchors, by id. Raises `SigningKeyError`."""
    return {
        name: load_public_pem(pem.encode(), f"the key {name} of an anchor")
        for each in anchors
        for name, pem in each.keys.items()
    }


def _last(folder: Path, keys: Mapping[str, Ed25519PublicKey]) -> Anchor | None:
    for number in reversed(segments(folder)):
        for frame, said in reversed(list(_signed(segment_path(folder, number)))):
            key = keys.get(said.key)
            if key is not None and is_signed(key, frame):
                return _anchor(folder.name, number, said.key, frame)
    return None


def _signed(path: Path) -> Iterator[tuple[Frame, frames.Opening]]:
    """The signed frames of a segment, whole and on the disk, with its opening."""
    with path.open("rb") as file:
        data = file.read()
        os.fdatasync(file.fileno())
    said = None
    for frame in frames.frames(data):
        if said is None:
            try:
                said = decode_opening(frame.body[SIGNATURE:])
            except frames.UNREADABLE:
                return
        if frame.kind in frames.SIGNED:
            yield frame, said


def _anchor(chain: str, segment: int, key: str, frame: Frame) -> Anchor:
    text = frame.body[SIGNATURE:]
    said = decode_opening(text) if frame.kind == frames.OPENING else decode_head(text)
    whole = frames.frame(frame.kind, frame.previous, frame.body)
    return Anchor(
        chain=chain,
        segment=segment,
        kind=_KINDS[frame.kind],
        records=said.records,
        at=said.at,
        key=key,
        digest=frames.digest(whole).hex(),
        previous=frame.previous.hex(),
        said=text.hex(),
        signature=frame.body[:SIGNATURE].hex(),
    )
