"""What the policies of a route that decide by who calls say to a made-up exchange: `gatewayd explain … -H …`.

The hooks run are those that serve. Nothing is charged, for limits are not asked; nothing is fetched unless that is
wanted: a policy that would have to ask somebody else is told of, and those behind it are not asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import NamedTuple

from gatewayd.core.exchange import Exchange
from gatewayd.core.identity import Identity
from gatewayd.core.policy import Reply
from gatewayd.core.problem import POLICY_FAILED
from gatewayd.gateway.snapshot import ChainLink
from gatewayd.identity import fetch


class Said(NamedTuple):
    """The verdict of a policy instance, and why."""

    instance: str
    text: str
    reply: Reply | None = None
    """What it would answer."""
    told: bool = True
    """False: it cannot be told without asking somebody else."""

    @property
    def passes(self) -> bool:
        """Whether the request goes on to those behind it."""
        return self.told and self.reply is None


def rehearse(exchange: Exchange, chain: Sequence[ChainLink], online: bool) -> list[Said]:
    """What the instances of `chain` that find out who calls, or judge by it, say in turn, up to one that refuses."""
    asked = [link for link in chain if link.hooks.authenticate is not None or link.hooks.why is not None]
    return asyncio.run(_ask(exchange, asked, online)) if asked else []


async def _ask(exchange: Exchange, links: Sequence[ChainLink], online: bool) -> list[Said]:
    prevented: list[str] = []
    if not online:
        fetch.prevented.set(prevented)
    said: list[Said] = []
    for link in links:
        found = await _hear(exchange, link)
        if prevented:
            found = Said(link.instance, f"not known without asking {prevented[0]}; --online does", told=False)
        said.append(found)
        if not found.passes:
            break
    await fetch.close()
    return said


async def _hear(exchange: Exchange, link: ChainLink) -> Said:
    """What one instance says."""
    assert link.hooks.access is not None
    known, exchange.verdicts = exchange.identity, None
    try:
        reply = link.hooks.access(exchange)
        if isinstance(reply, Awaitable):
            reply = await reply
    except Exception as error:
        return Said(link.instance, f"fails: {error!r}", POLICY_FAILED)
    return Said(link.instance, _verdict(exchange, link, reply, known), reply)


def _verdict(exchange: Exchange, link: ChainLink, reply: Reply | None, known: Identity | None) -> str:
    text = "passes"
    if reply is not None:
        text = f"refuses with {reply.status} {reply.code}"
    elif exchange.verdicts:
        text = {"observed": "passes, as it does not enforce"}.get(exchange.verdicts[-1][1], "passes, as it fails open")
    if exchange.identity is not None and exchange.identity is not known:
        text += f": {_who(exchange.identity)}"
    return f"{text}: {link.hooks.why(exchange)}" if link.hooks.why is not None else text


def _who(identity: Identity) -> str:
    """Who calls, for the operator."""
    consumer = identity.consumer
    parts = [f"consumer {consumer.id}", f"by {identity.method}"]
    for name, value in (
        ("credential", identity.credential),
        ("groups", " ".join(sorted(consumer.groups))),
        ("plan", consumer.plan),
        ("scopes", " ".join(sorted(identity.scopes))),
    ):
        if value:
            parts.append(f"{name} {value}")
    return ", ".join(parts)
