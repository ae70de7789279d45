"""`gatewayd replay`: what another configuration would have made of the calls on record."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatewayd.cli.commands import FAILED, config_option, config_path
from gatewayd.errors import GatewaydError

if TYPE_CHECKING:
    from gatewayd.audit.calls import Source
    from gatewayd.config.model import Document
    from gatewayd.gateway.replay import Report

SHOWN = 20
"""Kinds of changes shown unless more are wanted."""


@click.command()
@config_option
@click.option("--last", default="", metavar="DURATION", help='Calls of so long until now, such as "24h" (the default).')
@click.option("--from", "since", default="", metavar="WHEN", help="Calls from this time on.")
@click.option("--to", "until", default="", metavar="WHEN", help="Calls before this time.")
@click.option("--state", default="", metavar="DIR", help="Where the records are, if not in the candidate's state_dir.")
@click.option("--serving", default="", metavar="FILE", help="The configuration that served the calls: more is decided.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--limit", default=SHOWN, metavar="N", type=click.IntRange(1), help=f"Kinds of changes shown: {SHOWN}.")
@click.option("--all", "everything", is_flag=True, help="Show all of them.")
@click.pass_context
def replay(
    context: click.Context,
    last: str,
    since: str,
    until: str,
    state: str,
    serving: str,
    as_json: bool,
    limit: int,
    everything: bool,
) -> None:
    """Judge recorded calls by a candidate configuration (-c); nobody is asked, and nothing is sent.

    Exit code 0: nothing would change; 1: something would; 2: the configuration cannot be used.
    """
    start, end = _span(last, since, until)
    document = _document(config_path(context))
    report = _judged(document, _source(document, state), start, end, _document(serving) if serving else None)
    shown = len(report.changes) if everything else limit
    if as_json:
        import json

        click.echo(json.dumps(report.plain(shown), indent=2))
    else:
        from gatewayd.cli.tables import print_replay

        print_replay(report, shown)
    sys.exit(FAILED if report.changes else 0)


def _judged(document: Document, source: Source, start: int, end: int, serving: Document | None) -> Report:
    from gatewayd.audit.calls import recorded
    from gatewayd.audit.masking import pseudonyms
    from gatewayd.gateway.candidate import Candidate
    from gatewayd.gateway.replay import Report, replay

    report = Report()
    source = source._replace(broken=lambda error: report.broken.append(str(error)))
    hashed = pseudonyms(source.signer.pseudonyms) if source.signer is not None else None
    candidate = Candidate(document, start, hashed, serving)
    try:
        return replay(recorded(source, start, end), candidate, report)
    finally:
        candidate.close()


def _document(path: str) -> Document:
    from gatewayd.config.load import load
    from gatewayd.gateway.chains import CONFIGS

    return load(path, os.environ, CONFIGS).document


def _source(document: Document, state: str) -> Source:
    """The records of a state directory. It is only read: a key that is not there is not made."""
    from gatewayd.audit.calls import Source
    from gatewayd.audit.keys import FOLDER, signer_at
    from gatewayd.audit.subjects import SubjectKeys
    from gatewayd.core.state import state_folder

    folder = Path(state) if state else state_folder(document)
    if not (folder / FOLDER).is_dir():
        raise GatewaydError(f"no calls are on record in {folder}; --state names another state directory")
    archive = Path(document.audit.archive) if document.audit.archive else None
    return Source(folder, SubjectKeys(folder), signer_at(folder), archive)


def _span(last: str, since: str, until: str) -> tuple[int, int]:
    """From when until when, in nanoseconds since the epoch."""
    from gatewayd.config.units import Duration, Moment, UnitError

    if last and (since or until):
        raise click.UsageError("say either --last, or --from and --to")
    try:
        end = Moment.parse(until) if until else time.time()
        start = Moment.parse(since) if since else end - Duration.parse(last or "24h")
    except UnitError as error:
        raise click.UsageError(f"no time or duration: {error}") from None
    if start >= end:
        raise click.UsageError("that is no time at all")
    return int(start * 1e9), int(end * 1e9)
