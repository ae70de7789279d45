"""What stands in a state directory's chains of calls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from gatewayd.audit.chain import Chain
from gatewayd.audit.keys import load_signer
from gatewayd.audit.reading import Reader
from gatewayd.audit.record import Call, Operation, decode_call
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


def recorded_call(operation: Operation | None = None, **more: Any) -> Call:
    """A GET of http://a.example/a at the listener `http` that was let through, with `more` instead."""
    said = {
        "at": 1, "request_id": b"id", "operation": operation or Operation("r0", "", "/a", []), "caller": None,
        "method": b"GET", "status": 200, "code": "", "reason": "", "verdicts": None, "target": "", "attempts": 0,
        "total": 1,
        "upstream": 0, "bytes_in": 0, "bytes_out": 0, "listener": "http", "scheme": b"http", "host": b"a.example",
        "http_version": b"1.1", "tls": None, "trace": None,
    }  # fmt: skip
    return Call(**(said | more))


class Segment:
    """Segments of a chain as a test writes them: `opened`, then what `append` and the others add, then `written`."""

    def __init__(self, state: Path, name: str = "calls-0") -> None:
        self.folder = state / "audit" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.chain = Chain(name, load_signer(state))
        self.data = b""

    def opened(self, at: int = 1) -> Segment:
        """The next one begins at nanosecond `at`."""
        self.data = self.chain.open(at)
        return self

    def append(self, calls: Iterable[Call]) -> Segment:
        """Calls that were written at once."""
        self.data += self.chain.append([msgspec.msgpack.encode(call) for call in calls])
        return self

    def gap(self, lost: int) -> Segment:
        """So many are missing here."""
        self.data += self.chain.gap(1, lost) + self.chain.append(())
        return self

    def written(self, end: bool = True) -> Path:
        """Its file."""
        if end:
            self.data += self.chain.head(1, end=True)
        path = segment_path(self.folder, self.chain.segment)
        path.write_bytes(self.data)
        return path
