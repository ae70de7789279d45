"""`${env:NAME}`, `${env:NAME:-default}` and `${file:path}` inside texts; `$${` is a plain `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatewayd.config.faults import Faults
from gatewayd.config.keys import Key
from gatewayd.config.sources import Sources

_MARK = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_ALLOWED = "${env:NAME}, ${env:NAME:-default}, ${file:path}; $${ for a plain ${"
_MOST = 1024 * 1024
"""Bytes of a file taken in as a value; a secret or a list is far smaller."""


class SubstitutionError(ValueError):
    """A mark that cannot be replaced; the message holds no value, only the mark's own words."""


def substitute(text: str, directory: Path, environ: Mapping[str, str]) -> str:
    """`text` with its marks replaced; relative files count from `directory`. Raises `SubstitutionError`."""
    return _MARK.sub(lambda mark: _value(mark, directory, environ), text)


def substitute_all(raw: dict[str, Any], sources: Sources, environ: Mapping[str, str], faults: Faults) -> None:
    """Replace the marks in every text of `raw`, in place; what cannot be replaced becomes a fault."""
    for name in list(raw):
        raw[name] = _walk(raw[name], (name,), sources, environ, faults)


def _walk(value: Any, key: Key, sources: Sources, environ: Mapping[str, str], faults: Faults) -> Any:
    if isinstance(value, str):
        return _replaced(value, key, sources, environ, faults) if "${" in value else value
    if isinstance(value, dict):
        for name, item in value.items():
            value[name] = _walk(item, (*key, name), sources, environ, faults)
    elif isinstance(value, list):
        value[:] = [_walk(item, (*key, n), sources, environ, faults) for n, item in enumerate(value)]
    return value


def _replaced(text: str, key: Key, sources: Sources, environ: Mapping[str, str], faults: Faults) -> str:
    sources.substituted(key, text)
    try:
        return substitute(text, sources.directory(key), environ)
    except SubstitutionError as error:
        faults.add(key, str(error), text, allowed=_ALLOWED)
        return text


def _value(mark: re.Match[str], directory: Path, environ: Mapping[str, str]) -> str:
    if mark[0] == "$${":
        return "${"
    if not mark[2]:
        raise SubstitutionError("${ without its }")
    source, _, what = mark[1].partition(":")
    if source == "env" and what:
        return _from_environment(what, environ)
    if source == "file" and what:
        return _from_file(directory / what)
    raise SubstitutionError("unknown ${…}")


def _from_environment(what: str, environ: Mapping[str, str]) -> str:
    """As in a shell, `:-` stands in for a variable that is unset or empty."""
    name, with_default, default = what.partition(":-")
    if with_default:
        return environ.get(name) or default
    if name not in environ:
        raise SubstitutionError(f"the environment has no {name}")
    return environ[name]


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise SubstitutionError(f"the file cannot be read: {error.strerror}") from None
    if len(data) > _MOST:
        raise SubstitutionError("the file is larger than 1 MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SubstitutionError("the file is not UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")
