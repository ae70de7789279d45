"""Tells targets who calls, in headers that no caller can forge.

Fields whose names begin with `X-Consumer-`, `X-Credential-` and `X-Gateway-`, and all with `_`, are taken off every
request when it is read, on all routes (`rfc.headers`); those of other names are taken off here.
"""

from __future__ import annotations

from msgspec import Struct

from gatewayd.core.exchange import Exchange, Headers
from gatewayd.core.identity import Consumer, Identity
from gatewayd.core.policy import AccessHook, BuildContext, Hooks
from gatewayd.errors import ConfigError, Fault
from gatewayd.identity import naming

STACKS = False

REMEMBERED = 16_384
"""Callers whose fields are kept ready, per worker and instance."""
_Ready = dict[tuple[str, str], tuple[Consumer, Headers]]
"""By consumer and credential."""


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of `consumer_headers`: the name of each field, "" for one that is not sent."""

    id: str = "X-Consumer-Id"  # the consumer's id
    name: str = "X-Consumer-Name"  # its name
    groups: str = "X-Consumer-Groups"  # its groups, sorted, with commas between them
    plan: str = "X-Consumer-Plan"  # its plan
    credential: str = "X-Credential-Id"  # the id of what it showed


def build(config: Config, context: BuildContext) -> Hooks:
    """Hooks for the routes of an instance."""
    options = {name: getattr(config, name) for name in Config.__struct_fields__ if getattr(config, name)}
    faults = [fault for option, name in options.items() for fault in naming.name_faults(option, name)]
    names = {option: name.lower().encode() for option, name in options.items()}
    if len(set(names.values())) != len(names):
        faults.append(Fault("id", "two options have the same name", ", ".join(options.values())))
    if not options:
        faults.append(Fault("id", "nothing is sent", allowed=", ".join(Config.__struct_fields__)))
    if faults:
        raise ConfigError(faults)
    foreign = frozenset(name for name in names.values() if not naming.is_reserved(name))
    tell = _teller(names, {})
    access = _washed(tell, foreign) if foreign else tell
    return Hooks(access=access, tells=foreign, explain=" ".join(options.values()))


def _teller(names: dict[str, bytes], ready: _Ready) -> AccessHook:
    def tell(exchange: Exchange) -> None:
        identity = exchange.identity
        if identity is None:
            return
        consumer = identity.consumer
        key = (consumer.id, identity.credential)
        found = ready.get(key)
        if found is None or (found[0] is not consumer and found[0] != consumer):
            if len(ready) >= REMEMBERED:
                del ready[next(iter(ready))]
            found = ready[key] = consumer, _fields(identity, names)
        exchange.headers += found[1]

    return tell


def _fields(identity: Identity, names: dict[str, bytes]) -> Headers:
    consumer = identity.consumer
    values = {
        "id": naming.text(consumer.id),
        "name": naming.text(consumer.name),
        "groups": naming.listed(sorted(consumer.groups)),
        "plan": naming.text(consumer.plan),
        "credential": naming.text(identity.credential),
    }
    return [(name, values[option]) for option, name in names.items() if values[option]]


def _washed(tell: AccessHook, names: frozenset[bytes]) -> AccessHook:
    """`tell`, behind the removal of what callers sent under `names`."""

    def access(exchange: Exchange) -> None:
        exchange.headers = [pair for pair in exchange.headers if pair[0] not in names]
        tell(exchange)

    return access
