"""Webhooks, with a server that checks signatures as Standard Webhooks has them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections import Counter

import pytest
from aiohttp import web

from gatewayd.collect import webhooks
from gatewayd.collect.alert_book import Alert, Change
from gatewayd.collect.finding import Contributor
from gatewayd.collect.webhooks import AT_ONCE, SCHEMA, Sender, payload, put, sign, wait_after
from gatewayd.config.alerts import Webhook
from gatewayd.core.clock import FakeClock
from gatewayd.core.tasks import spawn

from .alert_store import opened

KEY = bytes(range(32))
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
ALERT = Alert(
    "a1", 1_800_000_000, "rate", "consumer:acme", "warning", "acme made 9 calls", 1.0, 9.0,
    (Contributor("route", "claims", 9.0, 1.0, 1.0),),
)  # fmt: skip


class Receiver:
    """A server that writes down what it gets, and answers what it is told to, then 204."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.got = []
        self.elsewhere = 0
        self.waits, self.goes_on = asyncio.Event(), asyncio.Event()

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/hook", self.take)
        app.router.add_post("/elsewhere", self.taken)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *_):
        await self.runner.cleanup()

    async def take(self, request):
        self.got.append((dict(request.headers), await request.read()))
        answer = self.answers.pop(0) if self.answers else 204
        if answer == "wait":
            self.waits.set()
            await self.goes_on.wait()
            answer = 204
        if answer == "hang up":
            request.transport.abort()
            return web.Response()
        return web.Response(status=answer, headers={"Location": "/elsewhere"} if answer == 302 else None)

    async def taken(self, _):
        self.elsewhere += 1
        return web.Response()


class Outbox:
    """A store with deliveries in it, and a sender."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = FakeClock()
        self.open()

    def open(self):
        self.store = opened(self.folder)
        with self.store.cursor() as cursor:
            cursor.execute(SCHEMA)
        self.sender = Sender(self.store.cursor, self.clock)

    async def restart(self, **hooks):
        """As another process."""
        await self.close()
        self.open()
        self.sender.webhooks = hooks

    def put(self, *names, kind="opened"):
        with self.store.cursor() as cursor:
            return put(cursor, names, [Change(kind, ALERT)], self.clock.wall())

    def waiting(self):
        with self.store.cursor() as cursor:
            return cursor.execute("SELECT webhook, attempts, epoch(due) FROM deliveries ORDER BY made, id").fetchall()

    async def close(self):
        await self.sender.close()
        self.store.close()


def talk(tmp_path, receiver, scenario):
    """Run a scenario with a receiver and an outbox."""

    async def run():
        async with receiver:
            box = Outbox(tmp_path)
            try:
                await scenario(box, Webhook(receiver.url, SECRET, attempts=3))
            finally:
                await box.close()

    asyncio.run(run())


def test_a_message_is_signed_as_the_standard_says(tmp_path):
    receiver = Receiver()

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": hook}
        box.put("ops")
        assert await box.sender.round() == 1
        assert box.waiting() == []
        assert box.sender.sent["ops"] == 1

    talk(tmp_path, receiver, scenario)
    ((headers, body),) = receiver.got
    timestamp = headers["webhook-timestamp"]
    assert timestamp == "1800000000"
    signed = f"{headers['webhook-id']}.{timestamp}.".encode() + body
    digest = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"
    assert headers["webhook-id"].startswith("msg_")
    assert headers["Content-Type"] == "application/json"


def test_the_signature_of_the_standards_own_example():
    """https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    found = sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_a_message_says():
    found = json.loads(payload(Change("opened", ALERT), 1_800_000_100.5))
    assert (found["type"], found["timestamp"]) == ("alert.opened", "2027-01-15T08:01:40Z")
    assert found["data"]["contributors"] == [
        {"kind": "route", "name": "claims", "observed": 9.0, "baseline": 1.0, "share": 1.0}
    ]
    assert found["data"]["at"] == "2027-01-15T08:00:00Z"
    assert found["data"]["resolved_at"] is None


@pytest.mark.parametrize("answer", [500, 404, 302, "hang up"])
def test_what_fails_is_tried_again_later_with_the_same_id(tmp_path, answer):
    receiver = Receiver(answer)

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": hook}
        box.put("ops")
        assert await box.sender.round() == 0
        assert box.waiting() == [("ops", 1, box.clock.wall() + wait_after(1))]
        assert await box.sender.round() == 0
        assert len(receiver.got) == 1
        box.clock.advance(wait_after(1))
        assert await box.sender.round() == 1

    talk(tmp_path, receiver, scenario)
    (first, _), (second, _) = receiver.got
    assert first["webhook-id"] == second["webhook-id"]
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
    assert first["webhook-signature"] != second["webhook-signature"]
    assert receiver.elsewhere == 0


def test_who_does_not_answer_in_time_has_failed(tmp_path):
    receiver = Receiver()
    never = asyncio.Event()

    async def take(request):
        await never.wait()

    receiver.take = take

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": Webhook(hook.url, SECRET, timeout=0.05)}
        box.put("ops")
        assert await box.sender.round() == 0
        assert box.sender.failed["ops"] == 1
        never.set()

    talk(tmp_path, receiver, scenario)


def test_a_round_ends_when_told_to_and_nothing_has_failed(tmp_path):
    """Whoever takes minutes to answer holds no reload up."""
    receiver = Receiver("wait")

    async def scenario(box, hook):
        async with asyncio.timeout(60):
            box.sender.webhooks = {"ops": Webhook(hook.url, SECRET, timeout=86_400)}
            box.put("ops")
            round_ = spawn(box.sender.round(), "round")
            await receiver.waits.wait()
            box.sender.stop()
            assert await round_ == 0
            assert box.sender.failed["ops"] == 0
            assert box.waiting() == [("ops", 0, box.clock.wall())]
            receiver.goes_on.set()
            assert await box.sender.round() == 1

    talk(tmp_path, receiver, scenario)


def test_it_survives_a_restart(tmp_path):
    receiver = Receiver(503)

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": hook}
        box.put("ops")
        await box.sender.round()
        await box.restart(ops=hook)
        assert box.waiting() == [("ops", 1, box.clock.wall() + wait_after(1))]
        box.clock.advance(wait_after(1))
        assert await box.sender.round() == 1

    talk(tmp_path, receiver, scenario)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_it_gives_up_after_so_many_attempts(tmp_path, caplog):
    receiver = Receiver(500, 500, 500)

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": hook}
        box.put("ops")
        for _ in range(5):
            await box.sender.round()
            box.clock.advance(100_000)
        assert box.waiting() == []
        assert box.sender.given_up["ops"] == 1

    talk(tmp_path, receiver, scenario)
    assert len(receiver.got) == 3
    assert "given up" in caplog.text
    assert SECRET not in caplog.text
    assert receiver.url not in caplog.text


def test_whoever_is_gone_is_not_asked_again(tmp_path):
    receiver = Receiver(410)

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": hook}
        box.put("ops")
        await box.sender.round()
        assert box.waiting() == []

    talk(tmp_path, receiver, scenario)


def test_messages_keep_their_order_behind_one_that_fails(tmp_path):
    receiver = Receiver(500)

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": hook}
        changes = [Change(kind, ALERT) for kind in ("opened", "raised", "resolved")]
        with box.store.cursor() as cursor:
            put(cursor, ["ops"], changes, box.clock.wall())
        await box.sender.round()
        assert len(receiver.got) == 1
        box.clock.advance(wait_after(1) - 1)
        await box.sender.round()
        assert len(receiver.got) == 1
        box.clock.advance(1)
        assert await box.sender.round() == 3

    talk(tmp_path, receiver, scenario)
    kinds = [json.loads(body)["type"] for _, body in receiver.got]
    assert kinds == ["alert.opened", "alert.opened", "alert.raised", "alert.resolved"]


def test_one_webhook_does_not_wait_for_another(tmp_path):
    receiver = Receiver(500)

    async def scenario(box, hook):
        box.sender.webhooks = {"a": hook, "b": hook}
        box.put("a", "b")
        assert await box.sender.round() == 1
        assert len(box.waiting()) == 1

    talk(tmp_path, receiver, scenario)


def test_what_waits_is_bounded(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(webhooks, "_LIMIT", webhooks._LIMIT.replace(str(webhooks.MOST), "3"))
    receiver = Receiver()

    async def scenario(box, hook):
        given_up = Counter()
        for _ in range(5):
            given_up += box.put("ops")
            box.clock.advance(1)
        assert given_up == {"ops": 2}
        assert len(box.waiting()) == 3

    talk(tmp_path, receiver, scenario)
    assert "webhook ops: older messages given up, for further ones: 1" in caplog.text


def test_a_round_is_bounded(tmp_path):
    receiver = Receiver()

    async def scenario(box, hook):
        box.sender.webhooks = {"ops": hook}
        for _ in range(AT_ONCE + 3):
            box.put("ops")
        assert await box.sender.round() == AT_ONCE
        assert await box.sender.round() == 3

    talk(tmp_path, receiver, scenario)


def test_a_webhook_that_left_the_configuration_gets_nothing_more(tmp_path):
    receiver = Receiver()

    async def scenario(box, hook):
        box.put("gone")
        box.sender.webhooks = {"ops": hook}
        assert await box.sender.round() == 0
        assert box.waiting() == []

    talk(tmp_path, receiver, scenario)


def test_waits_grow_to_an_end():
    waits = [wait_after(attempts) for attempts in range(1, 20)]
    assert waits == sorted(waits)
    assert waits[-1] == waits[-2]
    assert sum(waits[:9]) > 86_400
