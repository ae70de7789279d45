"""`/v1/stats`: figures over calls, how they go, and what changed."""

from __future__ import annotations

from typing import Any

import duckdb
import msgspec
from aiohttp import web

from gatewayd.collect import sources, stats
from gatewayd.collect.answers import (
    CompareAnswer,
    PointAnswer,
    SeriesAnswer,
    TopAnswer,
    change_of,
    period_of,
    reference,
    rfc3339,
)
from gatewayd.collect.filters import FILTERS, Filters, filters_of
from gatewayd.collect.openapi import JSON, Operation
from gatewayd.collect.parameters import (
    BadParameters,
    flag,
    moment,
    one_of,
    read_all,
    resolved,
    whole,
)
from gatewayd.collect.periods import MOST_POINTS, STEPS
from gatewayd.collect.questions import Questions
from gatewayd.core.clock import Clock
from gatewayd.errors import Fault

_SECOND = 1_000_000
_PERIOD = 3600 * _SECOND
"""What is asked about if nothing is said."""
_EARLIER = {"day": 86_400 * _SECOND, "week": 7 * 86_400 * _SECOND}
_EXACT = flag("exact", "Count percentiles from the calls themselves, instead of from sketches; that takes longer.")
_RANKED = (
    one_of("by", "What figures are by; all calls together, if it is not given.", sources.DIMENSIONS),
    one_of("order", "By what keys are ranked; `latency` is `p99`.", stats.ORDERS, "calls"),
    whole("limit", "How many keys at most.", 1, 1_000, 10),
    _EXACT,
)
_TOP = (*FILTERS, *_RANKED)
_SERIES = (
    *FILTERS,
    one_of("step", "Time between points; what suits the period, if it is not given.", STEPS),
    _EXACT,
)
_COMPARE = (
    *FILTERS,
    *_RANKED,
    one_of("against", "The period before: just before, or a day or week earlier.", ("previous", *_EARLIER), "previous"),
    moment("against_from", "Where the period before begins, instead of `against`."),
    moment("against_to", "Where it ends."),
)


class StatsDesk:
    """Answers what is asked about many calls."""

    def __init__(self, questions: Questions, clock: Clock) -> None:
        self._questions = questions
        self._clock = clock

    def operations(self) -> tuple[Operation, ...]:
        """What can be asked here."""
        top, series, compare = ({JSON: reference(f"{name}Answer")} for name in ("Top", "Series", "Compare"))
        return (
            Operation("GET", "/v1/stats", self.top, "stats", "The first keys by some measure.", top, _TOP),
            Operation("GET", "/v1/stats/series", self.series, "stats_series", "Figures over time.", series, _SERIES),
            Operation("GET", "/v1/stats/compare", self.compare, "stats_compare", "What changed.", compare, _COMPARE),
        )

    async def top(self, request: web.Request) -> web.Response:
        """The first keys."""
        values = read_all(_TOP, request.query.items())
        filters, begin, end = self._period(values)
        by, order, limit, exact = _ranked(values)

        def question(cursor: duckdb.DuckDBPyConnection) -> TopAnswer:
            source = sources.source_of(cursor, filters, begin, end, by, exact=exact)
            found = stats.top(cursor, source, by, order, limit)
            return TopAnswer(period_of(source), by or None, order, found.total, found.rows)

        return _json(await self._questions.ask(question))

    async def series(self, request: web.Request) -> web.Response:
        """Points of a series."""
        values = read_all(_SERIES, request.query.items())
        filters, begin, end = self._period(values)
        wanted, exact = values["step"], bool(values["exact"])
        if wanted is not None and (end - begin) / (STEPS[wanted] * _SECOND) > MOST_POINTS:
            raise BadParameters([Fault("step", f"makes more than {MOST_POINTS} points of this period", found=wanted)])

        def question(cursor: duckdb.DuckDBPyConnection) -> SeriesAnswer:
            source, step = sources.series_of(cursor, filters, begin, end, wanted, exact=exact)
            points = stats.series(cursor, source, step)
            return SeriesAnswer(period_of(source), step, [PointAnswer(rfc3339(at), each) for at, each in points])

        return _json(await self._questions.ask(question))

    async def compare(self, request: web.Request) -> web.Response:
        """What changed since."""
        values = read_all(_COMPARE, request.query.items())
        filters, begin, end = self._period(values)
        then_begin, then_end = self._before(values, begin, end)
        by, order, limit, exact = _ranked(values)

        def question(cursor: duckdb.DuckDBPyConnection) -> CompareAnswer:
            now = sources.source_of(cursor, filters, begin, end, by, exact=exact)
            then = sources.source_of(cursor, filters, then_begin, then_end, by, exact=exact)
            rows, total = stats.compare(cursor, now, then, by, order, limit)
            changes = [change_of(each) for each in rows]
            return CompareAnswer(period_of(now), period_of(then), by or None, order, change_of(total), changes)

        return _json(await self._questions.ask(question))

    def _period(self, values: dict[str, Any]) -> tuple[Filters, int, int]:
        """The filters, and the period: until now, and from an hour before its end, if nothing is said."""
        now = self._clock.wall()
        filters = filters_of(values, now)
        end = round(now * _SECOND) if filters.end is None else filters.end
        begin = max(0, end - _PERIOD) if filters.begin is None else filters.begin
        if begin >= end:
            raise BadParameters([Fault("from", "is not before the end of the period, which is now if none is said")])
        return filters, begin, end

    def _before(self, values: dict[str, Any], begin: int, end: int) -> tuple[int, int]:
        """The period that another one is compared with."""
        now = self._clock.wall()
        then_begin, then_end = resolved(values["against_from"], now), resolved(values["against_to"], now)
        if then_begin is None and then_end is None:
            earlier = _EARLIER.get(values["against"], end - begin)
            return max(0, begin - earlier), max(1, end - earlier)
        if then_begin is None or then_end is None or then_begin >= then_end:
            raise BadParameters([Fault("against_to", "and `against_from` are a period only together, in this order")])
        return then_begin, then_end


def _ranked(values: dict[str, Any]) -> tuple[str, str, int, bool]:
    return values["by"] or "", values["order"] or "calls", values["limit"] or 10, bool(values["exact"])


def _json(answer: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type=JSON)
