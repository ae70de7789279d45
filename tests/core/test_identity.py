"""Who calls, as values."""

from __future__ import annotations

import dataclasses

import pytest

from gatewayd.core.identity import Consumer, Identity


def test_an_identity_cannot_be_changed_behind_its_policy():
    identity = Identity(Consumer("acme", plan="gold"), "api_key", "key-7")
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.consumer = Consumer("other")  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        identity.consumer.plan = "none"  # type: ignore[misc]


def test_what_is_not_said_is_nothing():
    identity = Identity(Consumer("acme"), "api_key")
    assert (identity.scopes, dict(identity.claims), identity.credential) == (frozenset(), {}, "")
    assert (identity.consumer.groups, identity.consumer.plan, dict(identity.consumer.labels)) == (frozenset(), "", {})
    assert Identity(Consumer("a"), "m").claims is not Identity(Consumer("a"), "m").claims
