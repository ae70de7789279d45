"""`/v1/export`: calls as a file, sent to who asks, or put into the folder of exports."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from gatewayd.collect import export
from gatewayd.collect.answers import ErrorAnswer, ExportAnswer, reference
from gatewayd.collect.filters import FILTERS, filters_of
from gatewayd.collect.openapi import JSON, Operation
from gatewayd.collect.parameters import BadParameters, flag, one_of, pairs, read_all, text
from gatewayd.collect.questions import Questions
from gatewayd.core.clock import Clock
from gatewayd.core.state import StateError
from gatewayd.errors import Fault

LONGEST = 900.0
"""Seconds that writing a file may take."""
_CHUNK = 256 * 1024
_COMMON = (
    *FILTERS,
    one_of("format", "What kind of file.", export.FORMATS, "parquet"),
    flag("captured", "With what routes captured of calls."),
)
_NAMED = (*_COMMON, text("name", "What the file is called.", read=export.file_name))


class ExportDesk:
    """Writes calls to files, one at a time. `questions` is for this alone."""

    def __init__(self, questions: Questions, clock: Clock) -> None:
        self._questions = questions
        self._clock = clock
        self.folder: Path | None = None
        """Where files go; None: nowhere is known yet."""

    def operations(self) -> tuple[Operation, ...]:
        """What can be asked here."""
        files = {kind.partition(";")[0]: {"type": "string", "format": "binary"} for kind in export.FORMATS.values()}
        lists = {each.name: {"anyOf": [each.schema, {"type": "array", "items": each.schema}]} for each in FILTERS}
        rest = {each.name: each.schema for each in _NAMED if each.name not in lists}
        body = {"type": "object", "properties": {**lists, **rest}, "required": ["name"], "additionalProperties": False}
        written = {JSON: reference("ExportAnswer")}
        return (
            Operation("GET", "/v1/export", self.send, "export", "Calls as a file.", files, _COMMON),
            Operation(
                "POST", "/v1/export", self.write, "write_export", "Calls into a file on the daemon's machine.",
                written, (), body, (400, 409, 415, 503),
            ),
        )  # fmt: skip

    async def send(self, request: web.Request) -> web.StreamResponse:
        """The file as the reply's body."""
        values = read_all(_COMMON, request.query.items())
        kind: export.Format = values["format"] or "parquet"
        with export.part_of(self._folder()) as part:
            await self._export(values, kind, part)
            file = part.open("rb")
        with file:
            name = {"Content-Disposition": f'attachment; filename="calls.{kind}"'}
            response = web.StreamResponse(headers={"Content-Type": export.FORMATS[kind], **name})
            response.content_length = await asyncio.to_thread(file.seek, 0, 2)
            await response.prepare(request)
            await asyncio.to_thread(file.seek, 0)
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                await response.write(chunk)
        return response

    async def write(self, request: web.Request) -> web.Response:
        """A file in the folder of exports: `{"name": "calls.parquet", "from": "1h", …}`."""
        if request.content_type != JSON:
            return _json(ErrorAnswer("the body is to be application/json"), 415)
        values = read_all(_NAMED, await _body(request))
        if values["name"] is None:
            raise BadParameters([Fault("name", "is missing")])
        kind: export.Format = values["format"] or _kind_of(values["name"])
        with export.part_of(self._folder()) as part:
            rows = await self._export(values, kind, part)
            path = await asyncio.to_thread(export.keep, part, values["name"])
            return _json(ExportAnswer(str(path), rows, path.stat().st_size))

    async def _export(self, values: dict[str, Any], kind: export.Format, part: Path) -> int:
        filters = filters_of(values, self._clock.wall())
        asked = partial(export.export, filters=filters, kind=kind, path=part, captured=bool(values["captured"]))
        return await self._questions.ask(asked, LONGEST)

    def _folder(self) -> Path:
        if self.folder is None:
            raise StateError("there is no state directory to write exports to")
        return self.folder


def _kind_of(name: str) -> export.Format:
    """By the end of a file's name, if that says one."""
    suffix = name.rpartition(".")[2]
    return next((kind for kind in export.FORMATS if kind == suffix), "parquet")


async def _body(request: web.Request) -> list[tuple[str, str]]:
    """The members of the body. Raises `BadParameters`."""
    try:
        return pairs(msgspec.json.decode(await request.read(), type=dict[str, Any]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadParameters([Fault("body", f"is not as it should be: {error}")]) from None


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), status=status, content_type=JSON)
