"""What is not on record of a call: whoever looks at it cannot decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn


class NotOnRecord(BaseException):
    """A decision depends on `what`.

    No `Exception`: policies that fail open would take it for a failure of their own, and let pass.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Unrecorded:
    """Stands where something is not on record. Any use of it raises `NotOnRecord`."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __repr__(self) -> str:
        return f"<{self._what}: not on record>"

    def __getattr__(self, name: str) -> NoReturn:
        raise NotOnRecord(self._what)


def _used(unrecorded: Any, *_: Any) -> NoReturn:
    raise NotOnRecord(unrecorded._what)


_USES = """
    add and await bool bytes call contains eq float format ge getitem gt hash index int iter le len lt mod ne or radd
    rand reversed rmod ror rsub setitem str sub
"""
for _use in _USES.split():
    setattr(Unrecorded, f"__{_use}__", _used)


class Partly:
    """Header fields of which some are on record: who finds what it looks for there can go on."""

    __slots__ = ("_pairs", "_what")

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]], what: str) -> None:
        self._pairs = pairs
        self._what = what

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self._pairs
        raise NotOnRecord(self._what)

    def __getattr__(self, name: str) -> NoReturn:
        raise NotOnRecord(self._what)
