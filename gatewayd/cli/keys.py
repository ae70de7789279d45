"""`gatewayd keys`: makes, lists, replaces and revokes API keys in the consumers file. A key is printed once, when it is
made, and stored nowhere.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from gatewayd.cli.commands import config_option, config_path
from gatewayd.cli.recording import of_key, reason_option, record
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from gatewayd.cli.consumer_file import ConsumerFile, Table
    from gatewayd.config.model import Document

_KEY_ID = "0123456789abcdefghjkmnpqrstvwxyz"
_TOLD = 1000
"""Keys that the record of an import names."""


@click.group()
def keys() -> None:
    """API keys of consumers, in the file that `identity.consumers_file` names."""


@keys.command()
@config_option
@click.argument("consumer")
@click.option("--id", "name", default="", metavar="NAME", help="What the key is called in logs; made up if not given.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What the key reaches; may be repeated.")
@click.option("--not-before", default="", metavar="WHEN", help='A time, or a duration from now such as "1d".')
@click.option("--expires", default="", metavar="WHEN", help='A time, or a duration from now such as "90d".')
@click.option("--create", is_flag=True, help="Make the consumer too, if there is none of this id.")
@reason_option
@click.pass_context
def new(
    context: click.Context,
    consumer: str,
    name: str,
    scopes: tuple[str, ...],
    not_before: str,
    expires: str,
    create: bool,
    reason: str,
) -> None:
    """Make a key for CONSUMER and print it. It is never shown again."""
    from gatewayd.cli.consumer_file import changing

    document = _document(context)
    times = {"not_before": _moment(not_before), "expires": _moment(expires)}
    key, table = _make(document, name, {**times, "scopes": list(scopes)})
    if consumer in document.consumers:
        _show(key)
        click.echo(f"{consumer} stands in the configuration itself; add there:\n{_as_toml(consumer, table)}", err=True)
        return
    with changing(_file_of(document, consumer)) as file:
        _add(file, consumer, table, create)
        record(document, "keys.new", consumer, after=of_key(table), reason=reason)
    _show(key)
    _hint(f"key {table['id']} of {consumer} is made")


@keys.command("list")
@config_option
@click.argument("consumer", required=False)
@click.pass_context
def list_(context: click.Context, consumer: str | None) -> None:
    """List the keys of CONSUMER, or all: what they are called, how they end, whether they work, when last used."""
    from gatewayd.cli.tables import print_keys

    rows = list(_rows(_document(context), consumer))
    print_keys(rows)
    if not rows:
        click.echo(f"there is no key of {consumer}" if consumer else "there is no key", err=True)


@keys.command()
@config_option
@click.argument("consumer")
@click.argument("key")
@reason_option
@click.pass_context
def revoke(context: click.Context, consumer: str, key: str, reason: str) -> None:
    """Refuse the key called KEY of CONSUMER from the next reload on, for ever."""
    from gatewayd.cli.consumer_file import changing

    document = _document(context)
    with changing(_file_of(document, consumer)) as file:
        table, found = _key(file, consumer, key)
        if found.get("revoked"):
            raise GatewaydError(f"key {key} of {consumer} was revoked {found['revoked']}")
        before = of_key(found)
        found["revoked"] = _text(time.time())
        file.put(table)
        record(document, "keys.revoke", consumer, before, of_key(found), reason)
    _hint(f"key {key} of {consumer} is revoked")


@keys.command()
@config_option
@click.argument("consumer")
@click.argument("key")
@click.option("--grace", default="7d", metavar="DURATION", show_default=True, help="How long the old one works on.")
@click.option("--expires", default="", metavar="WHEN", help="Of the new one; if not given it lives as long as the old.")
@reason_option
@click.pass_context
def rotate(context: click.Context, consumer: str, key: str, grace: str, expires: str, reason: str) -> None:
    """Replace the key called KEY of CONSUMER by another and print that. The old one works until its grace is over."""
    from gatewayd.cli.consumer_file import changing

    document = _document(context)
    until = time.time() + _duration(grace)
    with changing(_file_of(document, consumer)) as file:
        old = _key(file, consumer, key)[1]
        if old.get("revoked") or old.get("grace_until"):
            raise GatewaydError(f"key {key} of {consumer} is {'revoked' if old.get('revoked') else 'replaced'} already")
        options = {"expires": _moment(expires) or _as_long(old), "scopes": old.get("scopes", [])}
        fresh, made = _make(document, "", options)
        old["grace_until"] = _text(until)
        _add(file, consumer, made, create=False)
        record(document, "keys.rotate", consumer, of_key(old), of_key(made), reason)
    _show(fresh)
    _hint(f"key {made['id']} of {consumer} is made; {key} works until {old['grace_until']}")


@keys.command("import")
@config_option
@click.argument("consumer", required=False)
@click.option("--create", is_flag=True, help="Make consumers that there are not.")
@reason_option
@click.pass_context
def import_(context: click.Context, consumer: str | None, create: bool, reason: str) -> None:
    """Take in keys that exist already, from the standard input, one per line: of CONSUMER, or after their consumer's id
    and a space. A line "hmac-sha256:…" is the hash of a key under the same pepper. Keys that were not made by gatewayd
    are only taken where the policy says `imported = true`.
    """
    from gatewayd.cli.consumer_file import changing

    document = _document(context)
    lines = [line.split() for line in sys.stdin if line.strip()]
    with changing(_file_of(document, consumer or "")) as file:
        known = {each.get("hash") for table in file for each in table.get("keys", [])}
        taken = []
        for number, words in enumerate(lines, 1):
            owner, shown = _owned(words, consumer, number)
            table = _imported(document, shown, number)
            if table["hash"] in known:
                raise GatewaydError(f"line {number}: this key is known already; nothing was imported")
            known.add(table["hash"])
            _add(file, owner, table, create)
            taken.append({"consumer": owner, **of_key(table)})
        told = {"count": len(taken), "first": taken[:_TOLD]}
        record(document, "keys.import", consumer or "", after=told, reason=reason)
    _hint(f"{len(lines)} keys are imported")


# -- keys -----------------------------------------------------------------------------------------------------------


def _make(document: Document, name: str, options: dict[str, Any]) -> tuple[str, Table]:
    """A key, and what is stored of it."""
    from gatewayd.config.units import Moment
    from gatewayd.identity import api_keys

    ends = Moment.parse(options.get("expires", ""))
    if ends and ends <= time.time():
        raise GatewaydError(f"the key would have expired {ends}; --expires says when it is to")
    key = api_keys.new_key(document.identity.environment)
    stored = api_keys.stored(api_keys.hasher(_pepper(document))(key.encode()))
    return key, _checked(name, stored, api_keys.hint(key), options)


def _imported(document: Document, key: str, number: int) -> Table:
    """What is stored of a key that exists, or of the hash of one. An error never shows it."""
    from gatewayd.identity import api_keys

    if key.startswith("hmac-sha256:"):
        return _checked("", key, "", {}, f"line {number}")
    shown = key.encode()
    if not api_keys.recogniser(document.identity.environment)(shown) and not api_keys.fit_elsewhere(shown):
        raise GatewaydError(
            f"line {number}: no key: {api_keys.SHORTEST} to {api_keys.LONGEST} visible characters are wanted, and of"
            f" keys that begin with gw_ the environment {document.identity.environment!r} and a right checksum"
        )
    stored = api_keys.stored(api_keys.hasher(_pepper(document))(shown))
    return _checked("", stored, api_keys.hint(key), {})


def _checked(name: str, stored: str, hint: str, options: dict[str, Any], place: str = "") -> Table:
    """The table of a key, as sure to be right as the configuration's own."""
    import secrets

    from gatewayd.config.consumers import ApiKey
    from gatewayd.config.convert import convert_table

    name = name or "k" + "".join(secrets.choice(_KEY_ID) for _ in range(8))
    table = {"id": name, "hash": stored, "hint": hint, "created": _text(time.time()), **options}
    table = {option: value for option, value in table.items() if value}
    _, faults = convert_table(ApiKey, table, place or "key")
    if faults:
        raise GatewaydError("\n".join(str(fault) for fault in faults))
    return table


def _add(file: ConsumerFile, consumer: str, key: Table, create: bool) -> None:
    table = file.consumer(consumer)
    if table is None and not create:
        raise GatewaydError(f"{file.path}: there is no consumer {consumer}; --create makes one")
    table = table or _new_consumer(consumer)
    if any(each.get("id") == key["id"] for each in table.get("keys", [])):
        raise GatewaydError(f"{consumer} has a key called {key['id']} already")
    table["keys"] = [*table.get("keys", []), key]
    file.put(table)


def _new_consumer(name: str) -> Table:
    """The table of a consumer that has nothing yet."""
    from gatewayd.config.consumers import ListedConsumer
    from gatewayd.config.convert import convert_table

    table: Table = {"id": name}
    _, faults = convert_table(ListedConsumer, table, "consumer")
    if faults:
        raise GatewaydError("\n".join(f"{name!r}: {fault}" for fault in faults))
    return table


def _key(file: ConsumerFile, consumer: str, key: str) -> tuple[Table, Table]:
    """A consumer's table and its key of that name."""
    table = file.consumer(consumer)
    if table is None:
        raise GatewaydError(f"{file.path}: there is no consumer {consumer}")
    for found in table.get("keys", []):
        if found.get("id") == key:
            return table, found
    raise GatewaydError(f"{consumer} has no key called {key}; `gatewayd keys list {consumer}` says which there are")


def _owned(words: list[str], consumer: str | None, number: int) -> tuple[str, str]:
    if len(words) != (1 if consumer else 2):
        raise GatewaydError(f"line {number}: {'a key' if consumer else 'a consumer and a key'} is wanted")
    return consumer or words[0], words[-1]


def _rows(document: Document, consumer: str | None) -> Iterator[list[str]]:
    """A row of `keys list` for each key, those of the configuration itself first."""
    import msgspec

    from gatewayd.cli.consumer_file import read
    from gatewayd.config.units import to_plain
    from gatewayd.core.state import StateError, state_folder
    from gatewayd.identity import last_use

    try:
        used = last_use.read(state_folder(document))
    except StateError:
        used = {}
    own = [{"id": name, **msgspec.to_builtins(each, enc_hook=to_plain)} for name, each in document.consumers.items()]
    listed = read(document.identity.consumers_file) if document.identity.consumers_file else ()
    for table in [*own, *listed]:
        if consumer in (None, table["id"]):
            for key in table.get("keys", []):
                hour = last_use.hour_of(used, bytes.fromhex(key["hash"].partition(":")[2]))
                yield [
                    table["id"],
                    key["id"],
                    f"…{key['hint']}" if key.get("hint") else "",
                    _state(key),
                    _text(hour * last_use.HOUR)[:16] if hour else "",
                ]


def _state(key: Table) -> str:
    """Whether a key works, and until when."""
    from gatewayd.config.units import Moment

    now = time.time()
    times = {name: Moment.parse(key.get(name, "")) for name in ("not_before", "expires", "grace_until", "revoked")}
    if times["revoked"]:
        return f"revoked {times['revoked']}"
    for name, word in (("expires", "expired"), ("grace_until", "replaced")):
        if times[name] and times[name] <= now:
            return f"{word} {times[name]}"
    if times["not_before"] > now:
        return f"valid from {times['not_before']}"
    if times["grace_until"]:
        return f"replaced, valid until {times['grace_until']}"
    return f"valid until {times['expires']}" if times["expires"] else "valid"


# -- what is typed, and what is said ------------------------------------------------------------------------------


def _document(context: click.Context) -> Document:
    from gatewayd.config.load import load

    return load(config_path(context), os.environ).document


def _pepper(document: Document) -> str:
    from gatewayd.identity.api_keys import SHORTEST_PEPPER

    if len(document.identity.pepper) < SHORTEST_PEPPER:
        raise GatewaydError(f"identity.pepper is missing: a secret of {SHORTEST_PEPPER} characters or more is wanted")
    return document.identity.pepper


def _file_of(document: Document, consumer: str) -> str:
    if consumer in document.consumers:
        raise GatewaydError(f"{consumer} stands in the configuration itself; edit [consumers.{consumer}] there")
    if not document.identity.consumers_file:
        raise GatewaydError("the configuration names no identity.consumers_file; keys in it have to be edited there")
    return document.identity.consumers_file


def _moment(text: str) -> str:
    """A time as the file has it, from a time or from a duration from now."""
    from gatewayd.config.units import Duration, Moment, UnitError

    try:
        if not text or text[:5].endswith("-"):
            return str(Moment.parse(text))
        return _text(time.time() + Duration.parse(text))
    except UnitError as error:
        raise click.UsageError(f"{text!r} {error}; allowed: {Moment.ALLOWED}, or {Duration.ALLOWED}") from None


def _duration(text: str) -> float:
    from gatewayd.config.units import Duration, UnitError

    try:
        return Duration.parse(text)
    except UnitError as error:
        raise click.UsageError(f"{text!r} {error}; allowed: {Duration.ALLOWED}") from None


def _text(moment: float) -> str:
    from gatewayd.config.units import Moment

    return str(Moment(int(moment)))


def _as_long(old: Table) -> str:
    """When a key that is made now expires, if it is to live as long as the one it replaces."""
    from gatewayd.config.units import Moment

    created, expires = Moment.parse(old.get("created", "")), Moment.parse(old.get("expires", ""))
    return _text(time.time() + expires - created) if created and expires else str(expires)


def _as_toml(consumer: str, key: Table) -> str:
    import tomli_w

    return f"\n[[consumers.{consumer}.keys]]\n{tomli_w.dumps(key)}"


def _show(key: str) -> None:
    """The key alone on the standard output, so that it can be taken on by a program."""
    click.echo(key)
    click.echo("Keep it: it is shown this once and stored nowhere.", err=True)


def _hint(done: str) -> None:
    click.echo(f"{done}; `gatewayd reload` has the daemon know it", err=True)
