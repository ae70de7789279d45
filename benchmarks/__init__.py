"""What gatewayd costs, measured beside other proxies in the same run. `python -m benchmarks --help`; docs/benchmarks.md."""
