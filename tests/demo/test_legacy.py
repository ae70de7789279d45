"""Legacy: slow, XML, ISO 8859-1, closes every connection."""

from __future__ import annotations

from xml.etree import ElementTree

from gatewayd.demo import legacy

from .call import with_service


def ask(monkeypatch, query: str):
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(legacy.asyncio, "sleep", sleep)

    async def talk(client):
        reply = await client.get(f"/legacy/POLINQ?{query}")
        return ElementTree.fromstring(await reply.read()), reply.headers, waited

    return with_service(legacy.make_app(), talk)


def test_an_inquiry(monkeypatch):
    record, headers, waited = ask(monkeypatch, "POLNO=000123")
    assert {child.tag: child.text for child in record}["INSNAME"] == "NOOR ROSSI"
    assert headers["Content-Type"] == "text/xml; charset=ISO-8859-1"
    assert headers["Connection"] == "close"
    assert legacy.seconds(123) in waited


def test_a_policy_not_on_file_is_a_record_too(monkeypatch):
    record, _, _ = ask(monkeypatch, "POLNO=x")
    assert record.findtext("RETCODE") == "08"


def test_an_answer_takes_one_to_three_seconds():
    taken = [legacy.seconds(number) for number in range(500)]
    assert 1 <= min(taken) < 1.1
    assert 2.9 < max(taken) <= 3
