"""The control API as OpenAPI 3.1: what parts say of themselves, put together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gatewayd import __version__
from gatewayd.collect.answers import components, reference
from gatewayd.collect.parameters import Parameter, Schema
from gatewayd.collect.part import Part

JSON = "application/json"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_IN_PATH = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_MEANINGS = {
    400: "The question cannot be answered as it was put: `faults` say all that is wrong with it.",
    404: "There is none.",
    409: "There is one already.",
    415: "The body is no JSON.",
    503: "It cannot be answered now: nothing is collected, too much is asked at once, or it takes too long.",
}


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked of the control listener."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    name: str
    """`operationId`."""
    summary: str
    contents: Mapping[str, Schema]
    """What is answered, by media type."""
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    """What is to be sent, as JSON."""
    errors: tuple[int, ...] = (400, 503)

    def route(self) -> web.RouteDef:
        """Where it is served."""
        return web.RouteDef(self.method, self.path, self.handler, {})

    def described(self) -> dict[str, Any]:
        """The same as an OpenAPI operation object."""
        names = _IN_PATH.findall(self.path)
        in_path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
        contents = {kind: {"schema": schema} for kind, schema in self.contents.items()}
        failed = {JSON: {"schema": reference("ErrorAnswer")}}
        found: dict[str, Any] = {
            "operationId": self.name,
            "summary": self.summary,
            "parameters": [*in_path, *(parameter.described() for parameter in self.parameters)],
            "responses": {
                "200": {"description": "The answer.", "content": contents},
                **{str(status): {"description": _MEANINGS[status], "content": failed} for status in self.errors},
            },
        }
        if self.body is not None:
            found["requestBody"] = {"required": True, "content": {JSON: {"schema": self.body}}}
        return found


def paths(operations: Iterable[Operation]) -> dict[str, Any]:
    """OpenAPI path items by path."""
    found: dict[str, Any] = {}
    for operation in operations:
        found.setdefault(template(operation.path), {})[operation.method.lower()] = operation.described()
    return found


def template(path: str) -> str:
    """A path as OpenAPI writes it: its parameters without what they have to look like."""
    return _IN_PATH.sub(r"{\1}", path)


def document(parts: Iterable[Part]) -> dict[str, Any]:
    """The description of all that the parts answer."""
    found: dict[str, Any] = {}
    schemas = components()
    for part in parts:
        for path, item in part.operations().items():
            found.setdefault(path, {}).update(_hoisted(item, schemas))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gatewayd control API",
            "version": __version__,
            "summary": "What the gateway knows of the calls it served.",
        },
        "servers": [{"url": "/"}],
        "paths": dict(sorted(found.items())),
        "components": {"schemas": schemas},
    }


def _hoisted(item: Any, schemas: dict[str, Any]) -> Any:
    """`item` with the `$defs` of its schemas among `schemas`: within an OpenAPI document they would not be found."""
    definitions: dict[str, Any] = {}
    _take_definitions(item, definitions)
    names = {name: _free_name(name, schemas) for name in definitions}
    schemas |= {names[name]: _renamed(schema, names) for name, schema in definitions.items()}
    return _renamed(item, names)


def _take_definitions(value: Any, found: dict[str, Any]) -> None:
    for each in _members(value):
        _take_definitions(each, found)
    if isinstance(value, dict):
        found |= value.get("$defs", {})


def _free_name(name: str, schemas: Mapping[str, Any]) -> str:
    """A name that no other schema has."""
    others = (f"{name}{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], others) if each not in schemas)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """`value` without `$defs`, with references to where they went."""
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    found = {name: _renamed(each, names) for name, each in value.items() if name != "$defs"}
    local = str(found.get("$ref", "")).removeprefix("#/$defs/")
    return {**found, **reference(names[local])} if local in names else found


def _members(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def differences(parts: Iterable[Part]) -> list[str]:
    """What is served but not described, and the other way round: `GET /path`, each with what is the matter."""
    parts = list(parts)
    served = {f"{route.method} {template(route.path)}" for part in parts for route in part.routes()}
    described = {
        f"{method.upper()} {path}"
        for path, item in document(parts)["paths"].items()
        for method in item
        if method in METHODS
    }
    return [
        *(f"{each} is not described" for each in sorted(served - described)),
        *(f"{each} is not served" for each in sorted(described - served)),
    ]
