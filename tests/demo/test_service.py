"""What the services share."""

from __future__ import annotations

import pytest
from aiohttp import web

from gatewayd.demo.service import application, json_body, json_reply, options, refusal, whole

from .call import with_service


def test_health_and_who_answered():
    async def talk(client):
        reply = await client.get("/health")
        return await reply.json(), reply.headers["X-Served-By"], client.port

    document, signature, port = with_service(application("claims"), talk)
    assert document == {"service": "claims", "status": "ok"}
    assert signature == f"claims:{port}"


@pytest.mark.parametrize(("sent", "read"), [(b'{"a":1}', {"a": 1}), (b"[1]", None), (b"{", None), (b"", None)])
def test_only_a_json_object_is_a_body(sent, read):
    async def echo(request):
        return json_reply({"read": await json_body(request)})

    async def talk(client):
        return (await (await client.post("/", data=sent)).json())["read"]

    app = application("echo")
    app.router.add_post("/", echo)
    assert with_service(app, talk) == read


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (None, 7),
        ("5", 5),
        ("1", 1),
        ("9", 9),
        ("10", None),
        ("0", None),
        ("-1", None),
        ("x", None),
        ("²", None),
        ("9" * 5000, None),
    ],
)
def test_whole_numbers_within_bounds(text, number):
    assert whole(text, 7, 1, 9) == number


def test_a_refusal_is_a_problem_document():
    response = refusal(404, "not here", {"Retry-After": "1"})
    assert isinstance(response, web.Response)
    assert response.content_type == "application/problem+json"
    assert b'"title":"Not Found"' in response.body
    assert response.headers["Retry-After"] == "1"


def test_options(monkeypatch):
    monkeypatch.setattr("sys.argv", ["quotes", "--flaky"])
    given = options("quotes", 9103, flaky="fails")
    assert (given.port, given.flaky) == (9103, True)
