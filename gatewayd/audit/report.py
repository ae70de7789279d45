"""What `audit.verify` found out."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal[
    "changed", "removed", "inserted", "reordered", "truncated", "forged", "segment removed", "segment moved", "anchor"
]
"""What was done, as far as that can be told:

- `changed`: bytes are not what they were; `removed`, `inserted`, `reordered`: whole records
- `truncated`: the end of a segment or of the chain is missing
- `forged`: it hangs together, but no key that is trusted has signed it: it was written, or changed and made to hang
  together again, by somebody who has the files but not the key
- `segment removed`, `segment moved`: a whole file is missing, or stands where another was: of this chain or another
- `anchor`: an anchor is none
"""


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written."""

    chain: str
    segment: int
    record: int
    """Number, from 1, of the first record of the chain that is in doubt."""
    kind: Kind
    text: str
    last: int = 0
    """The last record that is in doubt for this; 0: not known."""
    at: int = 0
    """Nanoseconds since the epoch: of `record` if it can be read, else of the one before; 0: of neither."""
    request_id: str = ""
    """The same one's."""
    before: bool = False
    """Whether these two are of the record before."""


class Lost(msgspec.Struct, frozen=True):
    """Records that the gateway itself says it lost, for want of room."""

    segment: int
    first: int
    """Number of the first of them."""
    records: int
    at: int
    """When it was said, in nanoseconds since the epoch."""


class ChainReport(msgspec.Struct):
    """One chain."""

    name: str
    segments: int = 0
    first_segment: int = 0
    records: int = 0
    """Of the chain up to its end, lost ones included."""
    checked: int = 0
    """Records read here."""
    signed: int = 0
    """Records up to the last signature: so many are proven."""
    unsigned: int = 0
    """Records behind that: of a gateway that runs, or was killed."""
    by_mac: bool = False
    """Whether those were checked with the private key."""
    leftover: int = 0
    """Bytes of writes that were cut off, by a crash; nobody got a reply for what was in them."""
    retired: int = 0
    """Segments that are gone by `audit.retention`."""
    lost: list[Lost] = []
    findings: list[Finding] = []


class Report(msgspec.Struct):
    """All chains."""

    chains: list[ChainReport] = []
    keys: list[str] = []
    """Ids of the keys that were trusted."""
    anchors: int = 0
    """Anchors from outside that were compared."""
    seconds: float = 0.0
    notes: list[str] = []

    @property
    def findings(self) -> list[Finding]:
        """Everything that is not as it was written, chain by chain in order."""
        return [each for chain in self.chains for each in chain.findings]

    @property
    def fine(self) -> bool:
        """Whether all is as it was written."""
        return not any(chain.findings for chain in self.chains)

    @property
    def checked(self) -> int:
        """Records read."""
        return sum(chain.checked for chain in self.chains)
