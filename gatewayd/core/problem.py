"""Refusals: `application/problem+json` (RFC 9457) with a stable `code`. What is known at load time is made then."""

from __future__ import annotations

import time
from http import HTTPStatus

import orjson

from gatewayd.core.exchange import Exchange
from gatewayd.core.policy import Reply
from gatewayd.rfc.headers import http_date

CONTENT_TYPE = (b"content-type", b"application/problem+json")
REQUEST_ID_MARK = b"\x00request-id\x00"
"""Stands in a prepared body where the exchange's request id goes; cannot occur in JSON."""

_TITLES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
}


def title(status: int) -> str:
    """The status' phrase (RFC 9110 §15)."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


def problem(
    status: int, code: str, detail: str = "", headers: tuple[tuple[bytes, bytes], ...] = (), **members: object
) -> Reply:
    """A refusal with `status` and the stable `code` (a token such as `route_not_found`).

    `detail` is for people and must hold no secret. `members` are extension members (RFC 9457 §3.2).
    """
    document: dict[str, object] = {
        "type": "about:blank",
        "title": title(status),
        "status": status,
        "code": code,
    }
    if detail:
        document["detail"] = detail
    document |= members
    body = orjson.dumps(document)[:-1] + b',"request_id":"' + REQUEST_ID_MARK + b'"}'
    return Reply(status, (CONTENT_TYPE, *headers), body, code)


def answer(exchange: Exchange, reply: Reply) -> None:
    """End `exchange` with `reply`."""
    exchange.code = reply.code
    body = reply.body.replace(REQUEST_ID_MARK, exchange.request_id) if reply.code else reply.body
    headers = [*reply.headers, (b"date", http_date(time.time()))]
    exchange.reply(reply.status, headers, len(body), body)


POLICY_FAILED = problem(500, "policy_failed", "a policy could not decide, so the request was refused")
"""What a policy that cannot run, and fails closed, refuses with."""
