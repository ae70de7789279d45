"""Quotes: a number holds what was rated; the flaky process fails by a fixed seed."""

from __future__ import annotations

from collections import Counter

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.demo import book, quotes

from .call import with_service


@given(st.sampled_from(book.PRODUCTS), st.integers(18, 97), st.integers(1_000, 250_000))
def test_a_quote_number_holds_what_was_rated(product, age, value):
    rated = quotes.rate(product, age, value)
    again = quotes.quote(int(rated["id"][4:]))
    assert again == rated
    assert (rated["product"], rated["age"]) == (product, age)
    assert value <= float(rated["value"]["amount"]) < value + 1_000


@pytest.mark.parametrize(
    ("product", "age", "value"),
    [
        ("boat", 30, 5_000),
        ("motor", 17, 5_000),
        ("motor", 98, 5_000),
        ("motor", 30, 999),
        ("motor", 30, 250_001),
        ("motor", "30", 1),
    ],
)
def test_what_is_not_offered(product, age, value):
    assert quotes.rate(product, age, value) is None


def test_a_quote_is_found_where_its_location_says():
    async def talk(client):
        made = await client.post("/v1/quotes", json={"product": "motor", "age": 34, "value": 18_000})
        found = await client.get(made.headers["Location"])
        browsed = await client.get("/v1/quotes?product=motor&age=34&value=18000")
        odd = [
            await client.get("/v1/quotes?age=x"),
            await client.get("/v1/quotes/QUO-100000"),
            await client.post("/v1/quotes"),
        ]
        return (
            made.status,
            [await each.json() == await made.json() for each in (found, browsed)],
            [each.status for each in odd],
        )

    assert with_service(quotes.make_app(), talk) == (201, [True, True], [400, 404, 422])


def test_the_share_of_faults():
    drawn = Counter(quotes.fault(sequence) for sequence in range(10_000))
    assert {fate: round(count / 100) for fate, count in drawn.items()} == pytest.approx(
        {"none": 70, "error": 12, "busy": 8, "close": 8, "stall": 2}, abs=1
    )


def test_the_flaky_process_fails_as_drawn_and_stays_healthy(monkeypatch):
    fates = ["error", "busy", "close", "none", "stall"]
    monkeypatch.setattr(quotes, "fault", lambda sequence: fates[sequence])
    monkeypatch.setattr(quotes, "STALL", 0.0)

    async def talk(client):
        seen = []
        for _ in fates:
            assert (await client.get("/health")).status == 200
            try:
                reply = await client.post("/v1/quotes", json={"product": "motor", "age": 34, "value": 18_000})
                seen.append(reply.status)
            except aiohttp.ServerDisconnectedError:
                seen.append("closed")
        return seen

    # POST, because the client by itself tries an idempotent request again on a connection closed under it.
    assert with_service(quotes.make_app(flaky=True), talk) == [500, 503, "closed", 201, 201]
