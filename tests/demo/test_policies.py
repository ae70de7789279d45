"""Policies: one, a page of them, a change."""

from __future__ import annotations

from gatewayd.demo import book
from gatewayd.demo.policies import make_app

from .call import with_service


def test_one_policy_and_its_state_by_etag():
    async def talk(client):
        first = await client.get("/v1/policies/POL-000123")
        again = await client.get("/v1/policies/POL-000123", headers={"If-None-Match": first.headers["ETag"]})
        missing = await client.get("/v1/policies/POL-999999")
        return await first.json(), again.status, missing.status

    assert with_service(make_app(), talk) == (book.policy(123), 304, 404)


def test_pages_follow_one_another_to_the_end():
    async def talk(client):
        page = await (await client.get("/v1/policies?after=3&limit=2")).json()
        last = await (await client.get(f"/v1/policies?after={book.POLICIES - 1}")).json()
        odd = await client.get("/v1/policies?limit=0")
        return (
            [item["id"] for item in page["items"]],
            page["next"],
            len(last["items"]),
            last["next"],
            odd.status,
        )

    assert with_service(make_app(), talk) == (["POL-000004", "POL-000005"], 5, 1, None, 400)


def test_a_change_of_cover_is_answered_and_not_kept():
    async def talk(client):
        changed = await client.patch("/v1/policies/POL-000123", json={"covers": ["fire"]})
        odd = await client.patch("/v1/policies/POL-000123", json={"holder": "me"})
        missing = await client.patch("/v1/policies/POL-000000", json={})
        after = await (await client.get("/v1/policies/POL-000123")).json()
        return (
            changed.status,
            (await changed.json())["covers"],
            odd.status,
            missing.status,
            after == book.policy(123),
        )

    assert with_service(make_app(), talk) == (202, ["fire"], 422, 404, True)
