"""Consumers whose plan is not configured: warnings and no faults, for one of them must not take all else down.

Such a consumer has no plan, and so none of its limits: a slip of the pen that nobody would notice. Where there are no
plans at all, their names may be meant for targets alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import msgspec

from gatewayd.config.faults import Faults, Locate, did_you_mean, nowhere
from gatewayd.config.keys import join
from gatewayd.config.model import Document
from gatewayd.errors import Fault

MOST = 20
"""Names of the consumers file that are told of."""
_MESSAGE = "there is no plan of this name, so nothing of a plan holds for"


class Listed(msgspec.Struct):
    """What counts here of a line of the consumers file."""

    id: str = ""
    plan: str = ""


_decode = msgspec.json.Decoder(Listed).decode


def planless(document: Document, locate: Locate = nowhere) -> list[Fault]:
    """What is to be said of consumers' plans. Of the consumers file the first of each name."""
    if not document.plans:
        return []
    faults = Faults(locate)
    for name, consumer in document.consumers.items():
        if consumer.plan and consumer.plan not in document.plans:
            faults.choose(("consumers", name, "plan"), f"{_MESSAGE} this consumer", consumer.plan, document.plans)
    with contextlib.suppress(OSError, ValueError):  # it is another file by now
        faults.found.extend(_of_file(document.identity.consumers_file, document.plans))
    return faults.found


def _of_file(path: str, plans: Collection[str]) -> Iterator[Fault]:
    found: dict[str, tuple[int, str]] = {}
    count: dict[str, int] = {}
    for number, each in listed(path):
        if each.plan and each.plan not in plans and (each.plan in found or len(found) < MOST):
            found.setdefault(each.plan, (number, each.id))
            count[each.plan] = count.get(each.plan, 0) + 1
    for plan, (line, name) in found.items():
        more = f" and {count[plan] - 1} more" if count[plan] > 1 else ""
        key = join(("consumers", name, "plan"))
        yield Fault(key, f"{_MESSAGE} this consumer{more}", plan, "", did_you_mean(plan, plans), path, line)


def listed(path: str) -> Iterator[tuple[int, Listed]]:
    """The consumers of the file, with their lines. Raises `OSError`, and `ValueError` for a line that is none."""
    if not path:
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, _decode(line)
