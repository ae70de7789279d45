"""Public conformance suites, run against a real gatewayd by `scripts/conformance`."""
