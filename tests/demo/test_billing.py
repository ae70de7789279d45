"""Billing: accounts add up, and a payment sent twice is taken once."""

from __future__ import annotations

from gatewayd.demo import billing, book

from .call import with_service


def test_an_account_owes_its_open_invoices():
    async def talk(client):
        document = await (await client.get("/v1/billing/accounts/POL-000123")).json()
        return document, (await client.get("/v1/billing/accounts/POL-x")).status

    account, missing = with_service(billing.make_app(), talk)
    due = [invoice["total"]["amount"] for invoice in account["invoices"] if invoice["status"] == "open"]
    assert due == ["75.48"]
    assert account["open"]["amount"] == "75.48"
    assert missing == 404


def test_an_invoice():
    async def talk(client):
        found = await (await client.get("/v1/billing/invoices/INV-000123-12")).json()
        missing = [f"/v1/billing/invoices/{name}" for name in ("INV-000123-13", "INV-000000-01", "INV-1-1")]
        return found, [(await client.get(path)).status for path in missing]

    assert with_service(billing.make_app(), talk) == (book.invoice(123, 12), [404] * 3)


def test_a_payment_sent_twice_is_taken_once():
    async def talk(client):
        key = {"Idempotency-Key": "k-1"}
        first = await client.post("/v1/billing/payments", json={"invoice": "INV-000123-12"}, headers=key)
        again = await client.post("/v1/billing/payments", json={"invoice": "INV-000777-01"}, headers=key)
        assert "Idempotency-Replayed" not in first.headers
        assert again.headers["Idempotency-Replayed"] == "true"
        odd = await client.post("/v1/billing/payments", json={"invoice": "INV-0"})
        return await first.json() == await again.json(), odd.status

    assert with_service(billing.make_app(), talk) == (True, 422)


def test_only_the_last_payments_are_remembered(monkeypatch):
    monkeypatch.setattr(billing, "MOST_PAYMENTS", 2)

    async def talk(client):
        replayed = []
        for key in ("a", "b", "c", "a"):
            body = {"invoice": "INV-000123-12"}
            reply = await client.post("/v1/billing/payments", json=body, headers={"Idempotency-Key": key})
            replayed.append("Idempotency-Replayed" in reply.headers)
        return replayed

    assert with_service(billing.make_app(), talk) == [False] * 4
