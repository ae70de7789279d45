"""Layers: import-linter's contracts hold, and a worker loads no library of the control process."""

from __future__ import annotations

import subprocess
import sys

from .tree import ROOT, sources

DATA_PATH = {"core", "rfc", "wire", "upstream", "observe", "policies", "handlers", "gateway"}
NEVER = ("aiohttp", "click", "rich", "prometheus_client")
ONLY_WHEN_USED = ("tree_sitter", "tree_sitter_toml", "argon2", "cryptography", "joserfc", "re2", "redis", "tomllib")
"""Imported by the function that needs them: most workers never do."""


def test_the_contracts_of_import_linter_hold():
    linter = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", linter, "--config", ".importlinter", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]


def loaded_by(modules: list[str]) -> set[str]:
    """The top-level packages a fresh interpreter has loaded after it imported `modules`."""
    script = f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}]; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_data_path_loads_only_what_it_needs():
    paths = [source.path.with_suffix("") for source in sources("gatewayd") if source.path.parts[1] in DATA_PATH]
    modules = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    loaded = loaded_by([*modules, "gatewayd.server.worker"])
    assert not loaded & {*NEVER, *ONLY_WHEN_USED}
    assert {"uvloop", "msgspec"} <= loaded
