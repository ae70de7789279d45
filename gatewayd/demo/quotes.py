"""Quotes: what a cover would cost. A quote's number holds what was rated, so every target can show every one.

With `--flaky` the process fails a share of its requests in the ways real ones do: 500, 503, a closed
connection, a stall. Which ones is drawn from a fixed seed, so a run can be repeated. /health
stays well: only traffic tells.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gatewayd.demo import book
from gatewayd.demo.service import application, json_body, json_reply, options, refusal, run, whole

AGES, VALUES = 80, 250
QUOTES = len(book.PRODUCTS) * AGES * VALUES
STALL = 90.0
"""Seconds; longer than anyone waits."""

Fault = Literal["none", "error", "busy", "close", "stall"]
FAULTS: tuple[tuple[Fault, int], ...] = (("error", 12), ("busy", 20), ("close", 28), ("stall", 30))
"""Each with the percentage of requests that meet it or one before it."""


def fault(sequence: int) -> Fault:
    """What befalls request `sequence` of a flaky process: 30 % fail, one in fifty stalls."""
    drawn = book.Draw(f"flaky/{sequence}").below(100)
    return next((fate for fate, below in FAULTS if drawn < below), "none")


def quote(number: int) -> book.Record:
    """Quote `number` (0..QUOTES-1), rated anew."""
    rest, value = divmod(number, VALUES)
    product, age = divmod(rest, AGES)
    return {
        "id": f"QUO-{number:06d}",
        "product": book.PRODUCTS[product],
        "age": 18 + age,
        "value": money_of(value),
        "premium": book.money(9_000 + (value + 1) * 110 + abs(age - 25) * 350),
        "valid_until": "2026-12-31",
    }


def money_of(value: int) -> book.Record:
    """The insured value, `value` + 1 thousand euros."""
    return book.money((value + 1) * 100_000)


def rate(product: object, age: object, value: object) -> book.Record | None:
    """The quote for a cover; None if it is not offered (age 18–97, value 1–250 thousand euros)."""
    if product not in book.PRODUCTS or not isinstance(age, int) or not isinstance(value, int):
        return None
    if not (18 <= age < 18 + AGES and 1_000 <= value <= VALUES * 1_000):
        return None
    index = book.PRODUCTS.index(str(product))
    return quote((index * AGES + age - 18) * VALUES + -(-value // 1_000) - 1)


async def ask(request: web.Request) -> web.Response:
    """Rate a cover sent as JSON."""
    told = await json_body(request) or {}
    rated = rate(told.get("product"), told.get("age"), told.get("value"))
    if rated is None:
        return refusal(422, 'send {"product": "motor", "age": 34, "value": 18000}')
    return json_reply(rated, 201, {"Location": f"/v1/quotes/{rated['id']}"})


async def show(request: web.Request) -> web.Response:
    """One quote."""
    reference = request.match_info["id"]
    number = whole(reference[4:], 0, 0, QUOTES - 1) if reference.startswith("QUO-") else None
    return refusal(404, "no such quote; try QUO-004017") if number is None else json_reply(quote(number))


async def browse(request: web.Request) -> web.Response:
    """Rate a cover given in the query: `?product=motor&age=34&value=18000`."""
    query = request.query
    age, value = whole(query.get("age"), 35, 0, 200), whole(query.get("value"), 20_000, 0, 10**9)
    rated = rate(query.get("product", "motor"), age, value)
    return json_reply(rated) if rated else refusal(400, "age is 18 to 97, value 1000 to 250000")


def misbehave() -> Middleware:
    """A filter before all handlers that makes a share of the requests fail (see `fault`)."""
    count = iter(range(2**62))

    @web.middleware
    async def filtered(request: web.Request, handler: Handler) -> web.StreamResponse:
        fate = "none" if request.path == "/health" else fault(next(count))
        if fate == "error":
            return refusal(500, "the rating engine divided by zero")
        if fate == "busy":
            return refusal(503, "too many quotes at once", {"Retry-After": "1"})
        if fate == "close" and request.transport:
            request.transport.close()
        if fate == "stall":
            await asyncio.sleep(STALL)
        return await handler(request)

    return filtered


def make_app(flaky: bool = False) -> web.Application:
    """The service; `flaky`: the one that fails."""
    app = application("quotes")
    if flaky:
        app.middlewares.append(misbehave())
    app.router.add_get("/v1/quotes", browse)
    app.router.add_post("/v1/quotes", ask)
    app.router.add_get("/v1/quotes/{id}", show)
    return app


if __name__ == "__main__":
    given = options("quotes", 9103, flaky="fail a share of the requests")
    run(make_app(given.flaky), given.port)
