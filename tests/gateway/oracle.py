"""A router that tries every route by the documented rules, for the real one to be compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from gatewayd.core.exchange import Exchange
from gatewayd.gateway.router import RouteSpec

ANY_BUT = {b"TRACE", b"CONNECT"}
CLASSES = {
    "": r".+",
    "int": r"[0-9]+",
    "slug": r"[A-Za-z0-9_-]+",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}
ORDER = ["int", "uuid", "slug", "regex", ""]


class Answer(NamedTuple):
    """What a router answered: the route's name or a status, with parameters or `Allow`."""

    what: str | int
    params: dict[str, bytes]
    allow: frozenset[bytes] = frozenset()


def request(
    method: bytes = b"GET",
    path: bytes = b"/",
    host: bytes = b"a.example",
    headers: tuple[tuple[bytes, bytes], ...] = (),
    query: bytes | None = None,
) -> Exchange:
    """An exchange as the wire hands it over."""
    exchange = Exchange()
    exchange.method, exchange.path, exchange.host, exchange.query = method, path, host, query
    exchange.headers = list(headers)
    return exchange


def answer(specs: list[RouteSpec], exchange: Exchange) -> Answer:
    """The answer by the rules; two best routes are an error."""
    reached = [(spec, *found) for spec in specs for found in _reached(spec, exchange)]
    best = sorted(
        ((key + _conditions_key(spec), spec, params) for spec, key, params in reached if _taken(spec, exchange)),
        key=lambda found: found[0],
    )
    if best:
        assert len(best) == 1 or best[0][0] < best[1][0], f"{best[0][1].name} and {best[1][1].name} are equal"
        return Answer(best[0][1].name, best[0][2])
    methods = [_methods(spec) for spec, _, _ in reached]
    if not reached or any(
        exchange.method in named or (b"*" in named and exchange.method not in ANY_BUT) for named in methods
    ):
        return Answer(404, {})
    return Answer(405, {}, frozenset().union(*methods) - {b"*"})


def _reached(spec: RouteSpec, exchange: Exchange) -> Iterator[tuple[tuple[object, ...], dict[str, bytes]]]:
    """Sort key and parameters, for the best host pattern of `spec` that matches, if host and path do."""
    params = path_params(spec.path, exchange.path)
    ranks = [rank for pattern in spec.hosts or ("",) if (rank := _host_rank(pattern, exchange.host)) is not None]
    if params is not None and ranks:
        yield (min(ranks), path_key(spec.path)), params


def _host_rank(pattern: str, host: bytes) -> tuple[int, int] | None:
    name = re.sub(r":[0-9]+$", "", host.decode())
    if not pattern:
        return 2, 0
    if pattern.startswith("*."):
        return (1, -len(pattern)) if name.endswith(pattern[1:]) and len(name) > len(pattern) - 1 else None
    return (0, 0) if name == pattern else None


def _pieces(path: str) -> tuple[list[tuple[str, str, str, str]], str | None]:
    """Segments as (before, name, type, behind), name "" for literals; and the tail's name, None without one."""
    segments = re.split(r"/(?![^{]*\})", path)[1:]
    tail = None
    if segments[-1] == "*" or segments[-1].endswith("*}"):
        tail = segments.pop().strip("{*}")
    taken = [re.fullmatch(r"([^{]*)(?:\{(\w+):?([^}]*)\}(.*))?", segment).groups(default="") for segment in segments]
    return taken, tail


@cache
def _whole(template: str) -> re.Pattern[str]:
    pieces, tail = _pieces(template)
    parts = [
        re.escape(before) + (f"(?P<{name}>(?!/){_regex(kind)}){re.escape(behind)}" if name else "")
        for before, name, kind, behind in pieces
    ]
    whole = "".join("/" + part for part in parts)
    if tail is not None:
        rest = f"/(?P<{tail or 'unnamed'}>.*)"
        whole += f"(?:{rest})?" if parts else rest
    return re.compile(whole)


def path_params(template: str, path: bytes) -> dict[str, bytes] | None:
    """The parameters of `path` by `template`, None if it does not match."""
    found = _whole(template).fullmatch(path.decode())
    if found is None:
        return None
    return {name: (value or "").encode() for name, value in found.groupdict().items() if name != "unnamed"}


def _regex(kind: str) -> str:
    return f"(?:{kind[1:-1]})" if kind.startswith("/") else CLASSES[kind].replace(".", "[^/]")


def path_key(template: str) -> tuple[tuple[int, ...], ...]:
    """Sorts more specific templates first, for those that can match the same path."""
    pieces, tail = _pieces(template)
    keys: list[tuple[int, ...]] = []
    for before, name, kind, behind in pieces:
        if not name:
            keys.append((0,))
        elif not kind and not before and not behind:
            keys.append((2,))
        else:
            keys.append((1, -len(before + behind), ORDER.index("regex" if kind.startswith("/") else kind)))
    return (*keys, (3,)) if tail is not None else tuple(keys)


def _methods(spec: RouteSpec) -> frozenset[bytes]:
    named = frozenset(method.encode() for method in spec.methods)
    if not named:
        return frozenset((b"*", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT"))
    return named | {b"HEAD"} if b"GET" in named else named


def _taken(spec: RouteSpec, exchange: Exchange) -> bool:
    methods = _methods(spec)
    if exchange.method not in methods and not (b"*" in methods and exchange.method not in ANY_BUT):
        return False
    sent = [(name.decode(), value.decode()) for name, value in exchange.headers]
    for name, value in spec.headers.items():
        copies = [found for key, found in sent if key == name]
        if not copies or (value != "*" and set(copies) != {value}):
            return False
    return True


def _conditions_key(spec: RouteSpec) -> tuple[object, ...]:
    exact = sum(value != "*" for value in spec.headers.values())
    return -len(spec.headers), -exact, not spec.methods, "HEAD" not in spec.methods
