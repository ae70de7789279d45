"""Secrets taken out of what is captured of a call, before anything of it is written (`audit.capturing`).

Names decide, however they are spelled: without regard to case, `-` and `_`, with escapes undone. What cannot be taken
apart for sure is not kept at all; `withheld` then stands in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from urllib.parse import quote, unquote_plus

import orjson

from gatewayd.core.exchange import Headers
from gatewayd.rfc.json_path import Change, containers, replacing

HIDDEN = "[redacted]"
SECRET_HEADERS = frozenset(
    (
        "authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info", "cookie", "cookie2",
        "set-cookie", "set-cookie2", "x-api-key", "api-key", "apikey", "x-auth-token", "x-access-token", "x-csrf-token",
        "x-xsrf-token", "x-amz-security-token", "dpop",
    )
)  # fmt: skip
"""Fields whose values are never kept."""

_HIDDEN = HIDDEN.encode()
_FORM = "application/x-www-form-urlencoded"
_UTF_8 = ("", "utf-8", "utf8", "us-ascii")
_IGNORED = str.maketrans("", "", "-_ ")
_PARTS = re.compile(r"[\[\].]+")
_PARAMETER = re.compile(r"(^|[?&;#\s])([^=&;#?\s]+)=([^&;#\s]*)")
_USER = re.compile(r"//[^/?#@\s]*@")
_LIKE_JSON = re.compile(r'\s*[{\[]\s*["{\[]')
_NO_FORM = re.compile(rb'[\x00-\x20\x7f{}"<>\\]')
"""Bytes that no form as browsers write them has (WHATWG URL §5.2); one that has some may be something else."""
_LONGEST = 256
"""Characters of a name whose verdict is remembered."""
_DEEPEST = 5
"""Texts within texts that are looked into; what lies deeper is hidden."""


def withheld(why: str) -> bytes:
    """What stands in the place of a body that is not kept."""
    return f"[not kept: {why}]".encode()


CUT = withheld("cut off, so that it cannot be redacted")
NOT_JSON = withheld("no JSON, so that it cannot be redacted")
NOT_FORM = withheld("no form, so that it cannot be redacted")
NOT_REDACTABLE = withheld("of a type that cannot be redacted")


class Redaction:
    """What is taken out. Names and paths are those of a policy's instance."""

    def __init__(
        self, names: Sequence[str], paths: Sequence[str], headers: Iterable[str] = (), parameters: Iterable[str] = ()
    ) -> None:
        """`names`: of JSON members at any depth, of form fields and of query parameters; `paths`: JSONPath.

        `headers`: fields beside `SECRET_HEADERS`; `parameters`: more names, that alone keep no body from being kept as
        it is. Raises `ValueError` for what is no path.
        """
        self._names = frozenset(map(_folded, (*names, *parameters)))
        self._changes: list[Change] = [replacing(path, HIDDEN) for path in paths]
        self._headers = SECRET_HEADERS | {_field(name) for name in headers}
        self._is_secret = lru_cache(4_096)(self._named)
        self._rules = bool(names or paths)

    def headers(self, pairs: Headers) -> Headers:
        """Fields with secret values hidden, and secret parameters in those of others, such as `Referer`."""
        return [(name, self._value(name, value)) for name, value in pairs]

    def query(self, query: bytes) -> bytes:
        """A query, or a form, with the values of secret parameters hidden."""
        if not self._names:
            return query
        text = query.decode("utf-8", "surrogateescape")
        pieces = re.split(r"([&;])", text)
        pieces[::2] = map(self._parameter, pieces[::2])
        return "".join(pieces).encode("utf-8", "surrogateescape")

    def body(self, data: bytes, kind: str, charset: str, cut: bool) -> bytes:
        """A body of media type `kind`, lower case; `cut`: it is only the beginning."""
        if not self._rules or not data:
            return data
        if kind in ("application/json", "text/json") or kind.endswith("+json"):
            if cut:
                return CUT
            return (self._json(data) if charset in _UTF_8 else None) or NOT_JSON
        if kind == _FORM:
            return NOT_FORM if _NO_FORM.search(data) or charset not in _UTF_8 else self._form(data, cut)
        return NOT_REDACTABLE

    def _value(self, name: bytes, value: bytes) -> bytes:
        if _field(name.decode("latin-1")) in self._headers:
            return _HIDDEN
        text = value.decode("utf-8", "surrogateescape")
        return self._text(text).encode("utf-8", "surrogateescape")

    def _form(self, data: bytes, cut: bool) -> bytes:
        whole = data[: max(data.rfind(b"&"), data.rfind(b";"), 0)] if cut else data
        return self.query(whole)

    def _json(self, data: bytes, depth: int = 0) -> bytes | None:
        """JSON without secrets; None if it is none."""
        try:
            document = orjson.loads(data)
            if not depth:
                for change in self._changes:
                    change(document)
            if self._names:
                self._redact(document, depth)
            return orjson.dumps(self._text(document, depth) if isinstance(document, str) else document)
        except (ValueError, TypeError, RecursionError):
            return None

    def _redact(self, document: object, depth: int) -> None:
        for each in containers(document):
            if isinstance(each, dict):
                for name, value in each.items():
                    if self._secret(name):
                        each[name] = HIDDEN
                    elif isinstance(value, str):
                        each[name] = self._text(value, depth)
            else:
                each[:] = [self._text(value, depth) if isinstance(value, str) else value for value in each]

    def _text(self, value: str, depth: int = 0) -> str:
        """A text that may hold JSON, a URL or parameters itself."""
        if not self._names:
            return value
        if _LIKE_JSON.match(value):
            found = self._json(value.encode("utf-8", "surrogateescape"), depth + 1) if depth < _DEEPEST else None
            return HIDDEN if found is None else found.decode()
        if "@" in value:
            value = _USER.sub(f"//{HIDDEN}@", value)
        if "=" not in value:
            return value
        return _PARAMETER.sub(lambda found: found[1] + self._parameter(f"{found[2]}={found[3]}", depth), value)

    def _parameter(self, piece: str, depth: int = 0) -> str:
        """`name=value`, as queries have it. A value that holds parameters itself, escaped, is looked into as well."""
        name, equals, value = piece.partition("=")
        if not equals:
            return piece
        if self._secret(unquote_plus(name)):
            return f"{name}={HIDDEN}"
        inner = unquote_plus(value)
        if inner == value:
            return piece
        for _ in range(_DEEPEST):  # escaped several times over
            if "=" in inner or "%" not in inner:
                break
            inner = unquote_plus(inner)
        kept = self._text(inner, depth + 1) if depth < _DEEPEST else HIDDEN
        return piece if kept == inner else f"{name}={quote(kept, safe='', errors='surrogateescape')}"

    def _secret(self, name: str) -> bool:
        return self._is_secret(name) if len(name) <= _LONGEST else self._named(name)

    def _named(self, name: str) -> bool:
        """Whether a name, or a part of it (`user[password]`, `user.password`), is one of ours."""
        names = self._names
        return _folded(name) in names or any(_folded(part) in names for part in _PARTS.split(name))


def _folded(name: str) -> str:
    return name.strip().casefold().translate(_IGNORED)


def _field(name: str) -> str:
    """A header's name; some targets take `_` for `-`."""
    return name.lower().replace("_", "-")
