"""What is kept back of the files a process may open."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from gatewayd.core import descriptors


@pytest.mark.parametrize(
    ("limit", "callers", "targets"),
    [
        (64, 47, 55),
        (1024, 767, 991),
        (20_000, 19_743, 19_967),
        (resource.RLIM_INFINITY, sys.maxsize - 257, sys.maxsize - 33),
    ],
)
def test_a_part_is_kept_back(monkeypatch, limit, callers, targets):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, resource.RLIM_INFINITY))
    assert descriptors.last_for_callers() == callers
    assert descriptors.last_for_targets() == targets


def test_targets_may_have_more_than_callers():
    assert descriptors.last_for_callers() < descriptors.last_for_targets()


@pytest.mark.parametrize("closed", [(1,), (0, 1), (0, 1, 2)])
def test_closed_standard_streams_are_filled(closed):
    """In a process of its own: what is opened next must not be taken for stdout."""
    script = (
        "import os\n"
        "from gatewayd.core.descriptors import fill_standard\n"
        f"for descriptor in {closed}: os.close(descriptor)\n"
        "fill_standard()\n"
        f"assert all(os.readlink(f'/proc/self/fd/{{each}}') == '/dev/null' for each in {closed})\n"
        f"assert all(os.get_inheritable(each) for each in {closed})\n"
        "assert os.open('.', 0) > 2\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdin=subprocess.DEVNULL)
