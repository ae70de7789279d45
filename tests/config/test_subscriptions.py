"""Plans that consumers name and nobody has configured."""

from __future__ import annotations

import json

from gatewayd.config.consumers import Consumer
from gatewayd.config.model import Document, Identity, Plan
from gatewayd.config.subscriptions import MOST, planless

PLANS = {"gold": Plan(), "silver": Plan()}


def listed(tmp_path, *lines, plans=PLANS, **consumers):
    """What is said of a file of these lines."""
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    (tmp_path / "consumers.jsonl").write_text(text)
    return planless(Document(identity=Identity(consumers_file=f"{tmp_path}/consumers.jsonl"), plans=plans, **consumers))


def test_consumers_of_the_configuration():
    consumers = {"ann": Consumer(plan="gold"), "bert": Consumer(plan="glod"), "carl": Consumer()}
    (found,) = planless(Document(consumers=consumers, plans=PLANS), lambda path: (path, 3))
    assert (found.path, found.hint, found.line) == ("consumers.bert.plan", 'did you mean "gold"?', 3)


def test_without_any_plan_names_may_be_for_targets():
    assert planless(Document(consumers={"ann": Consumer(plan="gold")})) == []


def test_consumers_of_the_file_are_counted_by_plan(tmp_path):
    found = listed(
        tmp_path,
        {"id": "a", "plan": "gold"},
        "\n",
        {"id": "b", "plan": "sliver", "keys": []},
        {"id": "c"},
        {"id": "d", "plan": "sliver"},
        {"id": "e", "plan": "x"},
    )
    assert [(each.line, each.path, each.found, each.hint) for each in found] == [
        (3, "consumers.b.plan", "sliver", 'did you mean "silver"?'),
        (6, "consumers.e.plan", "x", ""),
    ]
    assert found[0].message.endswith("this consumer and 1 more")
    assert found[1].message.endswith("this consumer")


def test_however_many_names_some_are_told(tmp_path):
    assert len(listed(tmp_path, *({"id": f"c{n}", "plan": f"p{n}"} for n in range(3 * MOST)))) == MOST


def test_a_file_that_is_another_one_by_now(tmp_path):
    assert listed(tmp_path, "{") == []
    (tmp_path / "consumers.jsonl").unlink()
    assert planless(Document(identity=Identity(consumers_file=f"{tmp_path}/consumers.jsonl"), plans=PLANS)) == []
