"""Real daemons, real peers, real signals. Counts are asserted, never times; what was measured is printed (`pytest -s`).

`GATEWAYD_FULL=1` does all that is promised (30 reloads during 200,000 requests, bodies of 5 GiB); without it the same
is shown at a smaller size.
"""
