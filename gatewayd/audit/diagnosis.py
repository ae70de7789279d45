"""What was done to a segment that no longer fits: as much as the digests, signatures and counts in it tell.

Between two points that are proven (an opening, a head, an end, the place from which the next segment goes on) all is
compared: which frames commit to which, how many records there are and were.
"""

from __future__ import annotations

from typing import NamedTuple

from gatewayd.audit import frames
from gatewayd.audit.following import Following
from gatewayd.audit.report import Kind
from gatewayd.audit.salvage import Whole, is_cut, mended, wholes

_ORDER: dict[Kind, str] = {
    "reordered": "records do not stand in their order",
    "inserted": "here stands something that was not written",
}


class Goal(NamedTuple):
    """What the next segment says of a segment."""

    records: int
    digest: bytes
    size: int | None = None
    """Bytes that count; None: it has an end."""
    dropped: int = 0
    """Bytes behind them."""


class Verdict(NamedTuple):
    """What is wrong, from which record on, and up to which (0: not known)."""

    kind: Kind
    record: int
    text: str
    last: int = 0


def judge(followed: Following, goal: Goal | None) -> Verdict | None:
    """What is wrong with a segment that was followed as far as it goes; None: nothing.

    `goal`: None if there is no next segment, or none that can be read.
    """
    cut = followed.stop == "" or (followed.stop == "shape" and _is_cut(followed))
    if goal is None:
        return _turned(followed) if cut else _diagnose(followed, None)
    if goal.size is not None:
        return _judge_crashed(followed, goal, goal.size, cut)
    if followed.stop == "" and followed.ended:
        return None if followed.here.digest == goal.digest else _other(followed)
    if cut and followed.here.records <= goal.records:
        return _truncated(followed, goal)
    return _diagnose(followed, goal)


def _judge_crashed(followed: Following, goal: Goal, size: int, cut: bool) -> Verdict | None:
    """Of a segment that has no end, for its process was killed: what counts is said by the next one."""
    length = len(followed.data)
    if length < size and cut:
        return _truncated(followed, goal)
    if followed.stop or length < size:
        return _diagnose(followed, goal)
    if followed.here.digest != goal.digest:
        return _recomputed(followed, followed.here.records, goal.records)
    if length != size + goal.dropped:
        text = f"behind what counts of the segment stood {goal.dropped} bytes; now it is {length - size}"
        return Verdict("changed", goal.records, text)
    if any(_is_ours(followed, each) for each in wholes(followed.data, size, length)):
        text = "records behind this one were signed, but the next segment goes on from before them"
        return Verdict("changed", goal.records + 1, text)
    return None


def _is_cut(followed: Following) -> bool:
    at = followed.here.at
    rest = followed.data[at:]
    if not is_cut(rest, followed.here.digest):
        return False
    if len(rest) <= frames.HEADER or rest[4] == frames.RECORD:
        return next(wholes(followed.data, at, len(followed.data)), None) is None
    whole = frames.Frame(rest[4], rest[5 : frames.HEADER], rest[frames.HEADER :], at, at + len(rest))
    return not followed.trust.signed(followed.said.key, whole)  # or only its length was changed


def _turned(followed: Following) -> Verdict | None:
    """A last frame that is none of what a write that was cut off leaves behind, but a tip or an end in disguise."""
    at, _, records = followed.counting
    last = ([None, *wholes(followed.data, at, followed.here.at)])[-1]
    if last is None or last.frame.kind != frames.RECORD or last.frame.end != len(followed.data):
        return None
    body = last.frame.body
    as_end = [last.frame._replace(kind=kind) for kind in (frames.HEAD, frames.END)]
    signed = any(followed.trust.signed(followed.said.key, each) for each in as_end)
    if signed or (len(body) == frames.MAC and followed.signer and followed.signer.mac(last.frame.previous) == body):
        return Verdict("changed", max(records, followed.first), "what stands behind this record was changed")
    return None


def _truncated(followed: Following, goal: Goal) -> Verdict:
    there = followed.here.records
    missing = goal.records - there
    if missing:
        return Verdict("truncated", there + 1, f"the segment's last {_counted(missing)} missing", goal.records)
    return Verdict("truncated", max(there, followed.first), "the segment's end is missing, but no record")


def _other(followed: Following) -> Verdict:
    text = "the segment is signed, but not the one that the next goes on from: it is of another past"
    return Verdict("segment moved", followed.first, text, followed.here.records)


def _diagnose(followed: Following, goal: Goal | None) -> Verdict:
    """Of a segment in which something is broken."""
    here, length = followed.here, len(followed.data)
    if followed.stop == "end":
        return Verdict("inserted", here.records + 1, "something stands behind the segment's end")
    verdict = _mended(followed)
    if verdict is not None:
        return verdict
    behind = _behind(followed)
    if followed.stop in ("link", "shape"):
        return _sorted(followed, behind, goal) or _damage(followed, behind, _missing(followed, behind, goal))
    first, rest = behind[0], behind[1:]
    committed = bool(rest) and rest[0].frame.previous == first.digest
    if committed or (first.frame.end == length and followed.stop in ("signature", "mac")):
        return _recomputed(followed, *_claimed(followed, behind, goal))
    missing = _missing(followed, rest, goal)
    number = here.records + 1 if missing else max(here.records, followed.first)
    return Verdict("changed", number, "this record was changed" if missing else "what stands behind it was changed")


def _mended(followed: Following) -> Verdict | None:
    """Whether all that was done here was to change the length or the kind of a frame."""
    frame, behind = mended(followed.data, followed.here.at)
    if behind is None:
        ends = [frame._replace(kind=kind) for kind in (frames.HEAD, frames.END)]
        signed = [each for each in ends if followed.trust.signed(followed.said.key, each)]
        if not signed or frame.previous != followed.here.digest:
            return None
        frame = signed[0]
    begins = frames.frame(frame.kind, frame.previous, frame.body)[:5]
    if begins == followed.data[frame.start : frame.start + 5]:
        return None  # it is as it was
    return _changed_behind(followed, int(frame.kind == frames.RECORD))


def _behind(followed: Following) -> list[Whole]:
    """The whole frames from where it is broken up to the next one that is signed and right."""
    found = []
    for each in wholes(followed.data, followed.here.at, len(followed.data)):
        found.append(each)
        if each.frame.kind in (frames.HEAD, frames.END) and followed.trust.signed(followed.said.key, each.frame):
            break
    return found


def _proven(followed: Following, behind: list[Whole]) -> Whole | None:
    """The signed frame at the end of what was found."""
    last = behind[-1] if behind else None
    if last is None or last.said is None or not followed.trust.signed(followed.said.key, last.frame):
        return None
    return last


def _missing(followed: Following, behind: list[Whole], goal: Goal | None) -> int | None:
    """How many records fewer there are than were signed; None: nothing tells."""
    proven = _proven(followed, behind)
    expected = proven.said if proven else goal.records if goal else None
    if expected is None:
        return None
    return expected - followed.here.records - sum(each.records for each in behind)


def _sorted(followed: Following, behind: list[Whole], goal: Goal | None) -> Verdict | None:
    """Whether all that was written is there, only in another order, or with something between: up to the next frame
    that is signed or, where records have changed places beyond that, up to the last.
    """
    data, here = followed.data, followed.here
    before = list(wholes(data, followed.signed.at, here.at))
    verdict = _order(followed, [*before, *behind], goal)
    if verdict is None and behind and behind[-1].frame.end < len(data):
        verdict = _order(followed, [*before, *wholes(data, here.at, len(data))], goal)
    return verdict


def _order(followed: Following, standing: list[Whole], goal: Goal | None) -> Verdict | None:
    """What became of the order in which frames commit to each other."""
    aims = {each.digest for each in standing if each.said is not None and _is_ours(followed, each)}
    by_previous: dict[bytes, Whole] = {}
    for each in standing:
        by_previous.setdefault(each.frame.previous, each)
    digest = followed.signed.digest
    path: list[Whole] = []
    while digest in by_previous and len(path) < len(standing):
        path.append(by_previous[digest])
        digest = path[-1].digest
    aims = aims or ({goal.digest} if goal else set())
    if not aims or not aims <= {each.digest for each in path}:
        return None
    records = followed.signed.records
    for there, right in zip(standing, path, strict=False):
        if there.frame.start != right.frame.start:
            kind: Kind = "reordered" if len(path) == len(standing) else "inserted"
            return Verdict(kind, records + 1, _ORDER[kind])
        records += there.records
    return Verdict("inserted", followed.here.records + 1, _ORDER["inserted"])


def _damage(followed: Following, behind: list[Whole], missing: int | None) -> Verdict:
    """Something was changed or taken away, and no digest made to fit it."""
    here = followed.here
    proven = here.at == followed.signed.at
    first = behind[0] if behind else None
    if followed.stop == "shape":
        link = followed.data[here.at + 5 : here.at + frames.HEADER]
        if proven or link == here.digest:
            return _changed_behind(followed, missing)
        return _changed_here(followed, missing)
    if first is None or not _is_intact(followed, behind):
        alike = first is not None and _alike(first.frame.previous, here.digest)
        if first is None or alike or proven:
            return _changed_behind(followed, first.records if first is not None else missing)
        return _changed_here(followed, missing)
    if missing is not None and missing > 0:
        text = f"{_counted(missing)} missing" if missing > 1 else "this record is missing"
        return Verdict("removed", here.records + 1, text, here.records + missing)
    if proven:
        return Verdict("removed", here.records + 1, "something that stood before this record is missing")
    return _changed_here(followed, missing)


def _is_intact(followed: Following, behind: list[Whole]) -> bool:
    """Whether the first frame behind the break is as it was written, as far as that can be told."""
    first = behind[0]
    if len(behind) > 1:
        return behind[1].frame.previous == first.digest
    if first.frame.kind in (frames.HEAD, frames.END) or (
        first.frame.kind == frames.TIP and followed.signer is not None
    ):
        return _is_ours(followed, first)
    return not _alike(first.frame.previous, followed.here.digest)


def _alike(one: bytes, other: bytes) -> bool:
    """Whether a digest is another of which a few bytes were changed."""
    return sum(a == b for a, b in zip(one, other, strict=True)) > len(one) // 2


def _is_ours(followed: Following, whole: Whole) -> bool:
    frame = whole.frame
    if frame.kind == frames.TIP and followed.signer is not None:
        return followed.signer.mac(frame.previous) == frame.body
    return frame.kind in (frames.HEAD, frames.END) and followed.trust.signed(followed.said.key, frame)


def _changed_here(followed: Following, missing: int | None) -> Verdict:
    """What stands right before the break."""
    number = max(followed.here.records + min(0, missing or 0), followed.first)
    text = "this record, or what stands behind it, was changed"
    return Verdict("changed", number, text if missing is not None else f"{text} or is missing")


def _changed_behind(followed: Following, records: int | None) -> Verdict:
    """What stands right behind the break."""
    number = followed.here.records
    if records is not None and records <= 0:
        return Verdict("changed", max(number, followed.first), "what stands behind this record was changed")
    last = number + records if records else 0
    return Verdict("changed", number + 1, "this record was changed", last)


def _claimed(followed: Following, behind: list[Whole], goal: Goal | None) -> tuple[int, int]:
    """Records up to the next head as it stands, and as that says or, behind the last, as the next segment does."""
    records = followed.here.records
    for each in behind:
        if each.said is not None:
            return records, goal.records if goal and each.frame.kind == frames.END else each.said
        records += each.records
    return records, goal.records if goal else records


def _recomputed(followed: Following, records: int, expected: int) -> Verdict:
    """It hangs together, but is not what was signed: somebody made digests fit who has no key."""
    proven = followed.counting if followed.signer is not None else followed.signed
    first = proven.records + 1
    if records == expected == proven.records:
        return Verdict("forged", max(records, followed.first), "what is signed behind this record is not right")
    by = "and digests were made to fit by somebody without the key"
    if records < expected:
        text = f"of records {first} to {expected}, {_counted(expected - records)} missing, {by}"
        return Verdict("removed", first, text, expected)
    if records > expected:
        return Verdict("inserted", first, f"from here on stand {records - expected} records too many, {by}", records)
    return Verdict("forged", first, "from here on it was written or changed by somebody without the key", records)


def _counted(number: int) -> str:
    return "one record is" if number == 1 else f"{number} records are"
