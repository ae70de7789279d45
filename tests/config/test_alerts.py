"""What may be said of alerts."""

from __future__ import annotations

import pytest

from gatewayd.config.alerts import Alerts, Webhook
from gatewayd.config.check import check
from gatewayd.config.convert import convert_table
from gatewayd.config.model import Document

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def faults(table):
    """Where what is wrong with a table `[alerts]`."""
    return [fault.path for fault in convert_table(Alerts, table, "alerts")[1]]


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ({"intervall": "1m"}, "alerts.intervall"),
        ({"interval": "0s"}, "alerts.interval"),
        ({"weeks": 1}, "alerts.weeks"),
        ({"holidays": ["25.12.2026"]}, "alerts.holidays[0]"),
        ({"seasonal": {"score": 1}}, "alerts.seasonal.score"),
        ({"bursts": {"failed": 1.5}}, "alerts.bursts.failed"),
        ({"enumeration": {"times": 1}}, "alerts.enumeration.times"),
        ({"webhooks": {"ops": {"url": "ftp://x", "secret": SECRET}}}, "alerts.webhooks.ops.url"),
        ({"webhooks": {"ops": {"url": "https://x/ y", "secret": SECRET}}}, "alerts.webhooks.ops.url"),
        ({"webhooks": {"ops": {"url": "https://x"}}}, "alerts.webhooks.ops.secret"),
        ({"webhooks": {"ops": {"url": "https://x", "secret": "hunter2"}}}, "alerts.webhooks.ops.secret"),
        ({"webhooks": {"ops": {"url": "https://x", "secret": "whsec_c2hvcnQ="}}}, "alerts.webhooks.ops.secret"),
    ],
)
def test_what_is_wrong(table, path):
    assert faults(table) == [path]


def test_what_is_right():
    assert not faults({"holidays": ["2026-12-25"], "webhooks": {"ops": {"url": "https://x", "secret": SECRET}}})


def test_zones_and_days_must_exist():
    document = Document(alerts=Alerts(time_zone="Europe/Atlantis", holidays=["2026-02-28", "2026-02-31"]))
    found = {fault.path for fault in check(document)}
    assert {"alerts.time_zone", "alerts.holidays[1]"} <= found
    assert "alerts.holidays[0]" not in found


def test_a_webhook_shows_nothing_of_itself():
    assert repr(Webhook("https://user:pw@x/token", SECRET)) == "<Webhook>"
    assert "token" not in repr(Alerts(webhooks={"ops": Webhook("https://x/token", SECRET)}))
