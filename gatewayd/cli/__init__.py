"""The command line: `commands` are what one types, with a module for each further group, such as `keys`, `audit` and
`logs`; `asking` is how they ask the running daemon, `tables` and its like what they print.
"""

from gatewayd.cli.alerts import alerts
from gatewayd.cli.audit import audit
from gatewayd.cli.cache import cache
from gatewayd.cli.commands import cli, main
from gatewayd.cli.keys import keys
from gatewayd.cli.logs import logs
from gatewayd.cli.passwd import passwd
from gatewayd.cli.replay import replay
from gatewayd.cli.stats import stats
from gatewayd.cli.top import top

__all__ = ["main"]

cli.add_command(alerts)
cli.add_command(audit)
cli.add_command(cache)
cli.add_command(keys)
cli.add_command(logs)
cli.add_command(passwd)
cli.add_command(replay)
cli.add_command(stats)
cli.add_command(top)
