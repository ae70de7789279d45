"""Chains made by hand, and what somebody who has the files could do to them."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gatewayd.audit.chain import Chain
from gatewayd.audit.frames import BEGINNING, HEADER, MAC, RECORD, SIGNATURE, Frame, digest, frame, frames
from gatewayd.audit.keys import FOLDER, Signer, load_signer
from gatewayd.audit.record import Call, Operation
from gatewayd.audit.segments import Found, segment_path
from gatewayd.audit.verify import verify

SECOND = 10**9
BEGAN = 1_800_000_000
"""Unix time of the first record."""


def call(number: int) -> bytes:
    """A call record, the `number`th."""
    told = Call(
        (BEGAN + number) * SECOND,
        b"req-%d" % number,
        Operation("policies", "policies", "/v1/policies/{id}", ["id"], 1),
        None,
        b"GET",
        200,
        "",
        "",
        None,
        "127.0.0.1:9000",
        1,
        900,
        700,
        0,
        541,
        "http",
        b"http",
        b"localhost",
        b"1.1",
        None,
        None,
    )
    return msgspec.msgpack.encode(told)


class Bench:
    """A state directory, its signer, and chains in it."""

    def __init__(self, state):
        self.state = state
        self.signer = load_signer(state)

    def folder(self, name="calls-0"):
        return self.state / FOLDER / name

    def path(self, number, name="calls-0"):
        return segment_path(self.folder(name), number)

    def chain(self, name="calls-0"):
        """What a process that takes the chain goes on from, and what it says of that."""
        self.folder(name).mkdir(parents=True, exist_ok=True)
        found = Found(self.folder(name), self.signer)
        return Chain(name, self.signer, found.segment, found.previous, found.records), found.before

    def write(self, shape, name="calls-0", end=True, restart=False):
        """Segments: `[[2, 1], [3]]` is one of a batch of two records, a head, one record, a head; then one of three.

        `end`: the last is ended, too. `restart`: each is of another process.
        """
        chain, before = self.chain(name)
        for index, batches in enumerate(shape):
            if restart and index:
                chain, before = self.chain(name)
            data = chain.open(self.at(chain.records), before)
            before = None
            for batch in batches:
                data += chain.append([call(chain.records + each + 1) for each in range(batch)])
                data += chain.head(self.at(chain.records))
            if end or index < len(shape) - 1:
                data += chain.head(self.at(chain.records), end=True)
            self.path(chain.segment, name).write_bytes(data)
        return chain

    def at(self, records):
        return (BEGAN + records) * SECOND

    def more(self, chain, records, head=False):
        """Go on in the last segment, without a head if none is wanted."""
        data = chain.append([call(chain.records + each + 1) for each in range(records)])
        if head:
            data += chain.head(self.at(chain.records))
        path = self.path(chain.segment, chain.name)
        path.write_bytes(path.read_bytes() + data)

    def frames(self, number, name="calls-0"):
        return list(frames(self.path(number, name).read_bytes()))

    def rewrite(self, number, change, name="calls-0"):
        """Write a segment anew from what `change` makes of the list of its frames' bytes."""
        data = self.path(number, name).read_bytes()
        pieces = [data[each.start : each.end] for each in frames(data)]
        self.path(number, name).write_bytes(b"".join(change(pieces)))

    def verify(self, **options):
        return verify(self.state, **options)

    def first(self, **options):
        """What is found first."""
        return self.verify(**options).findings[0]


def only_files(bench):
    """The keys an auditor has."""
    return {bench.signer.id: bench.signer.public}


def relinked(pieces):
    """Digests made to fit, as somebody would who has no key: signatures and MACs stay as they are."""
    made, previous = [], None
    for piece in pieces:
        (found,) = frames(piece)
        if previous is not None:
            piece = frame(found.kind, previous, found.body)
        previous = digest(piece)
        made.append(piece)
    return made


def somebody():
    """A signer nobody knows."""
    return Signer(Ed25519PrivateKey.generate())


def record_at(pieces, number):
    """Where the `number`th record of a list of pieces is, from 1."""
    places = [index for index, piece in enumerate(pieces) if piece[4] == RECORD]
    return places[number - 1]


__all__ = [
    "BEGAN",
    "BEGINNING",
    "HEADER",
    "MAC",
    "SECOND",
    "SIGNATURE",
    "Bench",
    "Frame",
    "call",
    "only_files",
    "record_at",
    "relinked",
    "somebody",
]
