from __future__ import annotations

import pytest

from gatewayd.config.collector import Collector
from gatewayd.config.load import load
from gatewayd.errors import ConfigError
from gatewayd.gateway.chains import CONFIGS

ROUTE = """
[listeners.http]
address = "127.0.0.1:0"
[upstreams.a]
targets = [{ address = "127.0.0.1:9000" }]
[services.a]
upstream = "a"
[routes.a]
path = "/"
service = "a"
"""


def loaded(tmp_path, text):
    """The section of a configuration that has this `[collector]`."""
    (tmp_path / "conf.toml").write_text(ROUTE + text)
    return load(tmp_path / "conf.toml", {}, CONFIGS).document.collector


def test_it_collects_without_being_told(tmp_path):
    assert loaded(tmp_path, "") == Collector()
    assert Collector().enabled


def test_finer_sums_are_kept_for_less_long():
    kept = [getattr(Collector(), f"keep_{tier}") for tier in ("10s", "1m", "1h", "1d")]
    assert kept == sorted(kept)


def test_what_is_kept_for_ever(tmp_path):
    assert loaded(tmp_path, '[collector]\nkeep_calls = "0s"\nmemory = "1GiB"') == Collector(
        keep_calls=0.0, memory=2**30
    )


@pytest.mark.parametrize("wrong", ['interval = "0s"', "memory = 0", 'keep_1m = "-1s"', "keep = 1"])
def test_what_it_is_not(tmp_path, wrong):
    with pytest.raises(ConfigError, match=r"collector\."):
        loaded(tmp_path, f"[collector]\n{wrong}")
