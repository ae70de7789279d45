"""Billing: accounts, invoices, and payments that are taken once even if they are sent twice."""

from __future__ import annotations

import re

from aiohttp import web

from gatewayd.demo import book
from gatewayd.demo.service import application, json_body, json_reply, options, refusal, run

MOST_PAYMENTS = 1_000
PAYMENTS: web.AppKey[dict[str, book.Record]] = web.AppKey("payments", dict)


async def account(request: web.Request) -> web.Response:
    """What a policy's holder owes: the year's invoices and the open sum."""
    number = book.number_of(request.match_info["policy"], "POL", book.POLICIES)
    if number is None:
        return refusal(404, "no such account; try POL-000123")
    invoices = [book.invoice(number, instalment) for instalment in range(1, book.INSTALMENTS + 1)]
    unpaid = sum(1 for invoice in invoices if invoice["status"] == "open")
    owed = book.money(unpaid * book.yearly_premium(number) // book.INSTALMENTS)
    return json_reply({"policy": f"POL-{number:06d}", "open": owed, "invoices": invoices})


async def invoice(request: web.Request) -> web.Response:
    """One invoice, `INV-<policy>-<month>`."""
    found = invoice_of(request.match_info["id"])
    return json_reply(found) if found else refusal(404, "no such invoice; try INV-000123-11")


def invoice_of(reference: str) -> book.Record | None:
    """The invoice of that name, None if there is none."""
    found = re.fullmatch(r"INV-([0-9]{6})-([0-9]{2})", reference)
    number, instalment = (int(found[1]), int(found[2])) if found else (0, 0)
    known = 1 <= number <= book.POLICIES and 1 <= instalment <= book.INSTALMENTS
    return book.invoice(number, instalment) if known else None


async def pay(request: web.Request) -> web.Response:
    """Take a payment. The same `Idempotency-Key` gives the same answer again; a thousand are remembered."""
    payments = request.app[PAYMENTS]
    key = request.headers.get("Idempotency-Key", "")
    if key in payments:
        return json_reply(payments[key], 201, {"Idempotency-Replayed": "true"})
    billed = invoice_of(str((await json_body(request) or {}).get("invoice")))
    if billed is None:
        return refusal(422, 'send {"invoice": "INV-000123-12"}')
    payment = {
        "id": f"PAY-{billed['id'][4:]}",
        "invoice": billed["id"],
        "amount": billed["total"],
        "status": "booked",
    }
    if key:
        payments[key] = payment
        if len(payments) > MOST_PAYMENTS:
            del payments[next(iter(payments))]
    return json_reply(payment, 201)


def make_app() -> web.Application:
    """The service."""
    app = application("billing")
    app[PAYMENTS] = {}
    app.router.add_get("/v1/billing/accounts/{policy}", account)
    app.router.add_get("/v1/billing/invoices/{id}", invoice)
    app.router.add_post("/v1/billing/payments", pay)
    return app


if __name__ == "__main__":
    run(make_app(), options("billing", 9104).port)
