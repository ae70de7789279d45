"""Which limits hold for whom, for those who ask what they have used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gatewayd.config.model import Document
from gatewayd.core.policy import Consumers, Undecided
from gatewayd.gateway.snapshot import ChainLink
from gatewayd.handlers.usage import Account, report_of


def accounts(links: Mapping[str, ChainLink], document: Document) -> tuple[Account, ...]:
    """The instances that count, in the order of the configuration; not those that nothing names."""
    everywhere = set(document.gateway.policies)
    everywhere.update(*(each.policies for each in document.services.values()))
    everywhere.update(*(each.policies for each in document.routes.values()))
    found = []
    for name, link in links.items():
        plans = frozenset(plan for plan, each in document.plans.items() if name in each.policies)
        if link.hooks.usage is not None and (name in everywhere or plans):
            found.append(Account(name, link.policy, link.hooks.usage, None if name in everywhere else plans))
    return tuple(found)


def hearing(
    known: tuple[Account, ...], consumers: Consumers, monotonic: Callable[[], float]
) -> Callable[[bytes], dict[str, Any] | None]:
    """Answers, for operators, what the consumer of an id has used; None: there is no such consumer."""

    def answer(consumer: bytes) -> dict[str, Any] | None:
        found = consumers.by_id(consumer.decode("utf-8", "replace"))
        try:
            return report_of(known, found, monotonic()) if found is not None else None
        except Undecided as error:
            return {"error": str(error)}

    return answer
