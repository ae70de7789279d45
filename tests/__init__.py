"""gatewayd/a/b.py has tests/a/test_b.py; rules are in house, RFC tables in wire, real processes in process."""
