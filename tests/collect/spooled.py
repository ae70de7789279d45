"""Chains of call records as workers write them, with faults on request."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import Before
from gatewayd.audit.keys import load_signer
from gatewayd.audit.record import Call, Caller, Operation, Personal, Sealed
from gatewayd.audit.segments import segment_path
from gatewayd.audit.subjects import NONCE, SubjectKeys, subject_of

START = 1_800_000_000
"""Second since the epoch of the first call: a whole hour."""
encode = msgspec.msgpack.Encoder().encode


def call(at: float = START, **changes: object) -> Call:
    """A call `at` this second."""
    plain = {
        "at": round(at * 1_000_000) * 1000,
        "request_id": b"r-1",
        "operation": Operation("quotes", "quoting", "/v1/quotes/{id}", ["id"], 3),
        "caller": Caller("acme", "key-1", "api_key", "gold", "north"),
        "method": b"GET",
        "status": 200,
        "code": "",
        "reason": "",
        "verdicts": [("api_key", "admitted")],
        "target": "10.0.0.1:9000",
        "attempts": 1,
        "total": 1500,
        "upstream": 1000,
        "bytes_in": 10,
        "bytes_out": 541,
        "listener": "public",
        "scheme": b"https",
        "host": b"api.example",
        "http_version": b"1.1",
        "tls": None,
        "trace": None,
        "personal": Personal("192.0.2.7", "", [b"12345678"], "curl/8"),
    }
    return Call(**(plain | changes))


def sealed(state: Path, consumer: str, said: Personal) -> Sealed:
    """What a worker makes of it."""
    subject = subject_of(consumer, START)
    nonce = os.urandom(NONCE)
    return Sealed(subject, nonce + SubjectKeys(state).cipher(subject).encrypt(nonce, encode(said), None))


class Spooled:
    """One chain below `state`, written in the open."""

    def __init__(self, state: Path, name: str = "calls-0") -> None:
        self.signer = load_signer(state)
        self.folder = state / "audit" / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.chain = Chain(name, self.signer)
        self.at = START * 10**9

    @property
    def path(self) -> Path:
        """The segment that is written."""
        return segment_path(self.folder, self.chain.segment)

    def open(self, before: Before | None = None) -> None:
        """Begin the next segment."""
        opening = self.chain.open(self.at, before)
        self.path.write_bytes(opening)

    def put(self, data: bytes) -> None:
        """Add bytes as they are."""
        with self.path.open("ab") as file:
            file.write(data)

    def add(self, *calls: Call) -> None:
        """Add records that count."""
        if not self.chain.segment:
            self.open()
        self.put(self.chain.append([encode(each) for each in calls]))

    def gap(self, lost: int) -> None:
        """Say that so many are lost."""
        self.put(self.chain.gap(self.at, lost) + self.chain.append(()))

    def turn(self) -> None:
        """End the segment and begin the next."""
        self.put(self.chain.head(self.at, end=True))
        self.open()
