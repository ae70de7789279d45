"""The static reply handler."""

from __future__ import annotations

import pytest

from gatewayd.config.model import StaticReply
from gatewayd.errors import ConfigError
from gatewayd.handlers import static_reply
from gatewayd.handlers.static_reply import MAX_FILE
from tests.support.exchanges import make_exchange


def reply_to(config, method=b"GET", *if_none_match):
    exchange = make_exchange([(b"if-none-match", value) for value in if_none_match], method=method)
    static_reply.build(config)(exchange)
    assert exchange.downstream.ended == 1
    return exchange.downstream


def test_a_text():
    reply = reply_to(StaticReply(body="hällo", headers={"X-A": " 1 "}))
    assert (reply.status, reply.length, reply.body) == (200, 6, "hällo".encode())
    assert reply.values(b"content-type") == [b"text/plain; charset=utf-8"]
    assert reply.values(b"x-a") == [b"1"]
    assert len(reply.values(b"date")) == 1


def test_a_file_is_read_at_load(tmp_path):
    path = tmp_path / "maintenance.html"
    path.write_bytes(b"<p>soon\xff")
    handler = static_reply.build(StaticReply(file=str(path), status=503, content_type="text/html"))
    path.unlink()
    exchange = make_exchange()
    handler(exchange)
    assert (exchange.downstream.status, exchange.downstream.body) == (503, b"<p>soon\xff")
    assert exchange.downstream.values(b"content-type") == [b"text/html"]
    assert not exchange.downstream.values(b"etag")


def test_head_gets_the_length_and_no_body():
    reply = reply_to(StaticReply(body="hello"), b"HEAD")
    assert (reply.status, reply.length, reply.body) == (200, 5, b"")


def test_an_empty_body():
    reply = reply_to(StaticReply())
    assert (reply.status, reply.length, reply.body) == (200, 0, b"")


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_what_the_caller_has_is_not_sent_again(method):
    config = StaticReply(body="hello")
    (etag,) = reply_to(config).values(b"etag")
    reply = reply_to(config, method, b'"other", W/' + etag)
    assert (reply.status, reply.body) == (304, b"")
    assert reply.values(b"etag") == [etag]
    assert reply_to(config, method, b'"other"').status == 200
    assert reply_to(StaticReply(body="hello!"), method, etag).status == 200


@pytest.mark.parametrize("method", [b"POST", b"OPTIONS"])
def test_other_methods_know_no_304(method):
    config = StaticReply(body="hello")
    assert reply_to(config, method, *reply_to(config).values(b"etag")).status == 200


@pytest.mark.parametrize("status", [204, 205, 304])
def test_statuses_without_a_body_have_no_type_either(status):
    reply = reply_to(StaticReply(status=status))
    assert (reply.status, reply.body) == (status, b"")
    assert not reply.values(b"content-type")
    with pytest.raises(ConfigError) as caught:
        static_reply.build(StaticReply(status=status, body="x"))
    assert [fault.path for fault in caught.value.faults] == ["reply.status"]


def test_replies_do_not_share_their_header_list():
    handler = static_reply.build(StaticReply(body="x"))
    first, second = make_exchange(), make_exchange()
    handler(first)
    first.downstream.headers.append((b"x-hook", b"1"))
    handler(second)
    assert not second.downstream.values(b"x-hook")


@pytest.mark.parametrize("name", ["Content-Length", "Connection", "Transfer-Encoding", "ETag", "Content-Type", "Date"])
def test_own_fields_are_refused(name):
    with pytest.raises(ConfigError) as caught:
        static_reply.build(StaticReply(headers={name: "x"}))
    assert [fault.path for fault in caught.value.faults] == [f"reply.headers.{name}"]


@pytest.mark.parametrize("headers", [{"X-A": "1\r\nX-B: 2"}, {"X A": "1"}, {"": "1"}])
def test_malformed_fields_are_refused(headers):
    with pytest.raises(ConfigError):
        static_reply.build(StaticReply(headers=headers))


def test_files_that_cannot_be_served(tmp_path):
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    for path, message in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path, "hold in memory"),
        (large, "hold in memory"),
    ):
        with pytest.raises(ConfigError, match=message):
            static_reply.build(StaticReply(file=str(path)))
    with pytest.raises(ConfigError, match="either a body or a file"):
        static_reply.build(StaticReply(file=str(large), body="x"))
