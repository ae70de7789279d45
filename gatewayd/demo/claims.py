"""Claims: what happened, how far it got, and the way to report a loss."""

from __future__ import annotations

from aiohttp import web

from gatewayd.demo import book
from gatewayd.demo.service import application, json_body, json_reply, options, refusal, run

FIRST_REPORTED = 900_001
MOST_REPORTED = 1_000
REPORTED: web.AppKey[dict[str, book.Record]] = web.AppKey("reported", dict)


async def show(request: web.Request) -> web.Response:
    """One claim, from the book or reported since the start."""
    reference = request.match_info["id"]
    reported = request.app[REPORTED].get(reference)
    if reported is not None:
        return json_reply(reported)
    number = book.number_of(reference, "CLM", book.CLAIMS)
    return json_reply(book.claim(number)) if number else refusal(404, "no such claim; try CLM-000007")


async def report(request: web.Request) -> web.Response:
    """Take in a claim: 201 with its place. The last thousand are remembered."""
    told = await json_body(request)
    policy = book.number_of(str((told or {}).get("policy")), "POL", book.POLICIES)
    if told is None or policy is None or not isinstance(told.get("loss"), str):
        return refusal(422, 'send {"policy": "POL-000123", "loss": "hail"}')
    claim = _remember(request.app[REPORTED], {"policy": told["policy"], "loss": told["loss"][:500]})
    return json_reply(claim, 201, {"Location": f"/v1/claims/{claim['id']}"})


def _remember(reported: dict[str, book.Record], told: book.Record) -> book.Record:
    number = int(next(reversed(reported))[4:]) + 1 if reported else FIRST_REPORTED
    claim = {"id": f"CLM-{number:06d}", **told, "reported": book.TODAY.isoformat(), "status": "reported"}
    reported[claim["id"]] = claim
    if len(reported) > MOST_REPORTED:
        del reported[next(iter(reported))]
    return claim


def make_app() -> web.Application:
    """The service."""
    app = application("claims")
    app[REPORTED] = {}
    app.router.add_get("/v1/claims/{id}", show)
    app.router.add_post("/v1/claims", report)
    return app


if __name__ == "__main__":
    run(make_app(), options("claims", 9102).port)
