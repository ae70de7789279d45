"""Conditional requests (RFC 9110 §13)."""

from __future__ import annotations

import re

_ENTITY_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')  # entity-tag of RFC 9110 §8.8.3


def none_match(values: list[bytes], etag: bytes) -> bool:
    """Whether the `If-None-Match` fields let the request go on when `etag` (quoted, strong) is the current tag.

    False means 304 for GET and HEAD (RFC 9110 §13.1.2; tags are compared weakly). No field lets everything go on.
    """
    return not any(value.strip(b" \t") == b"*" or etag in _ENTITY_TAG.findall(value) for value in values)
