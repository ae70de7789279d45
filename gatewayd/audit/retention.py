"""Old segments go: to an archive or for good, the oldest first, each verified, and put on record with what it takes to
prove what remains and what was archived.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from gatewayd.audit import opening
from gatewayd.audit.actions import Retired, retire
from gatewayd.audit.diagnosis import Goal, judge
from gatewayd.audit.following import Following
from gatewayd.audit.keys import FOLDER, public_keys, sync_folder
from gatewayd.audit.opening import Opened
from gatewayd.audit.segments import ACTIONS, chains, segment_path
from gatewayd.audit.stored import PACKED, Stored
from gatewayd.audit.trust import Trust
from gatewayd.config.model import Audit

AT_ONCE = 100
"""Segments that go on record in one action."""
ACTOR = "gatewayd"
_log = logging.getLogger(__name__)
Ingested = Callable[[str], int | None]
"""The first segment of a chain that whoever reads along still needs; None: nobody reads along."""


def nobody(chain: str) -> int | None:
    """Nobody reads along."""
    return None


class Outcome(NamedTuple):
    """Of one round."""

    retired: int = 0
    """Segments that went."""
    broken: tuple[str, ...] = ()
    """Why some stay that should go: they are the only proof of what was done to them."""


def go(config: Audit, state: Path, now: float, ingested: Ingested = nobody) -> Outcome:
    """Retire what is older than `config.retention`, but no segment that is not ingested yet, and never a chain's last.

    The chain `actions` stays: it holds the proofs. While somebody verifies, nothing goes. Raises `OSError`,
    `ActionError`, `SigningKeyError`.
    """
    retired, broken = 0, []
    with _alone(state / FOLDER) as alone:
        if not config.retention or not alone:
            return Outcome()
        for folder in chains(state):
            if folder.name != ACTIONS:
                going, why = _due(Stored(folder.name, state), state, now - config.retention, ingested(folder.name))
                broken += [f"{folder.name}: {why}"] if why else []
                for start in range(0, len(going), AT_ONCE):
                    _retire(config, state, folder, going[start : start + AT_ONCE])
                retired += len(going)
    return Outcome(retired, tuple(broken))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether nobody verifies meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _due(stored: Stored, state: Path, until: float, ingested: int | None) -> tuple[list[Retired], str]:
    """Which segments of a chain go, and why one does not that should."""
    trust = Trust(public_keys(state))
    openings = [opening.checked(opening.read(stored, number), stored.name, trust) for number in stored.numbers]
    going: list[Retired] = []
    for index, each in enumerate(openings[:-1]):
        behind = next((other for other in openings[index + 1 :] if other.said or other.fault), None)
        if behind is None or behind.said is None or behind.said.at > until * 1e9:
            break
        if ingested is not None and each.number >= ingested:
            break
        found, why = _verified(stored, each, behind, trust)
        if found is None:
            return going, f"segment {each.number} stays: {why}"
        going.append(found)
    return going, ""


def _verified(stored: Stored, here: Opened, behind: Opened, trust: Trust) -> tuple[Retired | None, str]:
    """What goes on record of a segment; or None, and what is wrong with it."""
    if here.fault or behind.fault or behind.frame is None or behind.said is None:
        return None, here.fault or behind.fault
    digest, records = behind.frame.previous, behind.said.records
    if here.frame is None or here.said is None:  # cut off before it said anything
        return Retired(here.number, records + 1, records, digest, digest), ""
    before = behind.said.before
    goal = Goal(records, digest, before.size, before.dropped) if before else Goal(records, digest)
    if (before.segment if before else behind.number - 1) != here.number:
        return None, f"segment {behind.number} does not go on from it"
    followed = Following(stored.read(here.number), here.frame, here.said, trust).run(goal.size)
    verdict = judge(followed, goal)
    if verdict is not None:
        return None, f"record {verdict.record}: {verdict.text}"
    return Retired(here.number, here.said.records + 1, records, here.frame.previous, digest), ""


def _retire(config: Audit, state: Path, folder: Path, going: list[Retired]) -> None:
    retire(state, folder.name, going, actor=ACTOR, to=config.archive)
    for each in going:
        path = segment_path(folder, each.segment)
        if config.archive:
            _archive(path, Path(config.archive, folder.name))
        path.unlink()
    sync_folder(folder)
    numbers = f"{going[0].segment} to {going[-1].segment}"
    _log.info(
        "audit: segments %s of %s are retired%s", numbers, folder.name, config.archive and f" to {config.archive}"
    )


def _archive(path: Path, folder: Path) -> None:
    """Put a packed copy of a segment into a folder of the archive, durably."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = folder / f"{path.name}{PACKED}"
    part = target.with_name(f".{target.name}.part")
    with path.open("rb") as source, part.open("wb") as file:
        with gzip.GzipFile(path.name, "wb", 6, file, mtime=0) as packed:
            shutil.copyfileobj(source, packed, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    part.chmod(0o600)
    os.rename(part, target)
    sync_folder(folder)
