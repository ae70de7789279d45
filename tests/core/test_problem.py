"""Refusals as problem documents (RFC 9457), and the page that names their codes."""

from __future__ import annotations

import ast
import re
from functools import cache
from http import HTTPStatus
from pathlib import Path

import orjson
import pytest

from gatewayd.core.policy import Reply
from gatewayd.core.problem import REQUEST_ID_MARK, answer, problem, title
from gatewayd.errors import OUT_OF_DESCRIPTORS
from tests.support.exchanges import RecordedReply, make_exchange

ROOT = Path(__file__).parents[2]


def answered(reply: Reply, **attributes: object) -> RecordedReply:
    exchange = make_exchange(**attributes)
    answer(exchange, reply)
    assert isinstance(exchange.downstream, RecordedReply)
    assert exchange.status == exchange.downstream.status
    assert exchange.code == reply.code
    return exchange.downstream


def test_the_document():
    reply = answered(problem(429, "rate_limited", "slow down", limit=10, scope=["a"]), request_id=b"7f")
    assert reply.values(b"content-type") == [b"application/problem+json"]
    assert orjson.loads(reply.body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "code": "rate_limited",
        "detail": "slow down",
        "limit": 10,
        "scope": ["a"],
        "request_id": "7f",
    }
    assert (reply.status, reply.length, reply.ended) == (429, len(reply.body), 1)


def test_without_a_detail_there_is_none():
    assert "detail" not in orjson.loads(answered(problem(404, "route_not_found")).body)


def test_headers_are_sent_with_it():
    reply = answered(problem(405, "method_not_allowed", headers=((b"allow", b"GET, HEAD"),)))
    assert reply.values(b"allow") == [b"GET, HEAD"]


def test_every_answer_has_a_date_and_its_request_id():
    reply = answered(problem(404, "route_not_found"), request_id=b"abc")
    (date,) = reply.values(b"date")
    assert re.fullmatch(rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert reply.values(b"x-request-id") == [b"abc"]


def test_a_prepared_refusal_serves_many_exchanges():
    refusal = problem(403, "not_you")
    before = refusal.body
    bodies = {answered(refusal, request_id=b"%d" % n).body for n in range(3)}
    assert len(bodies) == 3
    assert refusal.body == before


def test_a_reply_that_is_no_refusal_is_sent_as_it_is():
    body = b"raw " + REQUEST_ID_MARK
    reply = answered(Reply(200, ((b"content-type", b"text/plain"),), body))
    assert reply.body == body


@pytest.mark.parametrize("text", ['"', "\\", "\x00", "\x00request-id\x00", "é", "</script>"])
def test_nothing_in_a_detail_breaks_the_document(text):
    document = orjson.loads(answered(problem(400, "bad", text, member=text), request_id=b"7f").body)
    assert (document["detail"], document["member"], document["request_id"]) == (text, text, "7f")


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (422, "Unprocessable Content"),
        (431, "Request Header Fields Too Large"),
        (508, "Loop Detected"),
    ],
)
def test_titles_are_the_phrases_of_rfc_9110(status, phrase):
    assert title(status) == phrase


def test_every_status_has_a_title():
    assert all(title(status) for status in HTTPStatus)


# -- the page ---------------------------------------------------------------------------------------------------------

_CALLS = {"problem": 1, "RequestError": 1, "UpstreamError": 1}
"""Where the code stands among the arguments of what makes a refusal."""


def codes_in(tree: ast.AST) -> set[tuple[int, str]]:
    """Status and code of every refusal that a module makes with both written down."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        at = _CALLS.get(ast.unparse(node.func).rpartition(".")[2])
        if at is not None and len(node.args) > at:
            status, code = node.args[:2]
            if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                found.add((status.value, code.value))
    return found


@cache
def codes() -> set[tuple[int, str]]:
    """Those of the whole program."""
    modules = [path for path in (ROOT / "gatewayd").rglob("*.py") if path.parts[-2] != "demo"]
    return set().union(*(codes_in(ast.parse(path.read_text())) for path in modules))


def test_codes_are_found():
    source = 'answer(x, problem(404, "a"))\nraise errors.RequestError(400, "b", "why")\nproblem(status, code)\n'
    assert codes_in(ast.parse(source)) == {(404, "a"), (400, "b")}
    assert {(404, "route_not_found"), (502, "connect_failed"), (400, "malformed_request")} <= codes()


def test_codes_are_tokens():
    assert not [code for _, code in codes() if not re.fullmatch(r"[a-z][a-z0-9_]{2,40}", code)]


def test_the_page_names_every_code_with_its_status_and_no_other():
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", (ROOT / "docs/problems.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    named_elsewhere = {(504, "total_timeout"), (503, OUT_OF_DESCRIPTORS)}
    named_elsewhere |= {(429, "rate_limit_exceeded"), (429, "quota_exceeded")}  # handed to `limits.rate`
    assert {(int(status), code) for code, status in rows} == codes() | named_elsewhere
