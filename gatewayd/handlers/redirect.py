"""The redirect handler: a `Location` made of the request's parts, and nothing that a caller could bend.

`{path}`, `{query}`, `{host}` (without its port), `{scheme}` and the route's path parameters are filled in. Whatever
cannot stand in a URI is percent-encoded; a "?" or "&" directly before `{query}` goes where there is no query. Callers
never choose the host: a parameter may not stand where the host is written, and `{path}` cannot turn into one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from difflib import get_close_matches

from gatewayd.config import model
from gatewayd.core.exchange import Exchange
from gatewayd.core.placeholders import parts
from gatewayd.core.policy import Handler, Reply
from gatewayd.core.problem import answer, problem
from gatewayd.errors import ConfigError, Fault

Render = Callable[[Exchange], bytes]

_UNRESERVED = rb"A-Za-z0-9\-._~%!$'()*,:@/"
_UNSAFE = {
    "path": re.compile(rb"[^" + _UNRESERVED + rb"&=+;]"),  # pchar and "/" of RFC 3986 §3.3
    "query": re.compile(rb"[^" + _UNRESERVED + rb"&=+;?]"),  # §3.4
    "value": re.compile(rb"[^" + _UNRESERVED + rb"]"),  # one parameter inside a query: no separators
}
_NOT_VISIBLE = re.compile(rb"[^\x21-\x7e]")
_MARKS = {"path": "/\x01"}
"""What stands for a placeholder while the text around it is looked at: a path begins with a slash, others may not."""
_MARK = "\x00"
_START = re.compile(r"(https?|\x00)://([^/?#]*)|/(?![/\\])")
_PORT = re.compile(rb":[0-9]*\Z")
_NO_HOST = problem(400, "host_missing", "a redirection needs to know the host that was asked")


def build(config: model.Redirect, params: Collection[str] | None = None) -> Handler:
    """A handler that redirects; `params` are the route's path parameters (None: not known, any name will do).

    Raises `ConfigError` at `redirect.to`.
    """
    try:
        pieces = parts(config.to)
        _check(pieces, params)
    except ValueError as error:
        raise ConfigError([Fault("redirect.to", str(error), found=repr(config.to))]) from None
    render = location(config)
    status = config.status
    needs_host = any(name == "host" for _, name in pieces)

    def redirect(exchange: Exchange) -> None:
        if needs_host and not exchange.host:
            answer(exchange, _NO_HOST)
        else:
            answer(exchange, Reply(status, ((b"location", render(exchange)),)))

    return redirect


def location(config: model.Redirect) -> Render:
    """What writes the `Location` for an exchange; `config` is one that `build` took."""
    return _renderer(parts(config.to))


def _check(pieces: list[tuple[str, str]], params: Collection[str] | None) -> None:
    """Raises `ValueError` for names that are none, and where a caller could choose the host."""
    names = [name for _, name in pieces if name]
    known = {"path", "query", "host", "scheme", *(names if params is None else params)}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise ValueError(f"no placeholder {{{name}}}" + (f"; did you mean {{{near[0]}}}?" if near else ""))
    shape = "".join(literal + (_MARKS.get(name, _MARK) if name else "") for literal, name in pieces)
    start = _START.match(shape)
    if start is None:
        raise ValueError("the target begins with /, {path}, http://, https:// or {scheme}://")
    in_scheme = (start[1] or "").count(_MARK)
    in_host = (start[2] or "").count(_MARK)
    if names[:in_scheme] not in ([], ["scheme"]) or set(names[in_scheme : in_scheme + in_host]) - {"host"}:
        raise ValueError("the host comes from the configuration or {host}, never from what the caller sends")
    if start[1] and not start[2]:
        raise ValueError("the target has no host")


def _renderer(pieces: list[tuple[str, str]]) -> Render:
    steps: list[tuple[bytes, Render | None]] = []
    in_query = False
    for literal, name in pieces:
        in_query = in_query or "?" in literal
        text = _NOT_VISIBLE.sub(_encoded, literal.encode())
        if name == "query" and text[-1:] in (b"?", b"&"):
            steps.append((text[:-1], _query(text[-1:])))
        else:
            steps.append((text, _value(name, in_query) if name else None))
    relative = pieces[0][0][:1] == "/" or pieces[0] == ("", "path")

    def render(exchange: Exchange) -> bytes:
        location = b"".join([text if fill is None else text + fill(exchange) for text, fill in steps])
        # "//host" would be another host's address, and browsers read "\" as "/" (it is encoded by now).
        return b"/" + location.lstrip(b"/") if relative else location

    return render


def _query(separator: bytes) -> Render:
    def fill(exchange: Exchange) -> bytes:
        return separator + _safe("query", exchange.query) if exchange.query else b""

    return fill


def _value(name: str, in_query: bool) -> Render:
    if name == "scheme":
        return lambda exchange: exchange.scheme
    if name == "host":
        return lambda exchange: _PORT.sub(b"", exchange.host)
    if name == "query":
        return lambda exchange: _safe("query", exchange.query or b"")
    kind = "value" if in_query else "path"
    if name == "path":
        return lambda exchange: b"/" + _safe(kind, exchange.path.lstrip(b"/"))
    return lambda exchange: _safe(kind, exchange.params.get(name, b"") if exchange.params else b"")


def _safe(kind: str, value: bytes) -> bytes:
    return _UNSAFE[kind].sub(_encoded, value)


def _encoded(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
