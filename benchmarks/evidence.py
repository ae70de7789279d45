"""The scenarios that ask what proof of every call costs."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

from benchmarks.cases import Result, Scenario, Step, compared, result_of
from benchmarks.figures import Round, check, ratio, spread
from benchmarks.harness import Harness
from benchmarks.processes import StartError
from benchmarks.proxies import Setup
from benchmarks.regulated import ROUTES, consumers_of, differences, keyed_regulation, with_keys

BARS = {"nginx": 2.0, "record": 6.0, "bare": 0.5}
"""The greatest `cpu_ratio` to nginx; the most microseconds of a record; the least share of what a bare nginx serves."""


def audited(harness: Harness, step: Step) -> Result:
    """API keys, limits, quota, rules, access log and metrics as in `keyed`, and a record of every call in a hash chain.

    What collects the records is not in gatewayd's CPU, but told beside it.
    """
    target = harness.target()
    consumers = consumers_of(harness)
    setup = Setup(target.port, harness.options.workers, ROUTES, regulation=keyed_regulation(consumers))
    subject = harness.proxy("gatewayd", replace(setup, audit="batched"))
    peers = [
        harness.proxy("gatewayd", setup, "gatewayd-unrecorded"),
        harness.proxy("gatewayd", replace(setup, audit="strict"), "gatewayd-strict"),
    ]
    for name, its in (("nginx", setup), ("nginx-bare", replace(setup, regulation=None))):
        if "nginx" in harness.peers():
            try:
                peers.append(harness.proxy("nginx", its, name))
            except StartError as error:
                harness.skipped[name] = str(error)
    in_turn = with_keys(consumers)
    traffic = replace(in_turn, asks=in_turn.asks[: in_turn.connections * harness.options.workers], sticky=True)
    comparison = compared(harness, target, step, [subject, *peers], traffic)
    found = result_of("audited", harness, target, comparison, traffic)
    cost = differences(comparison.pairs["gatewayd-unrecorded"])
    strict = [-each for each in differences(comparison.pairs["gatewayd-strict"])]
    found |= {
        "us_per_record": round(median(cost), 2),
        "us_per_record_spread": spread(cost, 2),
        "strict_us_more": round(median(strict), 2),
        "collector_us": _aside(comparison.rounds_of_subject()),
    }
    found["checks"].append(check("µs of a record", found["us_per_record"], BARS["record"]))
    if "nginx" in found["peers"]:
        found["checks"].append(check("cpu_ratio to nginx", found["peers"]["nginx"]["cpu_ratio"], BARS["nginx"]))
    if "nginx-bare" in found["peers"]:
        bare = found["peers"]["nginx-bare"]
        share = ratio(1.0, bare["cpu_ratio"])
        found["share_of_bare_nginx"] = None if share is None else round(share, 3)
        what = "requests a core serves, to those of a bare nginx, by CPU"
        found["checks"].append(check(what, found["share_of_bare_nginx"], BARS["bare"], True))
    found["remarks"].append(
        f"collecting took {found['collector_us']} µs of CPU a request beside; on the disk before each reply "
        f"(strict): {found['strict_us_more']} µs more, and "
        f"{found['peers']['gatewayd-strict']['throughput_ratio']} times as many requests a second without"
    )
    return found


def _aside(rounds: list[Round]) -> float | None:
    """CPU microseconds a request of what no request waits for."""
    requests = sum(each.outcome.requests for each in rounds)
    return round(sum(each.aside_ns for each in rounds) / 1000 / requests, 2) if requests else None


SCENARIOS = (Scenario("audited", "the same as keyed, with a record of every call", audited, lambda peers: 8),)
