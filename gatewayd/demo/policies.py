"""Policies: who is insured for what. Runs twice, so that two targets share the work."""

from __future__ import annotations

from aiohttp import web

from gatewayd.demo import book
from gatewayd.demo.service import application, json_body, json_reply, options, refusal, run, whole

PAGE = 20


async def show(request: web.Request) -> web.Response:
    """One policy, with an ETag for conditional requests (RFC 9110 §13.1.2)."""
    number = book.number_of(request.match_info["id"], "POL", book.POLICIES)
    if number is None:
        return refusal(404, "no such policy; try POL-000123")
    tag = f'"pol-{number}-1"'
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers={"ETag": tag})
    return json_reply(book.policy(number), headers={"ETag": tag, "Cache-Control": "private, max-age=60"})


async def page(request: web.Request) -> web.Response:
    """Policies in the order of their numbers: `?after=` a number, `?limit=` up to 200."""
    after = whole(request.query.get("after"), 0, 0, book.POLICIES)
    limit = whole(request.query.get("limit"), PAGE, 1, 200)
    if after is None or limit is None:
        return refusal(400, f"after is 0 to {book.POLICIES}, limit 1 to 200")
    last = min(after + limit, book.POLICIES)
    items = [book.policy(number) for number in range(after + 1, last + 1)]
    return json_reply({"items": items, "next": last if last < book.POLICIES else None})


async def change(request: web.Request) -> web.Response:
    """Answer a change of cover with the policy as it would be; nothing is kept."""
    number = book.number_of(request.match_info["id"], "POL", book.POLICIES)
    wish = await json_body(request)
    if number is None:
        return refusal(404, "no such policy; try POL-000123")
    if wish is None or not wish.keys() <= {"covers", "deductible"}:
        return refusal(422, 'send a JSON object with "covers" or "deductible"')
    return json_reply(book.policy(number) | wish | {"status": "change requested"}, 202)


def make_app() -> web.Application:
    """The service."""
    app = application("policies")
    app.router.add_get("/v1/policies", page)
    app.router.add_get("/v1/policies/{id}", show)
    app.router.add_patch("/v1/policies/{id}", change)
    return app


if __name__ == "__main__":
    run(make_app(), options("policies", 9101).port)
