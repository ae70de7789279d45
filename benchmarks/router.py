"""What matching costs: gatewayd's router beside a radix tree compressed over bytes, for tables of several sizes.

    python -m benchmarks.router [--routes 10 --routes 1000 --routes 100000] [--json PATH]

Times are CPU nanoseconds per `match`, the least of several rounds, everything included: host, path, method, parameters.
Memory is what the tables hold, in bytes per route, without the routes' own values. No network, no other process.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gatewayd.core.exchange import Exchange
from gatewayd.gateway.router import Miss, Router, RouteSpec, compile_routes

SIZES = (10, 1_000, 100_000)
ROUNDS = 150
ROUND_SECONDS = 0.002


def paths(count: int) -> list[tuple[str, str]]:
    """`count` templates and methods as an API portfolio has them: services, resources, items, what belongs to items."""
    found: list[tuple[str, str]] = []
    for number in range(count):
        service, rest = divmod(number, 100)
        resource, shape = divmod(rest, 5)
        base = f"/v{service % 3 + 1}/service-{service}/resource-{resource}"
        found.append(
            (
                (base, "GET"),
                (base, "POST"),
                (base + "/{id}", "GET"),
                (base + "/{id}/notes", "GET"),
                (base + "/{id}/notes/{note}", "GET"),
            )[shape]
        )
    return found


def specs(count: int) -> list[RouteSpec]:
    """The routes, and beside them a typed parameter, a tail and a host of its own."""
    made = [RouteSpec(f"r{at}", path, methods=(method,), value=at) for at, (path, method) in enumerate(paths(count))]
    made.append(RouteSpec("typed", "/typed/{id:int}", value="typed"))
    made.append(RouteSpec("tail", "/files/{rest*}", value="tail"))
    return made


def requests(count: int) -> dict[str, tuple[bytes, bytes]]:
    """Method and path for each column of the table, from the middle of the portfolio."""
    service = count // 200
    base = b"/v%d/service-%d/resource-1" % (service % 3 + 1, service)
    return {
        "static": (b"GET", base),
        "second method": (b"POST", base),
        "{id}": (b"GET", base + b"/48151623"),
        "{id}/notes": (b"GET", base + b"/48151623/notes"),
        "two parameters": (b"GET", base + b"/48151623/notes/42"),
        "typed": (b"GET", b"/typed/48151623"),
        "tail": (b"GET", b"/files/2026/11/report.pdf"),
        "405": (b"PUT", base + b"/48151623"),
        "404": (b"GET", base + b"/48151623/nothing/here"),
    }


class RadixPlace:
    """A place of the compared tree: the bytes that lead to it, and what may follow."""

    __slots__ = ("children", "entry", "length", "parameter", "prefix")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.length = len(prefix)
        self.children: dict[int, RadixPlace] | None = None
        self.parameter: RadixPlace | None = None
        self.entry: tuple[int, frozenset[bytes], tuple[str, ...]] | None = None


class Radix:
    """A compressed radix tree with parameters, with a dict for static paths in front as `Router` has: same extras off.

    It knows literals, plain parameters and one method per route; no typed ones, tails, conditions, hosts or 405.
    """

    def __init__(self, templates: Sequence[tuple[str, str]]) -> None:
        self.static: dict[bytes, tuple[int, frozenset[bytes], tuple[str, ...]]] = {}
        self.root = RadixPlace(b"")
        methods = {b"GET": frozenset((b"GET", b"HEAD")), b"POST": frozenset((b"POST",))}
        shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        for at, (path, method) in enumerate(templates):
            parts = re.split(rb"(\{[a-z]+\})", path.encode())
            names = tuple(part[1:-1].decode() for part in parts[1::2])
            entry = (at, methods[method.encode()], shared.setdefault(names, names))
            if names:
                self.insert(parts, entry)
            else:
                self.static.setdefault(path.encode(), entry)

    def insert(self, parts: list[bytes], entry: tuple[int, frozenset[bytes], tuple[str, ...]]) -> None:
        """Put a template's parts, literals and parameters in turn, into the tree."""
        place = self.root
        for at, part in enumerate(parts):
            if at % 2:
                place.parameter = place = place.parameter or RadixPlace(b"")
            else:
                place = self._literal(place, part)
        place.entry = entry

    def _literal(self, place: RadixPlace, text: bytes) -> RadixPlace:
        while text:
            if place.children is None:
                place.children = {}
            child = place.children.get(text[0])
            if child is None:
                child = place.children[text[0]] = RadixPlace(text)
            common = _common(child.prefix, text)
            if common < child.length:
                upper = RadixPlace(text[:common])
                child.prefix = child.prefix[common:]
                child.length = len(child.prefix)
                upper.children = {child.prefix[0]: child}
                place.children[text[0]] = child = upper
            place = child
            text = text[common:]
        return place

    def match(self, exchange: Exchange) -> Any:
        """As `Router.match`, without backtracking; None where nothing matches."""
        path = exchange.path
        found = self.static.get(path)
        if found is not None and exchange.method in found[1]:
            return found[0]
        place: RadixPlace | None = self.root
        values: list[bytes] = []
        at, end = 0, len(path)
        while place is not None and at < end:
            if place.children is not None:
                child = place.children.get(path[at])
                if child is not None and path.startswith(child.prefix, at):
                    at += child.length
                    place = child
                    continue
            place = place.parameter
            stop = path.find(b"/", at)
            stop = end if stop < 0 else stop
            values.append(path[at:stop])
            at = stop
        if place is None or place.entry is None or exchange.method not in place.entry[1]:
            return None
        exchange.params = dict(zip(place.entry[2], values, strict=True))
        return place.entry[0]


def _common(one: bytes, other: bytes) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


Case = tuple[Callable[[Exchange], Any], Exchange]


def costs(cases: dict[str, Case]) -> dict[str, float]:
    """CPU nanoseconds of one `match(exchange)` for each case. Their rounds alternate: none gets the quiet time."""
    counts = {name: _count(*case) for name, case in cases.items()}
    least = dict.fromkeys(cases, float("inf"))
    for _ in range(ROUNDS):
        for name, (match, exchange) in cases.items():
            least[name] = min(least[name], _spent(match, exchange, counts[name]) / counts[name] * 1e9)
    return least


def _count(match: Callable[[Exchange], Any], exchange: Exchange) -> int:
    """How many matches a round takes."""
    count = 100
    while (seconds := _spent(match, exchange, count)) < ROUND_SECONDS:
        count = int(count * max(1.5, 1.2 * ROUND_SECONDS / max(seconds, 1e-6)))
    return count


def _spent(match: Callable[[Exchange], Any], exchange: Exchange, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        match(exchange)
    return time.process_time() - began


def built(make: Callable[[], Any], count: int) -> tuple[Any, float, float]:
    """What `make` builds, the seconds it took, and the bytes per route it holds."""
    gc.collect()
    began = time.process_time()
    make()
    seconds = time.process_time() - began
    gc.collect()
    tracemalloc.start()
    table = make()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return table, seconds, held / count


def exchange_of(method: bytes, path: bytes) -> Exchange:
    """A request without headers."""
    exchange = Exchange()
    exchange.method, exchange.path, exchange.host = method, path, b"api.example.com"
    return exchange


def measure(count: int) -> dict[str, Any]:
    """All figures for a table of `count` routes."""
    given = specs(count)
    hosted = [RouteSpec("own", "/", hosts=("*.example.net",), value="own"), *given]
    router, seconds, held = built(lambda: compile_routes(given), count)
    templates = paths(count)
    radix, radix_seconds, radix_held = built(lambda: Radix(templates), count)
    exchanges = {name: exchange_of(*request) for name, request in requests(count).items()}
    _check(router, radix, exchanges)
    cases: dict[str, Case] = {name: (router.match, exchange) for name, exchange in exchanges.items()}
    cases["{id}, routes by host"] = (compile_routes(hosted).match, exchanges["{id}"])
    peers: dict[str, Case] = {f"radix {name}": (radix.match, exchanges[name]) for name in _COMPARED}
    measured = costs(cases | peers)
    own = {name: measured[name] for name in cases}
    peer = {name: measured[f"radix {name}"] for name in _COMPARED}
    return {
        "routes": count,
        "steps": router.steps,
        "router": {"ns": own, "compile_s": seconds, "bytes_per_route": held},
        "radix": {"ns": peer, "compile_s": radix_seconds, "bytes_per_route": radix_held},
    }


_COMPARED = ("static", "{id}", "{id}/notes", "two parameters", "404")


def _check(router: Router, radix: Radix, exchanges: dict[str, Exchange]) -> None:
    for name, exchange in exchanges.items():
        answer = router.match(exchange)
        if isinstance(answer, Miss) is not (name in ("404", "405")):
            sys.exit(f"{name}: matched {answer}")
        if name in _COMPARED and not isinstance(answer, Miss) and radix.match(exchange) != answer:
            sys.exit(f"{name}: the two routers differ")


def table(results: Sequence[dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    columns = [f"{result['routes']:,} routes" for result in results]
    lines = ["| ns per match, CPU | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for name in results[0]["router"]["ns"]:
        cells = []
        for result in results:
            cell = f"{result['router']['ns'][name]:.0f}"
            peer = result["radix"]["ns"].get(name)
            cells.append(f"{cell} (radix {peer:.0f})" if peer else cell)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for label, key, digits in (
        ("compile, seconds", "compile_s", 3),
        ("bytes per route", "bytes_per_route", 0),
    ):
        cells = [f"{r['router'][key]:.{digits}f} (radix {r['radix'][key]:.{digits}f})" for r in results]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    lines.append("| steps at worst | " + " | ".join(str(result["steps"]) for result in results) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--routes", type=int, action="append", help="size of a table; may be repeated")
    parser.add_argument("--json", type=Path, help="file for the figures; - is the standard output, without the table")
    options = parser.parse_args(arguments)
    results = [measure(count) for count in options.routes or SIZES]
    if options.json == Path("-"):
        json.dump(results, sys.stdout, indent=2)
        return
    print(table(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
