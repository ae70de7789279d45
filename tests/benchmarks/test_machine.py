"""Which cores do what, and what is told of the machine."""

from __future__ import annotations

import os

import pytest

from benchmarks.machine import allowed_cores, describe_machine, layout


@pytest.mark.parametrize(
    ("cores", "workers", "proxy", "load", "upstream", "separate"),
    [
        (1, 1, 1, 1, 1, False),
        (2, 1, 1, 1, 1, False),
        (2, 2, 1, 1, 1, False),
        (3, 1, 1, 1, 1, True),
        (4, 1, 1, 1, 1, True),
        (4, 2, 2, 1, 1, True),
        (4, 4, 3, 1, 1, False),
        (16, 1, 1, 1, 1, True),
        (16, 8, 8, 4, 4, True),
        (16, 16, 12, 2, 2, False),
        (64, 8, 8, 8, 4, True),
    ],
)
def test_cores_are_dealt_out(cores, workers, proxy, load, upstream, separate):
    dealt = layout(range(cores), workers)
    assert (len(dealt.proxy), len(dealt.load), len(dealt.upstream)) == (proxy, load, upstream)
    assert dealt.separate is separate


@pytest.mark.parametrize("cores", range(2, 40))
@pytest.mark.parametrize("workers", [1, 2, 3, 8, 40])
def test_the_proxy_never_shares_a_core_with_the_rest(cores, workers):
    dealt = layout(range(cores), workers)
    assert dealt.load
    assert dealt.upstream
    assert not set(dealt.proxy) & (set(dealt.load) | set(dealt.upstream))


def test_a_single_core_is_shared_by_all_and_said_so():
    dealt = layout([5], 2)
    assert dealt.proxy == dealt.load == dealt.upstream == (5,)
    assert dealt.describe() == "proxy, load and upstream share core 5"


def test_too_many_workers_are_told():
    assert layout([0, 1], 2).describe() == "proxy on core 0 (2 workers share it), load and upstream share core 1"


def test_one_worker_beside_many_gets_one_core():
    dealt = layout(range(16), 8)
    assert dealt.for_workers(1) == (0,)
    assert dealt.for_workers(8) == tuple(range(8))


def test_allowed_cores_are_all_of_them_once():
    assert sorted(allowed_cores()) == sorted(os.sched_getaffinity(0))


def test_the_machine_is_described_without_its_folders():
    told = describe_machine(["--scenario", "bare"])
    assert told["command"] == "./scripts/bench --scenario bare"
    assert {"python", "gatewayd", "uvloop"} <= told["versions"].keys()
    assert os.getcwd() not in str(told)
