"""A configuration as it counts: everything joined, every default filled in, secrets as they were written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import tomli_w
from msgspec import Struct

from gatewayd.config.convert import convert_policy
from gatewayd.config.keys import Key
from gatewayd.config.load import Loaded
from gatewayd.config.sources import Sources
from gatewayd.config.units import to_plain


def effective(loaded: Loaded, policies: Mapping[str, type[Struct]] | None = None) -> str:
    """TOML text that means what `loaded` does, in the same environment and directory.

    `policies` maps each policy's name to its `Config`; with it their defaults are filled in too.
    """
    plain = msgspec.to_builtins(loaded.document, enc_hook=to_plain)
    del plain["include"]
    for name, table in plain["policies"].items():
        common, config, _ = convert_policy(policies or {}, name, table, loaded.locate)
        if common is not None and config is not None:
            plain["policies"][name] = {
                **msgspec.to_builtins(common),
                **msgspec.to_builtins(config, enc_hook=to_plain),
            }
    return tomli_w.dumps(_shown(plain, (), loaded.locate))


def _shown(value: Any, key: Key, sources: Sources) -> Any:
    """`value` without options that are None (TOML has no word for it), secrets as they stand in the files."""
    if isinstance(value, dict):
        return {name: _shown(item, (*key, name), sources) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_shown(item, (*key, index), sources) for index, item in enumerate(value)]
    written = sources.written(key)
    if written is not None:
        return written
    return value.replace("${", "$${") if isinstance(value, str) else value
