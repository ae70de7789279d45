"""Exchanges without a connection: made by hand, their replies written down."""

from __future__ import annotations

from typing import Any

from gatewayd.core.exchange import Exchange, Headers


class RecordedReply:
    """A `core.exchange.Downstream` that keeps what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self.length = -2
        self.body = b""
        self.ended = 0

    def start_reply(self, status: int, headers: Headers, length: int, first: bytes = b"") -> None:
        assert not self.status, "two replies to one exchange"
        self.status, self.headers, self.length, self.body = status, headers, length, first

    def reply(self, status: int, headers: Headers, length: int, body: bytes) -> None:
        self.start_reply(status, headers, length, body)
        self.end_reply([])

    def send_body(self, data: bytes) -> None:
        self.body += data

    def end_reply(self, trailers: Headers) -> None:
        assert self.status
        self.ended += 1

    def values(self, name: bytes) -> list[bytes]:
        """All values of a reply field."""
        return [value for found, value in self.headers if found == name]


def make_exchange(headers: Headers | None = None, **attributes: Any) -> Exchange:
    """A GET for https://api.example.com/v1/x from 192.0.2.1, with `attributes` instead."""
    exchange = Exchange()
    exchange.downstream = RecordedReply()  # type: ignore[assignment]
    exchange.method, exchange.scheme, exchange.host, exchange.path = b"GET", b"https", b"api.example.com", b"/v1/x"
    exchange.peer = exchange.client = "192.0.2.1"
    exchange.request_id = b"0123456789abcdef"
    exchange.headers = headers if headers is not None else []
    for name, value in attributes.items():
        setattr(exchange, name, value)
    return exchange
