"""Tables of tokens in shared memory: names that the code or the configuration makes up, each with a count.

A table has a fixed number of entries, which tokens take in the order in which they first come; the last one takes
whatever finds no place. An entry is a name, 8 bytes to a cell, then its count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

OTHER: Final = "other"


class Verdict(NamedTuple):
    """What a policy decided: of which instance, of which policy in which mode ("" if it is not known)."""

    instance: str
    policy: str
    mode: str
    verdict: str

    @property
    def token(self) -> str:
        """As it is counted. The instance stands last: a name may be cut."""
        return f"{self.verdict}:{self.mode}:{self.policy}:{self.instance}"

    @classmethod
    def of(cls, token: str) -> Verdict:
        """What `token` was made from; all is `OTHER` of what found no place."""
        if token == OTHER:
            return cls(OTHER, OTHER, OTHER, OTHER)
        verdict, mode, policy, instance = token.split(":", 3)
        return cls(instance, policy, mode, verdict)


class Tokens:
    """A table, to be written by one process alone. What stands in `cells` already is gone on with."""

    def __init__(self, cells: memoryview, width: int) -> None:
        """`width`: cells of an entry."""
        self._cells = cells
        self._width = width
        self._counts: dict[str, int] = {}
        self._free = 0
        for name, at, _ in entries(cells, width):
            self._counts[name] = at
            self._free = at // width + 1

    def count(self, token: str) -> None:
        """Count `token`."""
        self._cells[self.cell(token)] += 1

    def add(self, cell: int) -> None:
        """Count the token of `cell` once more."""
        self._cells[cell] += 1

    def cell(self, token: str) -> int:
        """Where `token` is counted."""
        at = self._counts.get(token)
        return self._enter(token) if at is None else at

    def _enter(self, token: str) -> int:
        width, longest = self._width, (self._width - 1) * 8
        last = len(self._cells) // width - 1
        if self._free >= last:
            token, self._free = OTHER, last
        elif len(token.encode()) > longest:
            return self._enter(token.encode()[:longest].decode(errors="ignore"))
        at = self._counts.get(token)
        if at is None:
            first = self._free * width
            name = token.encode().ljust(longest, b"\0")
            self._cells[first : first + width - 1] = memoryview(name).cast("q")
            self._free += 1
            at = self._counts[token] = first + width - 1
        return at


class Verdicts(dict[tuple[str, str], int]):
    """The cell of each verdict, as exchanges note them: (instance, verdict)."""

    def __init__(self, table: Tokens) -> None:
        super().__init__()
        self.instances: Mapping[str, tuple[str, str]] = {}
        self.add = table.add
        self._cell_of = table.cell

    def __missing__(self, noted: tuple[str, str]) -> int:
        instance, verdict = noted
        policy, mode = self.instances.get(instance, ("", ""))
        cell = self[noted] = self._cell_of(Verdict(instance, policy, mode, verdict).token)
        return cell


def entries(cells: memoryview, width: int) -> Iterator[tuple[str, int, int]]:
    """Name, cell of the count, and count of each entry in use."""
    for at in range(width - 1, len(cells), width):
        name = cells[at - width + 1 : at].tobytes().rstrip(b"\0")
        if name:
            yield name.decode(errors="replace"), at, cells[at]
