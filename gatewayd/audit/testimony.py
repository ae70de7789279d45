"""What the chain `actions` says of chains, itself included: where they stood, what retention took, which keys came."""

from __future__ import annotations

import contextlib
from typing import TypeVar

import msgspec

from gatewayd.audit.actions import ANCHOR, KEY, RETIRE, Mark, Retired, decode_action
from gatewayd.audit.trust import Trust

T = TypeVar("T")


class Testimony:
    """Filled by `hear`, with records that are proven."""

    def __init__(self, trust: Trust) -> None:
        self.retired: dict[tuple[str, int], Retired] = {}
        """By chain and segment."""
        self._heard: dict[tuple[str, int], Mark] = {}  # the last of each segment: it says all that those before say
        self._outside: dict[tuple[str, int], list[Mark]] = {}
        self._trust = trust

    def hear(self, bodies: list[bytes]) -> None:
        """Take in records of the chain `actions`. What cannot be read says nothing."""
        for body in bodies:
            with contextlib.suppress(msgspec.DecodeError, ValueError):  # the latter for what is no UTF-8, or no key
                self._hear(body)

    def add(self, mark: Mark) -> None:
        """Know of an anchor from outside."""
        self._outside.setdefault((mark.chain, mark.segment), []).append(mark)

    def chains(self) -> set[str]:
        """The chains that are spoken of."""
        return {chain for chain, _ in (*self._heard, *self._outside, *self.retired)}

    def marks(self, chain: str, segment: int) -> list[Mark]:
        """What is to be found in a segment."""
        key = chain, segment
        heard = self._heard.get(key)
        return [*self._outside.get(key, ()), *([heard] if heard else [])]

    def latest(self, chain: str) -> Mark | None:
        """The mark of a chain that says of the most records."""
        known = {*self._heard, *self._outside}
        found = [mark for key in known if key[0] == chain for mark in self.marks(*key)]
        return max(found, key=lambda mark: (mark.segment, mark.records), default=None)

    def _hear(self, body: bytes) -> None:
        action = decode_action(body)
        if action.action == ANCHOR:
            for mark in msgspec.convert(action.after, list[Mark]):
                self._heard[mark.chain, mark.segment] = mark
        elif action.action == RETIRE:
            for each in msgspec.convert(action.after, list[Retired]):
                self.retired[action.target, each.segment] = each
        elif action.action == KEY and isinstance(action.after, bytes):
            self._trust.introduce(action.after)
