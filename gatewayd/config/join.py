"""Reading TOML files and what they include into one table."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from gatewayd.config.faults import Faults
from gatewayd.config.keys import Key, join
from gatewayd.config.sources import Sources
from gatewayd.config.substitute import SubstitutionError, substitute
from gatewayd.errors import ConfigError, Fault

_AT = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def read(path: Path, sources: Sources, environ: Mapping[str, str], faults: Faults) -> dict[str, Any]:
    """The tables of the file at `path` and of all it includes, as one. `sources` learns where each came from.

    Files join section by section; a table or option of a section stands in one file only. What cannot be
    joined becomes a fault; a text that is not TOML raises `ConfigError`, as nothing behind it could be
    trusted.
    """
    reading = _Reading({}, sources, environ, faults, [])
    reading.file(path, ())
    if reading.unreadable:
        raise ConfigError(reading.unreadable)
    return reading.merged


@dataclass(slots=True)
class _Reading:
    merged: dict[str, Any]
    sources: Sources
    environ: Mapping[str, str]
    faults: Faults
    unreadable: list[Fault]

    def file(self, path: Path, above: tuple[Path, ...]) -> None:
        """Take in the file at `path`, which the files `above` include, and what it includes itself."""
        try:
            data = path.read_bytes()
        except OSError as error:
            self.unreadable.append(Fault("configuration", f"cannot be read: {error.strerror}", file=str(path)))
            return
        self.sources.texts[str(path)] = data
        try:
            table = _toml(data)
        except _NotTomlError as error:
            self.unreadable.append(Fault("TOML", str(error), file=str(path), line=error.line))
            return
        self._merge(table, str(path))
        include = table.get("include", [])
        if isinstance(include, list):
            for index, pattern in enumerate(include):
                self._include(pattern, index, path, (*above, path))

    def _merge(self, table: dict[str, Any], file: str) -> None:
        for section, content in table.items():
            known = self.merged.get(section)
            if section == "include":
                self._keep_wrong_include(content, file)
            elif section not in self.merged:
                self._put(self.merged, (section,), {} if isinstance(content, dict) else content, file)
                known = self.merged[section]
            elif not isinstance(known, dict) or not isinstance(content, dict):
                self._twice((section,), file)
            if isinstance(known, dict) and isinstance(content, dict):
                for name, value in content.items():
                    self._put(known, (section, name), value, file)

    def _put(self, table: dict[str, Any], key: Key, value: Any, file: str) -> None:
        name = str(key[-1])
        if name in table:
            self._twice(key, file)
            return
        table[name] = value
        self.sources.origins[key] = file

    def _keep_wrong_include(self, content: Any, file: str) -> None:
        """An `include` that is no list of texts is left for the walk over the types to complain of."""
        if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
            self.merged["include"] = content
            self.sources.origins["include",] = file

    def _twice(self, key: Key, file: str) -> None:
        first = self.sources.file(key)
        place = f"{first}:{self.sources.line(first, key)}"
        line = self.sources.line(file, key)
        self.faults.put(Fault(join(key), "stands in two files", f"first in {place}", file=file, line=line))

    def _include(self, pattern: Any, index: int, path: Path, above: tuple[Path, ...]) -> None:
        if not isinstance(pattern, str):
            return
        try:
            name = substitute(pattern, path.absolute().parent, self.environ)
        except SubstitutionError as error:
            self._bad_include(index, path, str(error), pattern)
            return
        found = list(_matching(name, path.parent))
        if not found and not has_magic(name):
            self._bad_include(index, path, "there is no such file", pattern)
        for file in found:
            if any(file.resolve() == other.resolve() for other in above):
                self._bad_include(index, path, "files include each other in a circle", pattern)
            elif str(file) in self.sources.texts:
                self._bad_include(index, path, f"{file} is included twice", pattern)
            else:
                self.file(file, above)

    def _bad_include(self, index: int, path: Path, message: str, pattern: str) -> None:
        key = ("include", index)
        line = self.sources.line(str(path), key)
        self.faults.put(Fault(join(key), message, f'"{pattern}"', file=str(path), line=line))


class _NotTomlError(ValueError):
    """A text that is not TOML, and the line where that shows."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _toml(data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise _NotTomlError("the text is not UTF-8", data.count(b"\n", 0, error.start) + 1) from None
    except RecursionError:
        raise _NotTomlError("nested too deep", 1) from None
    except tomllib.TOMLDecodeError as error:
        text = str(error)
        at = _AT.search(text)
        line = int(at[1]) if at and at[1] else data.rstrip().count(b"\n") + 1
        raise _NotTomlError(_AT.sub("", text), line) from None


def _matching(pattern: str, directory: Path) -> Iterator[Path]:
    """The files a name or glob stands for, sorted; a glob may match nothing."""
    whole = os.path.join(directory, pattern)
    if has_magic(pattern):
        yield from (Path(name) for name in sorted(glob(whole, recursive=True)))
    elif os.path.lexists(whole):
        yield Path(whole)
