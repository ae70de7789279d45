"""Consumers in a build: made where there are some, let go of when nobody asks any more."""

from __future__ import annotations

import json
import os

import pytest

from gatewayd.config.load import decode
from gatewayd.core.arena import Arena
from gatewayd.core.policy import Hooks, NoConsumers
from gatewayd.errors import ConfigError
from gatewayd.gateway.build import Ground, build, verify
from tests.support.policies import install, policy

SIZE = 1 << 26


@pytest.fixture
def seen(monkeypatch):
    """The consumers that a policy was given at each build."""
    found = []
    install(monkeypatch, asking=policy(lambda config, context: found.append(context.consumers) or Hooks()))
    return found


def document(tmp_path=None, *names, **more):
    plain = {"policies": {"asking": {}}, **more}
    if tmp_path is not None:
        (tmp_path / "consumers.jsonl").write_text("".join(json.dumps({"id": name}) + "\n" for name in names))
        plain["identity"] = {"consumers_file": f"{tmp_path}/consumers.jsonl"}
    return decode(plain)


def test_policies_are_given_the_consumers(seen, tmp_path):
    snapshot = build(document(tmp_path, "acme", consumers={"own": {"name": "Own"}}), Ground(arena=Arena(size=SIZE)))
    assert (seen[0].by_id("acme").id, seen[0].by_id("own").name) == ("acme", "Own")
    assert seen[0] is snapshot.consumers


def test_without_consumers_nothing_is_made(seen):
    arena = Arena(size=SIZE)
    snapshot = build(document(), Ground(arena=arena))
    assert isinstance(seen[0], NoConsumers)
    assert snapshot.consumers is None
    snapshot.close()
    assert not list(arena._entries())


def test_a_build_that_fails_lets_go(seen, tmp_path):
    arena = Arena(size=SIZE)
    broken = document(
        tmp_path, "acme", routes={"a": {"path": "/{", "reply": {}}}, listeners={"http": {"address": ":1"}}
    )
    with pytest.raises(ConfigError):
        build(broken, Ground(arena=arena))
    assert not arena._held


def test_faults_of_consumers_stand_beside_others(seen, tmp_path):
    broken = document(
        tmp_path, "a", "a", routes={"a": {"path": "/{", "reply": {}}}, listeners={"http": {"address": ":1"}}
    )
    paths = {fault.path for fault in verify(broken)}
    assert {"consumers.a", "routes.a.path"} <= paths


def test_verifying_leaves_to_workers_what_they_need(seen, tmp_path, monkeypatch):
    descriptor = os.memfd_create("test")
    arena, wanted = Arena(descriptor, SIZE), document(tmp_path, "acme")
    assert verify(wanted, contents=arena) == []
    assert not arena._held
    monkeypatch.setattr("gatewayd.identity.consumer_source.make", None)
    assert build(wanted, Ground(arena=arena)).consumers.by_id("acme")


def test_verifying_without_shared_memory_leaves_nothing(seen, tmp_path):
    assert verify(document(tmp_path, "acme")) == []
    assert seen[0].by_id("acme")
