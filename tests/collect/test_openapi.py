from __future__ import annotations

from dataclasses import replace

from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from gatewayd.collect import openapi
from gatewayd.collect.openapi import JSON, Operation, differences, document, paths, template
from gatewayd.collect.parameters import text, whole


async def handler(_):
    return web.Response()


OPERATIONS = (
    Operation("GET", r"/v1/things/{name:[a-z]+}", handler, "thing", "A thing.", {JSON: {"type": "object"}},
              (text("color", "Its color.", many=True), whole("limit", "How many.", 1, 5, 2))),
    Operation("POST", r"/v1/things/{name:[a-z]+}", handler, "make", "Make one.", {JSON: {}}, (), {"type": "object"}),
)  # fmt: skip


class Things:
    """A part that answers about things."""

    def __init__(self, served=OPERATIONS, described=OPERATIONS):
        self.served, self.described = served, described

    def routes(self):
        return [operation.route() for operation in self.served]

    def operations(self):
        return paths(self.described)

    def families(self):
        return ()

    async def apply(self, document):
        pass

    async def close(self):
        pass


def test_the_description_is_valid():
    OpenAPIV31SpecValidator(document([Things()])).validate()


def test_operations_of_a_path_stand_together():
    (path,) = document([Things(described=OPERATIONS[:1]), Things(described=OPERATIONS[1:])])["paths"].items()
    assert path[0] == "/v1/things/{name}"
    assert sorted(path[1]) == ["get", "post"]
    get = path[1]["get"]
    assert [each["name"] for each in get["parameters"]] == ["name", "color", "limit"]
    assert [each["in"] for each in get["parameters"]] == ["path", "query", "query"]
    assert sorted(get["responses"]) == ["200", "400", "503"]
    assert path[1]["post"]["requestBody"]["content"] == {JSON: {"schema": {"type": "object"}}}


def test_what_is_served_but_not_described_is_found():
    assert differences([Things()]) == []
    assert differences([Things(described=OPERATIONS[:1])]) == ["POST /v1/things/{name} is not described"]
    assert differences([Things(served=OPERATIONS[1:])]) == ["GET /v1/things/{name} is not served"]


def test_templates():
    assert template("/v1/a/{b}/{c:.*}") == "/v1/a/{b}/{c}"
    assert tuple(method.lower() for method in openapi.METHODS) == openapi.METHODS


def test_definitions_of_a_schema_are_found():
    """As `msgspec.json.schema` makes them; one has a name that ours have, too."""
    tree = {"type": "object", "properties": {"in": {"$ref": "#/$defs/Tree"}, "by": {"$ref": "#/$defs/Period"}}}
    schema = {"$ref": "#/$defs/Tree", "$defs": {"Tree": tree, "Period": {"type": "integer"}}}
    found = document([Things(described=[replace(OPERATIONS[0], contents={JSON: schema})])])
    OpenAPIV31SpecValidator(found).validate()
    told = found["paths"]["/v1/things/{name}"]["get"]["responses"]["200"]["content"][JSON]["schema"]
    assert told == {"$ref": "#/components/schemas/Tree"}
    schemas = found["components"]["schemas"]
    assert schemas["Tree"]["properties"]["in"] == told
    assert schemas["Tree"]["properties"]["by"] == {"$ref": "#/components/schemas/Period2"}
    assert (schemas["Period2"], schemas["Period"]["type"]) == ({"type": "integer"}, "object")
