"""Proves that no record was changed or removed, or names the first one that was.

Each chain is followed from segment to segment. Every frame must commit to the one before it, every signature must be
right, segments must be numbered without a hole and each go on from where the one before it ends. What the chain
`actions` says of the others, and what anchors from outside say, must be found there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gatewayd.audit import frames, opening
from gatewayd.audit.actions import Mark
from gatewayd.audit.anchors import Anchor
from gatewayd.audit.diagnosis import Goal, Verdict, judge
from gatewayd.audit.following import Following
from gatewayd.audit.keys import FOLDER, Signer, public_keys
from gatewayd.audit.naming import named
from gatewayd.audit.opening import Opened
from gatewayd.audit.report import ChainReport, Finding, Kind, Report
from gatewayd.audit.segments import ACTIONS
from gatewayd.audit.stored import Stored, names
from gatewayd.audit.testimony import Testimony
from gatewayd.audit.trust import Trust

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ENDS = (4 + 33 + frames.MAC, *range(4 + 33 + frames.SIGNATURE + 3, 4 + 33 + frames.SIGNATURE + 20))
"""How long the last frame of a segment can be: a tip, or a head or end."""


def verify(
    state: Path,
    *,
    keys: Mapping[str, Ed25519PublicKey] | None = None,
    signer: Signer | None = None,
    since: float | None = None,
    until: float | None = None,
    anchors: Iterable[Anchor] = (),
    archive: Path | None = None,
) -> Report:
    """Verify all chains of a state directory and, with it, of an `archive`. May run while the daemon does.

    `keys` are trusted, and those they sign for; None: those that lie in the state directory. With a `signer`, what is
    not signed yet is checked by its MACs. `since` and `until` (Unix time) limit which segments are read wholly; of
    others, only that they are there, signed and linked. Raises `OSError`, `SigningKeyError`.
    """
    began = time.monotonic()
    trust = Trust(public_keys(state) if keys is None else keys)
    testimony = Testimony(trust)
    report = Report()
    with _no_retention(state / FOLDER):
        for chain in _order(state, archive, anchors):
            report.chains.append(ChainReport(chain))
        _take(anchors, report, trust, testimony)
        for each in report.chains:
            _Chain(Stored(each.name, state, archive), each, trust, signer, testimony, (since, until)).run()
            for name in sorted(testimony.chains() - {chain.name for chain in report.chains}):
                report.chains.append(ChainReport(name))
    report.keys = trust.ids
    report.seconds = time.monotonic() - began
    return report


def _order(state: Path, archive: Path | None, anchors: Iterable[Anchor]) -> list[str]:
    """The chains there are or were; what administrators did comes first, for it tells of the others."""
    return list(dict.fromkeys([ACTIONS, *names(state, archive), *sorted(each.chain for each in anchors)]))


def _take(anchors: Iterable[Anchor], report: Report, trust: Trust, testimony: Testimony) -> None:
    for anchor in anchors:
        report.anchors += 1
        try:
            right = trust.signed(anchor.key, anchor.frame())
        except ValueError:
            right = False
        if right:
            testimony.add(Mark(anchor.chain, anchor.segment, anchor.records, bytes.fromhex(anchor.digest)))
        else:
            chain = next(each for each in report.chains if each.name == anchor.chain)
            text = "an anchor from outside is not signed with a key that is trusted"
            chain.findings.append(Finding(anchor.chain, anchor.segment, anchor.records, "anchor", text))


@contextlib.contextmanager
def _no_retention(folder: Path) -> Iterator[None]:
    """Keep retention from taking segments away meanwhile; on a copy that cannot be locked there is none."""
    descriptor = -1
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


class _Chain:
    """One chain's verification."""

    def __init__(
        self,
        stored: Stored,
        report: ChainReport,
        trust: Trust,
        signer: Signer | None,
        testimony: Testimony,
        span: tuple[float | None, float | None],
    ) -> None:
        self._stored = stored
        self._report = report
        self._trust = trust
        self._signer = signer
        self._testimony = testimony
        self._span = span
        self._number = 0  # of the last file
        self._said = 0  # of the last one that has an opening
        self._doubt = False  # whether something before is known to be wrong, so that links to it are not looked at

    def run(self) -> None:
        """Fill the report."""
        stored, report = self._stored, self._report
        report.segments, report.first_segment = len(stored.numbers), next(iter(stored.numbers), 0)
        openings = [opening.read(stored, number) for number in stored.numbers]
        for index, each in enumerate(openings):
            following = next((other for other in openings[index + 1 :] if other.said or other.fault), None)
            self._segment(opening.checked(each, stored.name, self._trust), following)
            self._number = each.number
        latest = self._testimony.latest(stored.name)
        if latest and latest.segment > self._said and (stored.name, latest.segment) not in self._testimony.retired:
            text = f"what stood behind segment {self._said} is missing: an anchor knows of segment {latest.segment}"
            self._find("segment removed", self._said + 1, report.records + 1, text, latest.records)

    def _segment(self, here: Opened, behind: Opened | None) -> None:
        """Verify a segment; `behind` is the next that says anything."""
        self._holes(here)
        if here.fault:
            self._find(here.kind, here.number, self._report.records + 1, f"segment {here.number}: {here.fault}")
            self._said, self._doubt = here.number, True
            return
        if here.said is None:
            return
        self._link(here)
        self._said, self._doubt = here.number, False
        self._report.records = max(self._report.records, here.said.records)
        if self._wanted(here, behind):
            self._follow(here, behind)
        elif goal := self._goal(here, behind):
            self._glance(here, goal)

    def _holes(self, here: Opened) -> None:
        """Segments that are missing before this one: retired, or removed."""
        first, last = self._number + 1, here.number - 1
        if first > last:
            return
        gone = self._testimony.retired.get((self._stored.name, last))
        if gone and here.frame and (gone.digest, gone.last) == (here.frame.previous, here.said and here.said.records):
            self._report.retired += last - first + 1
            self._report.records = max(self._report.records, gone.last)
            self._doubt = True
            return
        text = f"segment {first} is missing" if first == last else f"segments {first} to {last} are missing"
        until = here.said.records if here.said else 0
        self._find("segment removed", first, min(self._report.records + 1, until or 1 << 63), text, until)
        self._doubt = True

    def _link(self, here: Opened) -> None:
        """A segment goes on from the last that says anything, the first from nothing; where that ends, `judge` says."""
        assert here.frame is not None
        assert here.said is not None
        before = here.said.before
        follows = before.segment if before else 0 if here.frame.previous == frames.BEGINNING else here.number - 1
        if follows > self._said and not self._doubt:
            text = f"segment {follows} holds nothing any more, but the next goes on from it"
            self._find("truncated", follows, self._report.records + 1, text, here.said.records)

    def _wanted(self, here: Opened, behind: Opened | None) -> bool:
        """Whether the segment may hold records of the time that is asked for. What stands in `actions` always is."""
        assert here.said is not None
        since, until = self._span
        ends = behind.said.at if behind and behind.said else None
        before = since is not None and ends is not None and ends < since * 1e9
        return self._stored.name == ACTIONS or not (before or (until is not None and here.said.at > until * 1e9))

    def _goal(self, here: Opened, behind: Opened | None) -> Goal | None:
        """Where the next segment goes on from, if it does from this."""
        if behind is None or opening.checked(behind, self._stored.name, self._trust).fault:
            return None
        assert behind.frame is not None
        assert behind.said is not None
        before = behind.said.before
        if before is None:
            linked = behind.number == here.number + 1
            return Goal(behind.said.records, behind.frame.previous) if linked else None
        if before.segment < here.number:
            text = f"segment {behind.number} goes on from segment {before.segment}, not from this one"
            self._find("segment moved", here.number, behind.said.records + 1, text)
        if before.segment != here.number:
            return None
        return Goal(behind.said.records, behind.frame.previous, before.size, before.dropped)

    def _follow(self, here: Opened, behind: Opened | None) -> None:
        assert here.frame is not None
        assert here.said is not None
        report = self._report
        followed = Following(self._stored.read(here.number), here.frame, here.said, self._trust, self._signer)
        marks = self._testimony.marks(self._stored.name, here.number)
        unseen = {mark.digest for mark in marks} - {followed.here.digest}
        keep = self._testimony.hear if self._stored.name == ACTIONS else None
        before = behind.said.before if behind and behind.said else None
        if before is not None and before.segment == here.number:
            followed.run(before.size, keep, unseen)
        goal = self._goal(here, behind)  # only now it may be known that its key is trusted
        if goal is None or goal.size is None:
            followed.run(None, keep, unseen)
        report.lost += followed.lost
        report.checked += followed.here.records - here.said.records
        report.records = max(report.records, followed.counting.records)
        verdict = judge(followed, goal) or self._unseen(followed, unseen, marks)
        if verdict is not None:
            finding = self._find(verdict.kind, here.number, verdict.record, verdict.text, verdict.last)
            report.findings[-1] = named(finding, followed)
        if not report.findings:
            self._tail(followed, goal)

    def _tail(self, followed: Following, goal: Goal | None) -> None:
        """What is proven, and what stands behind it."""
        report = self._report
        if goal is not None:
            report.signed, report.unsigned = goal.records, 0
            report.leftover += goal.dropped
            return
        report.signed, report.by_mac = followed.signed.records, followed.signer is not None
        report.unsigned = followed.counting.records - report.signed
        report.leftover += len(followed.data) - followed.counting.at

    def _unseen(self, followed: Following, unseen: set[bytes], marks: list[Mark]) -> Verdict | None:
        """Whether an anchor knows of a signed frame that is not in the segment."""
        left = [mark for mark in marks if mark.digest in unseen]
        if not left:
            return None
        mark = max(left, key=lambda mark: mark.records)
        there = followed.counting.records
        if mark.records > there:
            text = f"the chain ends here, but an anchor knows of records up to {mark.records}"
            return Verdict("truncated", there + 1, text, mark.records)
        signed = followed.signed.records
        if mark.records > signed:
            text = "the signature behind these records is missing, which an anchor knows of"
            return Verdict("truncated", signed + 1, text, mark.records)
        seen = [each.records for each in marks if each.digest not in unseen]
        first = max([each for each in seen if each < mark.records], default=followed.first - 1) + 1
        text = "an anchor knows of something else here: the chain was put back to an older state, and went on from that"
        return Verdict("changed", min(first, mark.records), text, mark.records)

    def _glance(self, here: Opened, goal: Goal) -> None:
        """Only see whether a segment ends as the next one says."""
        tail = self._stored.end(here.number, 4096, goal.size)
        ends = (tail, *(tail[-length:] for length in _ENDS))
        if not any(frames.digest(each) == goal.digest for each in ends):
            text = "the segment does not end as the next one says; it was not read wholly"
            self._find("changed", here.number, goal.records, text)
        self._report.records = goal.records
        if not self._report.findings:
            self._report.signed = goal.records

    def _find(self, kind: Kind, segment: int, record: int, text: str, last: int = 0) -> Finding:
        finding = Finding(self._stored.name, segment, record, kind, text, last)
        self._report.findings.append(finding)
        return finding
