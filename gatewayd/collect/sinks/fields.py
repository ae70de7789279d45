"""What of a call goes out, as SQL over the table `calls`, and as JSON.

What names a record goes out always: `instance` (the id of the key that signs the audit: another one for every state
directory), `gateway` (`gateway.name`), `chain`, `number`, and `at`.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import msgspec

from gatewayd.audit.record import Captured
from gatewayd.config.sinks import PersonalField, PlainField, Sink

IDENTITY = ("instance", "gateway", "chain", "number", "at")
ORDER = (*get_args(PlainField), *get_args(PersonalField))
PERSONAL = frozenset(get_args(PersonalField))
_captured = msgspec.msgpack.Decoder(Captured).decode
_json = msgspec.json.Encoder().encode


class Origin(NamedTuple):
    """Which gateway records are of."""

    instance: str
    gateway: str


def chosen(config: Sink) -> tuple[str, ...]:
    """The fields that go out, besides `IDENTITY`, in the order of the table."""
    asked = config.fields or ORDER
    return tuple(name for name in ORDER if name in asked and (config.personal or name not in PERSONAL))


def expressions(names: Sequence[str], origin: Origin) -> list[str]:
    """SQL for the value of each field."""
    constants = {name: quoted(value) for name, value in origin._asdict().items()}
    return [constants.get(name, f'"{name}"') for name in names]


def json_expressions(names: Sequence[str], origin: Origin, moment: str) -> list[str]:
    """SQL for a call as JSON text, to be finished by `json_lines`. `moment` is SQL for `at`.

    DuckDB writes JSON in half the time that Python needs to only fetch the values.
    """
    values = dict(zip(names, expressions(names, origin), strict=True)) | {"at": moment}
    captured = values.pop("captured", None)
    members = ", ".join(f"{name}: {value}" for name, value in ((f'"{name}"', value) for name, value in values.items()))
    return [f"to_json({{{members}}})::VARCHAR", *([captured] if captured else [])]


def json_lines(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> list[str]:
    """The JSON text of each row that was read by `json_expressions`."""
    if "captured" not in names:
        return [row[0] for row in rows]
    return [f'{row[0][:-1]},"captured":{json_of_captured(row[1])}}}' for row in rows]


def json_of_captured(packed: bytes | None) -> str:
    """What was kept of a request and its reply, as JSON; bodies that are no text as base64."""
    if packed is None:
        return "null"
    found = _captured(packed)
    return _json(
        {
            "request_headers": _headers(found.request_headers),
            **_body("request_body", found.request_body),
            "request_cut": found.request_cut,
            "reply_headers": _headers(found.reply_headers),
            **_body("reply_body", found.reply_body),
            "reply_cut": found.reply_cut,
        }
    ).decode()


def _headers(found: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in found]


def _body(name: str, content: bytes) -> dict[str, str]:
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
