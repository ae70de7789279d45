"""The command line: `commands` are what one types, `keys`, `passwd` and `cache` those about API keys, passwords and
stored replies, `tables` what some of them print.
"""

from gatewayd.cli.cache import cache
from gatewayd.cli.commands import cli, main
from gatewayd.cli.keys import keys
from gatewayd.cli.passwd import passwd

__all__ = ["main"]

cli.add_command(cache)
cli.add_command(keys)
cli.add_command(passwd)
