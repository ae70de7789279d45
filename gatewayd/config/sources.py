"""Where each option of a configuration stands, and how it was written before secrets were put in."""

from __future__ import annotations

from pathlib import Path

from gatewayd.config.keys import Key, join, split

ENVIRONMENT = "environment"
"""Stands for the file name of options that an environment variable overrides."""


class Sources:
    """Called with a dotted key it gives `(file, line)`: the deepest part of the key that stands anywhere.

    The line is 0 where there is none to name: an absent table, an override from the environment.
    """

    def __init__(self, main: str) -> None:
        self.main = main
        self.texts: dict[str, bytes] = {}
        """Each file read, in order, by the name it is shown with."""
        self.origins: dict[Key, str] = {}
        """File of each table and of each of its options, one and two names deep."""
        self.overrides: dict[Key, str] = {}
        """Environment variable of each option that one overrides."""
        self._written: dict[str, str] = {}
        self._lines: dict[str, dict[Key, int]] = {}

    def __call__(self, path: str) -> tuple[str, int]:
        key = split(path)
        if self.override(key):
            return ENVIRONMENT, 0
        file = self.file(key)
        return file, self.line(file, key)

    def __repr__(self) -> str:
        return f"<Sources {self.main} files={len(self.texts)}>"

    def file(self, key: Key) -> str:
        """Name of the file that holds `key`; the main one if none does."""
        return self.origins.get(key[:2]) or self.origins.get(key[:1]) or self.main

    def directory(self, key: Key) -> Path:
        """What relative file names at `key` count from."""
        return Path(self.main if self.override(key) else self.file(key)).absolute().parent

    def line(self, file: str, key: Key) -> int:
        """Line of the deepest part of `key` in `file`, 0 if no part stands there."""
        if file not in self._lines:
            from gatewayd.config.locate import lines

            self._lines[file] = lines(self.texts.get(file, b""))
        known = self._lines[file]
        return next((known[key[:n]] for n in range(len(key), 0, -1) if key[:n] in known), 0)

    def override(self, key: Key) -> str:
        """The environment variable that `key` or a table around it comes from, "" if none."""
        if not self.overrides:
            return ""
        depths = range(1, len(key) + 1)
        return next((self.overrides[key[:n]] for n in depths if key[:n] in self.overrides), "")

    def substituted(self, key: Key, written: str) -> None:
        """Note that the value at `key` is not what it was `written` as. The first note stays."""
        self._written.setdefault(join(key), written)

    def written(self, key: Key) -> str | None:
        """What stands at `key` where the value may be a secret; None where it can be shown."""
        return self._written.get(join(key)) if self._written else None
