"""What detectors stand on: veiled names, and how long consumers are known."""

from __future__ import annotations

from gatewayd.collect.ground import _LIFTED, Veil

from .alert_store import DAY, HOUR, MONDAY, add_hour, ground_of, opened


def test_a_veil_hides_and_keeps_apart():
    veil = Veil()
    assert veil("192.0.2.1") == veil("192.0.2.1") != veil("192.0.2.2")
    assert "192" not in veil("192.0.2.1")
    assert veil("192.0.2.1") != Veil()("192.0.2.1")


def test_only_the_last_can_be_lifted():
    veil = Veil()
    first = veil("first")
    assert veil.lift(first) == "first"
    for number in range(_LIFTED):
        veil(str(number))
    assert veil.lift(first) == ""


def test_how_long_a_consumer_is_known(tmp_path):
    store = opened(tmp_path)
    ground = ground_of(store)
    assert ground.age("acme", MONDAY) == 0
    add_hour(ground.cursor, MONDAY - DAY, 3)
    ground.usual.fill(MONDAY - 2 * DAY, MONDAY)
    assert ground.age("acme", MONDAY) == DAY
    assert ground.age("acme", MONDAY + HOUR) == DAY + HOUR
    ground.cursor.close()
    store.close()
