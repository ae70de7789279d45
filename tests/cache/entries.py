"""Stored replies made by hand."""

from __future__ import annotations

from typing import Any

from gatewayd.cache.entry import Entry, Key
from gatewayd.rfc.caching import Terms
from gatewayd.rfc.conditional import Validators


def key(path: bytes = b"/", host: bytes = b"test", query: bytes | None = None) -> Key:
    """A key of route "r" over http."""
    return ("r", b"http", host, None, path, query, None)


def entry(path: bytes = b"/", body: bytes = b"body", age: float = 0.0, lifetime: float = 60.0, **more: Any) -> Entry:
    """A reply that came at second 1000; `more` goes to `Terms` or to `Entry`."""
    terms = Terms(age, lifetime, **{name: more.pop(name) for name in Terms._fields if name in more})
    more.setdefault("held", Validators(b'"e"', None, b"", 0.0))
    headers = more.pop("headers", [(b"content-type", b"text/plain")])
    return Entry(more.pop("key", key(path)), more.pop("status", 200), headers, body, terms, now=1000.0, **more)
