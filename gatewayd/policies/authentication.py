"""Asks other instances who calls: any of them, or all of them. They need not be attached anywhere themselves."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, field

from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.identity import Authenticator, Identity
from gatewayd.core.policy import BuildContext, Hooks, ReplyHook
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity.combining import all_of, any_of, or_else, untold
from gatewayd.identity.require import missing, require

STACKS = False


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `authentication`: either `any_of` or `all_of`."""

    any_of: list[str] = field(default_factory=list)  # instances; the first that finds something of its kind decides
    all_of: list[str] = field(default_factory=list)  # instances; every one must find the same consumer
    anonymous: str = ""  # id of the consumer that callers are who show nothing at all; "": they are refused


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    if bool(config.any_of) == bool(config.all_of):
        raise ConfigError([Fault("any_of", "instances are named here or in all_of", allowed="one of the two")])
    key, names = ("any_of", config.any_of) if config.any_of else ("all_of", config.all_of)
    faults: list[Fault] = []
    members = list(_members(key, names, context, faults))
    guest = context.consumers.by_id(config.anonymous) if config.anonymous else None
    if config.anonymous and guest is None:
        faults.append(Fault("anonymous", "there is no consumer of this id", config.anonymous))
    if faults:
        raise ConfigError(faults)
    challenges = tuple(dict.fromkeys(each for hooks, _ in members for each in hooks.challenges))
    asked = [authenticate for _, authenticate in members]
    authenticate = any_of(asked) if config.any_of else all_of(asked, missing(challenges))
    said = f"{key.replace('_', ' ')}: {', '.join(names)}"
    if guest is not None:
        authenticate = or_else(authenticate, Identity(guest, "anonymous"))
        said += f"; without any: {guest.id}"
    told = frozenset(field for hooks, _ in members for field in hooks.tells)
    authenticate = untold(authenticate, told)
    return Hooks(
        access=require(authenticate, challenges, context),
        reply=_each([hooks.reply for hooks, _ in members if hooks.reply is not None]),
        authenticate=authenticate,
        challenges=challenges,
        tells=told,
        explain=said,
    )


def _each(replies: list[ReplyHook]) -> ReplyHook | None:
    """What the members do to replies, such as a warning that a key will end."""

    def reply(exchange: Exchange, headers: Headers) -> None:
        for hook in replies:
            hook(exchange, headers)

    return reply if replies else None


def _members(
    key: str, names: list[str], context: BuildContext, faults: list[Fault]
) -> Iterator[tuple[Hooks, Authenticator]]:
    assert context.hooks_of is not None
    for at, name in enumerate(names):
        path = f"{key}[{at}]"
        try:
            hooks = context.hooks_of(name)
        except ConfigError as error:
            own = [fault for fault in error.faults if not fault.path]  # others are told of where they stand
            message = own[0].message if own else "it is wrong itself"
            faults.append(Fault(path, message, name, own[0].allowed if own else ""))
            continue
        if hooks.authenticate is None:
            faults.append(Fault(path, "an instance that does not find out who calls", name))
        else:
            yield hooks, hooks.authenticate
