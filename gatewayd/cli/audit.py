"""`gatewayd audit`: verify what is on record, anchor it, show it, erase persons from it. Everything but `erase` and
`rotate` only reads, and needs no daemon.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewayd.cli.commands import FAILED, config_option, config_path
from gatewayd.cli.recording import record
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from gatewayd.audit.anchors import Anchors
    from gatewayd.config.model import Document

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
state_option = click.option(
    "--state", type=_FOLDER, metavar="DIR", help="The state directory, or a copy of it, if not the configuration's."
)
archive_option = click.option("--archive", type=_FOLDER, metavar="DIR", help="Where retention moved segments to.")


@click.group()
def audit() -> None:
    """The call log as proof: chains of records that nobody can change unseen."""


@audit.command()
@config_option
@state_option
@archive_option
@click.option("--from", "since", default="", metavar="WHEN", help='Read wholly from there on: a time, or "24h" ago.')
@click.option("--to", "until", default="", metavar="WHEN", help="And up to there.")
@click.option("--key", "keys", type=_FILE, multiple=True, metavar="FILE", help="A public key in PEM that is trusted.")
@click.option("--anchor", "anchors", type=_FILE, multiple=True, metavar="FILE", help="What `audit export` printed.")
@click.option("--json", "as_json", is_flag=True, help="Everything that was found out, as JSON.")
@click.pass_context
def verify(
    context: click.Context,
    state: Path | None,
    archive: Path | None,
    since: str,
    until: str,
    keys: tuple[Path, ...],
    anchors: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Prove that no record was changed or removed, or name the first one that was. Exits with 1 if one was."""
    import msgspec

    from gatewayd.audit.anchors import load
    from gatewayd.audit.keys import signer_at
    from gatewayd.audit.verify import verify as check
    from gatewayd.cli.proof import print_report

    folder = _state(context, state)
    _must_be_there(folder, archive)
    known = [load(path) for path in anchors]
    report = check(
        folder,
        keys=_trusted(keys, known),
        signer=signer_at(folder),
        since=_moment(since),
        until=_moment(until),
        anchors=[each for document in known for each in document.chains],
        archive=archive,
    )
    if not keys and not known:
        report.notes.append("the keys are those of the state directory: who could change the files could change them")
    if as_json:
        found = {"fine": report.fine, **msgspec.to_builtins(report)}
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        print_report(report)
    if not report.fine:
        context.exit(FAILED)


@audit.command()
@config_option
@state_option
@click.pass_context
def export(context: click.Context, state: Path | None) -> None:
    """Print an anchor: up to where every chain is signed now. It is to be kept elsewhere, for `verify --anchor`."""
    import msgspec

    from gatewayd.audit.anchors import export as make

    folder = _state(context, state)
    _must_be_there(folder, None)
    click.echo(msgspec.json.format(msgspec.json.encode(make(folder))).decode())


@audit.command()
@config_option
@state_option
@click.pass_context
def key(context: click.Context, state: Path | None) -> None:
    """Print the public key in PEM that verifies what is signed now; who verifies is to have it from here."""
    from gatewayd.audit.keys import pem_of, signer_at

    folder = _state(context, state)
    signer = signer_at(folder)
    if signer is None:
        raise GatewaydError(f"{folder / 'audit'}: the key that signs is not there, or not readable for this user")
    click.echo(pem_of(signer.public).decode(), nl=False)


@audit.command()
@config_option
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record of actions.")
@click.pass_context
def rotate(context: click.Context, reason: str) -> None:
    """Have a new key sign from the next start on. The old one signs for it, so that who knows that can go on."""
    from gatewayd.audit.actions import change_key, user

    name = change_key(_state(context, None), actor=user(), reason=reason)
    click.echo(f"{name} signs from the next start or upgrade of the daemon on", err=True)


@audit.command()
@config_option
@click.argument("consumer")
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the record of actions.")
@click.pass_context
def erase(context: click.Context, consumer: str, reason: str) -> None:
    """Make unreadable for ever what is sealed of CONSUMER's calls. The records stay, and stay provable."""
    from gatewayd.audit.erasure import erase as destroy
    from gatewayd.audit.subjects import subject_of
    from gatewayd.core.state import state_folder

    document = _document(context)
    subject = subject_of(consumer, 0.0).hex()
    record(document, "audit.erase", consumer, after={"subject": subject}, reason=reason)
    destroy(state_folder(document), consumer)
    click.echo(f"what is sealed of {consumer} (subject {subject}) can no longer be read")


@audit.command()
@config_option
@state_option
@archive_option
@click.argument("chain")
@click.argument("segment", type=int, required=False)
@click.pass_context
def show(context: click.Context, state: Path | None, archive: Path | None, chain: str, segment: int | None) -> None:
    """Print the records of CHAIN, or of one SEGMENT of it, as JSON: one a line. Nothing is verified."""
    import msgspec

    from gatewayd.audit.plain import told
    from gatewayd.audit.stored import Stored
    from gatewayd.audit.subjects import SubjectKeys
    from gatewayd.cli.proof import records

    folder = _state(context, state)
    stored = Stored(chain, folder, archive)
    numbers = stored.numbers if segment is None else [segment]
    if not set(numbers) <= set(stored.numbers) or not numbers:
        raise GatewaydError(f"{folder / 'audit'}: there is no such segment of {chain}")
    subjects = SubjectKeys(folder)
    for number in numbers:
        for place, body in records(stored.read(number)):
            line = {"chain": chain, "segment": number, "number": place, **told(chain, body, subjects)}
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")


def _document(context: click.Context) -> Document:
    from gatewayd.config.load import load

    return load(config_path(context), os.environ).document


def _state(context: click.Context, given: Path | None) -> Path:
    from gatewayd.core.state import state_folder

    return given or state_folder(_document(context))


def _must_be_there(state: Path, archive: Path | None) -> None:
    """Nothing to verify is no proof of anything."""
    if not (state / "audit").is_dir() and archive is None:
        raise GatewaydError(f"{state / 'audit'}: nothing is on record there")


def _trusted(keys: tuple[Path, ...], anchors: list[Anchors]) -> dict[str, Ed25519PublicKey] | None:
    """The keys that are given; else those that came with anchors; None: those of the state directory."""
    from gatewayd.audit.anchors import keys_of
    from gatewayd.audit.keys import key_id, load_public

    if keys:
        return {key_id(each): each for each in map(load_public, keys)}
    return keys_of(anchors) if anchors else None


def _moment(text: str) -> float | None:
    """Unix time, from a time or from a duration before now."""
    from gatewayd.config.units import Duration, Moment, UnitError

    try:
        if not text or text[:5].endswith("-"):
            return float(Moment.parse(text)) or None
        return time.time() - Duration.parse(text)
    except UnitError as error:
        raise click.UsageError(f"{text!r} {error}; allowed: {Moment.ALLOWED}, or {Duration.ALLOWED}") from None
