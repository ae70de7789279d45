from __future__ import annotations

import inspect

import pytest

from gatewayd.collect.part import Part
from gatewayd.config.model import Audit, Document, Gateway
from gatewayd.server import control_parts

MEMBERS = [name for name in vars(Part) if not name.startswith("_")]


def test_what_a_part_has():
    assert MEMBERS == ["routes", "operations", "families", "apply", "close"]


@pytest.mark.parametrize("member", MEMBERS)
def test_what_the_control_process_consists_of_are_parts(tmp_path, member):
    wanted = getattr(Part, member)
    document = Document(gateway=Gateway(state_dir=str(tmp_path)), audit=Audit(enabled=True))
    for part in control_parts.make(document, list):
        has = getattr(type(part), member)
        assert inspect.iscoroutinefunction(has) == inspect.iscoroutinefunction(wanted)
        assert len(inspect.signature(has).parameters) == len(inspect.signature(wanted).parameters)
