"""The obvious proxy is slow, not wrong."""

from __future__ import annotations

from aiohttp.test_utils import make_mocked_request

from benchmarks.naive_proxy import forwarded


def test_it_forwards_what_belongs_to_the_message_and_says_who_asked():
    headers = {"Host": "a", "Connection": "keep-alive", "TE": "trailers", "X-A": "1", "Content-Length": "3"}
    found = forwarded(make_mocked_request("GET", "/", headers=headers))
    assert found["X-A"] == "1"
    assert found["X-Forwarded-Proto"] == "http"
    assert not {"connection", "te", "content-length"} & {name.lower() for name in found}
