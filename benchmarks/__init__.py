"""What gatewayd costs, measured beside other proxies in the same run: `python -m benchmarks`, docs/benchmarks.md."""
