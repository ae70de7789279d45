"""Claims: one of the book, one just reported, and a memory with an end."""

from __future__ import annotations

from gatewayd.demo import book, claims

from .call import with_service

LOSS = {"policy": "POL-000123", "loss": "hail"}


def test_a_claim_of_the_book():
    async def talk(client):
        found = await client.get("/v1/claims/CLM-000007")
        return await found.json(), (await client.get("/v1/claims/CLM-899999")).status

    assert with_service(claims.make_app(), talk) == (book.claim(7), 404)


def test_a_reported_claim_is_found_where_its_location_says():
    async def talk(client):
        made = await client.post("/v1/claims", json=LOSS)
        second = await client.post("/v1/claims", json=LOSS)
        found = await client.get(made.headers["Location"])
        return (
            made.status,
            await made.json() == await found.json(),
            made.headers["Location"] != second.headers["Location"],
        )

    assert with_service(claims.make_app(), talk) == (201, True, True)


def test_what_is_no_claim_is_refused():
    async def talk(client):
        bodies = ({"policy": "POL-0", "loss": "hail"}, {"policy": "POL-000123"}, {})
        return [(await client.post("/v1/claims", json=body)).status for body in bodies]

    assert with_service(claims.make_app(), talk) == [422] * 3


def test_only_the_last_reports_are_remembered(monkeypatch):
    monkeypatch.setattr(claims, "MOST_REPORTED", 2)

    async def talk(client):
        places = [(await client.post("/v1/claims", json=LOSS)).headers["Location"] for _ in range(3)]
        return [(await client.get(place)).status for place in places]

    assert with_service(claims.make_app(), talk) == [404, 200, 200]
