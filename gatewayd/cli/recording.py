"""What commands change goes on record, where the configuration at hand says `audit.enabled`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from gatewayd.config.model import Document

SHOWN = ("id", "hint", "scopes", "not_before", "expires", "grace_until", "revoked")
"""What of a key's table is told."""
reason_option = click.option("--reason", default="", metavar="TEXT", help="Why, for the record of actions.")


def record(
    document: Document,
    action: str,
    target: str,
    before: object = None,
    after: object = None,
    reason: str = "",
) -> None:
    """Put an action on record, before it is done. One that cannot be is refused where `audit.on_full` is "refuse".

    Raises `GatewaydError`.
    """
    if not document.audit.enabled:
        return
    from gatewayd.audit.actions import ActionError, act, user
    from gatewayd.core.state import state_folder

    try:
        act(state_folder(document), action, actor=user(), target=target, before=before, after=after, reason=reason)
    except ActionError as error:
        if document.audit.on_full == "refuse":
            raise GatewaydError(f"not done, for it cannot be put on record: {error}") from error
        click.echo(f"warning: {error}", err=True)


def of_key(key: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of a key: never what it is, nor its hash."""
    return {name: key[name] for name in SHOWN if key.get(name)}
