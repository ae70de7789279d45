"""Single calls: pages of those that fulfil filters, what came in since, and all there is about one.

A page is in the order of time, and goes on where its `cursor` says. What comes in does so out of that order, by
chains; so who follows is at a *position* instead: how far each chain was read. A chain's calls are numbered and come
in by number, so nothing is shown twice or left out, whatever happens to the store's files meanwhile.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import duckdb
import msgspec

from gatewayd.audit.record import Captured
from gatewayd.collect.filters import Filters, quoted, where
from gatewayd.collect.parameters import Wrong
from gatewayd.collect.schema import CALLS_COLUMNS

Row = dict[str, Any]
"""A call as JSON takes it: its columns by name, `at` in RFC 3339 (UTC)."""
Order = Literal["newest", "oldest"]
Place = tuple[int, str, int]
"""Where a call stands in a page's order: microseconds since the epoch, chain, number."""
Position = dict[str, int]
"""The number up to which each chain was read."""

SHOWN = tuple(column for column in CALLS_COLUMNS if column != "captured")
MOST = 1_000
"""Calls of a page."""
LONGEST_POSITION = 7_000
"""Characters of a position: an address has to hold it."""
_CHAINS = 1_000
_CHAIN = r"[A-Za-z0-9_\-]{1,64}"
_PLACE = re.compile(rf"(-?[0-9]{{1,18}})\.({_CHAIN})\.([0-9]{{1,18}})", re.ASCII)
_STRETCH = re.compile(rf"({_CHAIN}):([0-9]{{1,18}})", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_decode_captured = msgspec.msgpack.Decoder(Captured).decode
_NEWEST = '"at" DESC, "chain" DESC, "number" DESC'
_OLDEST = '"at", "chain", "number"'


@dataclass(frozen=True, slots=True)
class Page:
    """Calls in order, and the cursor of the next page: "" behind the last."""

    calls: list[Row]
    cursor: str
    position: str
    """Where to follow from, so that what comes in behind this page is seen."""


def page(cursor: duckdb.DuckDBPyConnection, filters: Filters, order: Order, limit: int, behind: Place | None) -> Page:
    """At most `limit` calls that fulfil `filters`, from the newest or oldest on, or `behind` a call."""
    condition, values = where(filters)
    beyond, more = _behind(behind, order)
    by = _NEWEST if order == "newest" else _OLDEST
    # Rows are fetched whole only once it is known which: the columns are many.
    chosen = f"SELECT rowid FROM calls WHERE {condition}{beyond} ORDER BY {by} LIMIT {limit + 1}"  # noqa: S608
    found = _rows(cursor, f"rowid IN ({chosen}) ORDER BY {by}", [*values, *more], with_captured=False)
    calls = found[:limit]
    last = place_of(calls[-1]) if len(found) > limit else ""
    return Page(calls, last, written(position(cursor)))


def _behind(behind: Place | None, order: Order) -> tuple[str, list[object]]:
    """The condition that leaves out what stands at or before a place; in a form that skips whole stretches of time."""
    if behind is None:
        return "", []
    at, chain, number = behind
    sign = "<" if order == "newest" else ">"
    later = f'"at" {sign} make_timestamp(?) OR ("chain", "number") {sign} (?, ?)'
    return f' AND "at" {sign}= make_timestamp(?) AND ({later})', [at, at, chain, number]


def news(
    cursor: duckdb.DuckDBPyConnection, filters: Filters, since: Position, limit: int
) -> tuple[list[Row], Position]:
    """Calls that came in behind the position `since` and fulfil `filters`, and the position behind them.

    At most about `limit`, in the order of time among themselves.
    """
    condition, values = where(filters)
    now = position(cursor)
    behind = [chain for chain, number in now.items() if number > since.get(chain, 0)]
    share = max(1, limit // max(1, len(behind)))
    found: list[Row] = []
    reached = dict(since)
    for chain in behind:
        stretch = '"chain" = ? AND "number" > ? AND "number" <= ?'
        bounds = [chain, since.get(chain, 0), now[chain]]
        chosen = f'{stretch} AND {condition} ORDER BY "number" LIMIT {share}'
        rows = _rows(cursor, chosen, [*bounds, *values], with_captured=False)
        reached[chain] = rows[-1]["number"] if len(rows) == share else now[chain]
        found += rows
    found.sort(key=lambda row: (row["at"], row["chain"], row["number"]))
    return found, reached


def position(cursor: duckdb.DuckDBPyConnection) -> Position:
    """How far each chain has come in."""
    found = cursor.execute('SELECT "chain", "records" FROM positions').fetchall()
    return dict(found)


def detail(cursor: duckdb.DuckDBPyConnection, request_id: str) -> list[Row]:
    """The calls of a request id with all that is known of them, what was captured too; the newest first."""
    chosen = f'rowid IN (SELECT rowid FROM calls WHERE "request_id" = ?) ORDER BY {_NEWEST} LIMIT {MOST}'  # noqa: S608
    return _rows(cursor, chosen, [request_id], with_captured=True)


def _rows(
    cursor: duckdb.DuckDBPyConnection, chosen: str, values: Sequence[object], *, with_captured: bool
) -> list[Row]:
    columns = tuple(CALLS_COLUMNS) if with_captured else SHOWN
    listed = ", ".join(quoted(column) for column in columns)
    found = cursor.execute(f"SELECT {listed} FROM calls WHERE {chosen}", values).fetchall()  # noqa: S608
    return [_row(columns, row) for row in found]


def _row(columns: Iterable[str], values: Sequence[Any]) -> Row:
    row = dict(zip(columns, values, strict=True))
    row["at"] = _rfc3339(row["at"])
    if row.get("captured") is not None:
        row["captured"] = _captured(row["captured"])
    return row


def _rfc3339(moment: datetime) -> str:
    return f"{moment.isoformat(timespec='microseconds')}Z"


def _captured(data: bytes) -> Row:
    """What was captured, for JSON: headers as pairs, bodies as text where they are UTF-8, else in base64."""
    found = _decode_captured(data)
    return {
        "request": _message(found.request_headers, found.request_body, found.request_cut),
        "reply": _message(found.reply_headers, found.reply_body, found.reply_cut),
    }


def _message(headers: Iterable[tuple[bytes, bytes]], body: bytes, cut: bool) -> Row:
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    try:
        said = {"body": body.decode()}
    except UnicodeDecodeError:
        said = {"body_base64": base64.b64encode(body).decode()}
    return {"headers": pairs, **said, "cut": cut}


def place_of(row: Row) -> str:
    """The cursor that stands for a call."""
    microseconds = (datetime.fromisoformat(row["at"]) - _EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}.{row['chain']}.{row['number']}"


def place(text: str) -> Place:
    """The place that a cursor says. Raises `Wrong`."""
    found = _PLACE.fullmatch(text)
    if not found:
        raise Wrong("is no cursor", "the cursor of the page before")
    return int(found[1]), found[2], int(found[3])


def written(position: Position) -> str:
    """A position as text."""
    return ",".join(f"{chain}:{number}" for chain, number in sorted(position.items()))


def position_of(text: str) -> Position:
    """The position that a text says. Raises `Wrong`."""
    stretches = text.split(",")[: _CHAINS + 1] if text else []
    found = [_STRETCH.fullmatch(each) for each in stretches]
    if len(found) > _CHAINS or not all(found):
        raise Wrong("is no position", "the position that came with a page, or with what was followed")
    return {each[1]: int(each[2]) for each in found if each}
