"""What stands in a state directory's chains of calls."""

from __future__ import annotations

from pathlib import Path

from gatewayd.audit.keys import load_signer
from gatewayd.audit.reading import Reader
from gatewayd.audit.record import Call, decode_call
from gatewayd.audit.segments import chains, segment_path, segments


def bodies_in(folder: Path, state: Path) -> list[bytes]:
    """The records of one chain, in order; raises `BrokenChain` if it was tampered with."""
    found: list[bytes] = []
    signer = load_signer(state)
    for number in segments(folder):
        data = segment_path(folder, number).read_bytes()
        reader = Reader.of_segment(data, signer)
        if reader is not None:
            assert reader.records >= len(found)
            found += reader.feed(data, reader.at)
    return found


def calls_in(state: Path) -> list[Call]:
    """The calls of all chains, chain by chain."""
    return [
        decode_call(body) for folder in chains(state) if folder.name != "actions" for body in bodies_in(folder, state)
    ]
