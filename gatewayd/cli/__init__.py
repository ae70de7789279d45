"""The command line: `commands` are what one types, `tables` what some of them print."""

from gatewayd.cli.commands import main

__all__ = ["main"]
