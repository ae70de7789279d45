"""What was verified, for people."""

from __future__ import annotations

from collections.abc import Iterator

import click

from gatewayd.audit import frames
from gatewayd.audit.plain import moment
from gatewayd.audit.report import ChainReport, Finding, Report
from gatewayd.audit.salvage import wholes


def print_report(report: Report) -> None:
    """Chain by chain, then what is broken, the first of it last, where one looks."""
    for chain in report.chains:
        for line in lines(chain):
            click.echo(line)
    for note in report.notes:
        click.echo(f"note: {note}")
    rate = f"{report.checked / report.seconds:,.0f} records/s" if report.seconds else ""
    click.echo(f"{report.checked} records read in {report.seconds:.1f} s ({rate}); keys: {', '.join(report.keys)}")
    if report.fine:
        click.echo("fine: no record was changed or removed, up to the last signature of each chain")
        return
    for finding in report.findings:
        click.echo(told(finding))
    click.echo(f"BROKEN. The first record in doubt is {place(report.findings[0])}")


def lines(chain: ChainReport) -> Iterator[str]:
    """A chain's own."""
    state = "BROKEN" if chain.findings else f"proven up to {chain.signed}"
    yield f"{chain.name}: {chain.records} records, segments {chain.first_segment} to {_last(chain)}, {state}"
    if chain.retired:
        yield f"  retired: {chain.retired} segments before them, by retention; what remains goes on from them"
    for lost in chain.lost:
        last = lost.first + lost.records - 1
        yield f"  gap: records {lost.first} to {last} were lost for want of room, {moment(lost.at)}"
    if chain.unsigned:
        checked = "written by this gateway, by their MACs" if chain.by_mac else "unproven without the private key"
        yield f"  not signed yet: {chain.unsigned} records, {checked}"
    if chain.leftover:
        yield f"  cut off by crashes: {chain.leftover} bytes that were never acknowledged"


def _last(chain: ChainReport) -> int:
    return chain.first_segment + chain.segments - 1 if chain.segments else 0


def told(finding: Finding) -> str:
    """A finding on one line."""
    until = f" (up to {finding.last})" if finding.last > finding.record else ""
    return f"{finding.kind}: {place(finding)}{until}: {finding.text}"


def place(finding: Finding) -> str:
    """Which record it is."""
    place = f"{finding.chain}, segment {finding.segment}, record {finding.record}"
    if not finding.at:
        return place
    request = f", request {finding.request_id}" if finding.request_id else ""
    return f"{place} ({'behind the one of ' if finding.before else ''}{moment(finding.at)}{request})"


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The records of a segment and their numbers in the chain, as far as they can be found."""
    first = next(frames.frames(data), None)
    if first is None or first.kind != frames.OPENING:
        return
    try:
        number = frames.decode_opening(first.body[frames.SIGNATURE :]).records
    except frames.UNREADABLE:
        return
    for each in wholes(data, first.end, len(data)):
        number += each.records
        if each.frame.kind == frames.RECORD:
            yield number, each.frame.body
