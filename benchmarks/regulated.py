"""The scenarios that ask who calls, how much they may, and what is served from memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from threading import Thread
from typing import Any
from urllib.request import urlopen

from benchmarks.cases import Result, Scenario, Step, compared, result_of
from benchmarks.credentials import Consumers, Tokens, make_consumers, make_tokens
from benchmarks.figures import Pair, check, spread
from benchmarks.generator import Ask
from benchmarks.harness import Harness, Target
from benchmarks.processes import StartError
from benchmarks.proxies import Proxy, Regulation, Setup, extra_paths
from benchmarks.rounds import HEADERS, Rounds, Traffic

ROUTES = 1000
USED = 2_000
"""Of the consumers so many call where they do so in turn."""
IN_TURN_ROUNDS = 3
"""Pairs of rounds in which connections are not one caller's each, as they are where callers connect themselves."""
WARM = 0.2
"""Seconds until load is under way."""
ANONYMOUS = HEADERS[:2]
"""What callers say who show another credential than the one in `HEADERS`."""
REFUSED = 0.9
EXHAUSTED = tuple([("/v1/quotes", "")] * 9 + [("/v1/policies/731", "")])
"""Nine of ten requests meet the limit that is used up."""
LIMITS = ("first", "second", "third", "fourth", "fifth")
BEHIND = ("partners", "pace", "monthly", "who")
"""What all routes have behind the policy that finds out who calls."""
BARS = {"keyed": 1.8, "jwt": 1.15, "unseen": 15.0, "cached": 1.0, "limited": 0.8, "limit": 2.5}
"""The greatest `cpu_ratio` to the peer named in the scenario; of `unseen` and `limit`: microseconds."""


def keyed(harness: Harness, step: Step) -> Result:
    """Who calls is told by an API key; then limits, quota, access rules and identity headers."""
    target = harness.target()
    consumers = consumers_of(harness)
    setup = Setup(target.port, harness.options.workers, ROUTES, regulation=keyed_regulation(consumers))
    proxies = _everyone(harness, setup)
    in_turn = with_keys(consumers)
    connections = in_turn.connections * harness.options.workers
    traffic = replace(in_turn, asks=in_turn.asks[:connections], sticky=True)
    comparison = compared(harness, target, step, proxies, traffic)
    found = result_of("keyed", harness, target, comparison, traffic)
    if "nginx" in found["peers"]:
        found["checks"].append(check("cpu_ratio to nginx", found["peers"]["nginx"]["cpu_ratio"], BARS["keyed"]))
        found |= _in_turn_as_well(harness, target, proxies, in_turn)
        said = found["in_turn"]["cpu_ratio"]
        found["remarks"].append(
            f"if every request is another caller's than the one before it, on any connection, of {USED:,} callers and "
            f"{ROUTES:,} routes: cpu_ratio to nginx {said}"
        )
    return found


def _in_turn_as_well(harness: Harness, target: Target, proxies: list[Proxy], traffic: Traffic) -> Result:
    """The worst case, as behind another proxy: nothing that was met a moment ago is of use. In fewer rounds."""
    comparison = Rounds(harness, target).compare(proxies[0], proxies[1:], traffic, IN_TURN_ROUNDS)
    found = result_of("keyed", harness, target, comparison, traffic)
    return {"in_turn": {"traffic": found["traffic"], "cpu_ratio": found["peers"]["nginx"]["cpu_ratio"]}}


def jwt(harness: Harness, step: Step) -> Result:
    """Who calls is told by a token; beside API keys, and beside a gatewayd that remembers no token."""
    target = harness.target()
    consumers = consumers_of(harness)
    folder = harness.new_folder("tokens")
    folder.mkdir()
    harness.say("signing tokens")
    tokens = make_tokens(folder, consumers.names[:USED])
    setup = Setup(target.port, harness.options.workers, ROUTES)
    values = {"consumers": consumers.listed, "jwks": tokens.jwks}
    subject, unseen = (
        harness.proxy(
            "gatewayd",
            replace(setup, regulation=Regulation("jwt", ("tokens", *BEHIND), values={**values, "remembered": number})),
            name,
        )
        for name, number in (("gatewayd", 10_000), ("gatewayd-unseen", 1))
    )
    keys = harness.proxy("gatewayd", replace(setup, regulation=keyed_regulation(consumers)), "gatewayd-keyed")
    traffic = _in_turn([f"Authorization: Bearer {token}" for token in tokens.tokens])
    raw = [_check_us(harness, target, tokens)]
    comparison = compared(harness, target, step, [subject, keys, unseen], traffic, {keys.name: with_keys(consumers)})
    raw.append(_check_us(harness, target, tokens))
    found = result_of("jwt", harness, target, comparison, traffic)
    more = [-each for each in differences(comparison.pairs[unseen.name])]
    found |= {
        "signature_check_us": round(median(raw), 2),
        "unseen_us": round(median(more), 2),
        "unseen_us_spread": spread(more, 2),
    }
    found["remarks"].append(
        f"a token that is not remembered costs {median(more):.1f} µs more, of which a bare RS256 check is "
        f"{median(raw):.1f} µs; every request of gatewayd-unseen is one, for it remembers one token of {USED:,}"
    )
    ratio_to_keys = found["peers"][keys.name]["cpu_ratio"]
    found["checks"] += [
        check("cpu_ratio of remembered tokens to API keys", ratio_to_keys, BARS["jwt"]),
        check(
            "µs of a token that is not remembered beyond the bare check of its signature",
            round(median(more) - median(raw), 2),
            BARS["unseen"],
        ),
    ]
    return found


def cached(harness: Harness, step: Step) -> Result:
    """Every reply comes from the cache."""
    target = harness.target()
    regulation = Regulation("cache", by_route={"public": ("cache",)})
    proxies = _everyone(harness, Setup(target.port, harness.options.workers, regulation=regulation))
    traffic = Traffic("/public/731")
    comparison = compared(harness, target, step, proxies, traffic)
    found = result_of("cached", harness, target, comparison, traffic)
    found["remarks"] += [f"{proxy.name}: the last reply was no hit" for proxy in proxies if not _is_hit(proxy)]
    if "nginx" in found["peers"]:
        found["checks"].append(check("cpu_ratio to nginx", found["peers"]["nginx"]["cpu_ratio"], BARS["cached"]))
    return found


def limited(harness: Harness, step: Step) -> Result:
    """Nine of ten requests are refused by a rate limit, beside gatewayd that refuses none of them."""
    target = harness.target()
    setup = Setup(target.port, harness.options.workers)
    regulation = Regulation("limited", by_route={"quotes": ("tight",), "policy": ("wide",)})
    subject = harness.proxy("gatewayd", replace(setup, regulation=regulation))
    bare = harness.proxy("gatewayd", setup, "gatewayd-bare")
    traffic = Traffic(asks=EXHAUSTED, refused=REFUSED)
    comparison = compared(harness, target, step, [subject, bare], traffic, {bare.name: replace(traffic, refused=0.0)})
    found = result_of("limited", harness, target, comparison, traffic)
    ratio_to_bare = found["peers"][bare.name]["cpu_ratio"]
    found["checks"].append(check("cpu_ratio of 90 % refused to none", ratio_to_bare, BARS["limited"]))
    return found


def limit_cost(harness: Harness, step: Step) -> Result:
    """gatewayd with five rate limits on the route beside gatewayd with one."""
    target = harness.target()
    setup = Setup(target.port, harness.options.workers)
    subject = harness.proxy("gatewayd", replace(setup, regulation=Regulation("limits", LIMITS)))
    one = harness.proxy("gatewayd", replace(setup, regulation=Regulation("limits", LIMITS[:1])), "gatewayd-1-limit")
    traffic = Traffic()
    comparison = compared(harness, target, step, [subject, one], traffic)
    found = result_of("limit-cost", harness, target, comparison, traffic)
    each = [difference / (len(LIMITS) - 1) for difference in differences(comparison.pairs[one.name])]
    found |= {"us_per_limit": round(median(each), 2), "us_per_limit_spread": spread(each, 2)}
    found["checks"].append(check("µs of one more rate limit", found["us_per_limit"], BARS["limit"]))
    return found


def _check_us(harness: Harness, target: Target, tokens: Tokens) -> float:
    """CPU microseconds of a bare signature check, while load and upstream are as busy as in a round."""
    harness.say("checking signatures")
    direct = Proxy("upstream", target.port, Setup(target.port, harness.options.workers), [])
    busy = Thread(target=Rounds(harness, target).once, args=(direct, Traffic()))
    busy.start()
    time.sleep(WARM)
    found = [tokens.check_us(harness.layout.proxy)]
    while busy.is_alive():
        found.append(tokens.check_us(harness.layout.proxy))
    busy.join()
    return median(found[:-1] or found)


# -- what they need ----------------------------------------------------------------------------------------------------


def consumers_of(harness: Harness) -> Consumers:
    """10,000 consumers with an API key each, in a folder of the harness."""
    folder = harness.new_folder("consumers")
    folder.mkdir()
    harness.say("making consumers and their keys")
    return make_consumers(folder)


def keyed_regulation(consumers: Consumers) -> Regulation:
    """What `keyed` has a proxy do."""
    values: dict[str, Any] = {"pepper": consumers.pepper, "consumers": consumers.listed, "keys": consumers.map}
    return Regulation("keyed", ("keys", *BEHIND), values=values)


def with_keys(consumers: Consumers) -> Traffic:
    """Requests of one consumer after the other."""
    return _in_turn([f"X-Api-Key: {key}" for key in consumers.keys[:USED]])


def _in_turn(credentials: Sequence[str]) -> Traffic:
    """Requests with one credential after the other, over all routes."""
    paths = extra_paths(ROUTES)
    asks: list[Ask] = [(f"{paths[index % ROUTES]}/{index}", credential) for index, credential in enumerate(credentials)]
    return Traffic(base=ANONYMOUS, asks=tuple(asks))


def _everyone(harness: Harness, setup: Setup) -> list[Proxy]:
    """gatewayd, and nginx if it is asked for: the one peer that has a configuration of its own for this."""
    found = [harness.proxy("gatewayd", setup)]
    if "nginx" in harness.peers():
        try:
            found.append(harness.proxy("nginx", setup))
        except StartError as error:
            harness.skipped["nginx"] = str(error)
    return found


def differences(pairs: Sequence[Pair]) -> list[float]:
    """By how many CPU microseconds a request the subject's rounds cost more than those beside them."""
    both = [(ours.cpu_us_per_request, theirs.cpu_us_per_request) for ours, theirs in pairs]
    return [ours - theirs for ours, theirs in both if ours is not None and theirs is not None]


def _is_hit(proxy: Proxy) -> bool:
    """Whether the proxy says that its reply came from its cache."""
    with urlopen(proxy.url("/public/731"), timeout=10) as reply:
        said = reply.headers.get("Cache-Status", "") + reply.headers.get("X-Cache-Status", "")
    return "hit" in said.lower()


def _two(peers: int) -> int:
    return 2


SCENARIOS = (
    Scenario("keyed", "API keys of 10,000 consumers, 1,000 routes, limits, quota, access rules", keyed, _two),
    Scenario("jwt", "tokens signed with RS256 instead of API keys", jwt, lambda peers: 4),
    Scenario("cached", "replies of 541 bytes from the cache", cached, _two),
    Scenario("limited", "90 % of requests answered 429", limited, _two),
    Scenario("limit-cost", "four more rate limits on a route", limit_cost, _two),
)
