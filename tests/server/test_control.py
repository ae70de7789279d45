"""The control listener, with a supervisor that says what a test wants it to."""

from __future__ import annotations

import asyncio
import re
import socket

import aiohttp
import msgspec
import pytest
from aiohttp import web

from gatewayd.audit.actions import user
from gatewayd.errors import ConfigError, Fault
from gatewayd.observe import metrics
from gatewayd.server import control as module
from gatewayd.server.channel import Channel, ChannelError, Observe, Ready, Reload, Status, Tell
from gatewayd.server.control import Control, actor_of, trusted_host

STATUS = {
    "version": "1.2.3",
    "ready": True,
    "generation": 4,
    "started": 1.0,
    "reloads": {},
    "workers": [],
    "parts": [0],
}
FAULT = Fault("routes.a", "is wrong", "1", "2", "try 2", "conf.toml", 7)


class Supervisor:
    """The other end: `answers` maps a kind of message to what is said, or raised."""

    def __init__(self):
        self.answers = {
            Ready: {"ready": True, "state": "serving", "generation": 4},
            Status: STATUS,
            Reload: {"generation": 5},
        }

        self.heard = []

    async def serve(self, message, socks):
        if isinstance(message, Tell):
            self.heard.append(message)
        answer = self.answers[type(message)]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
        return msgspec.json.encode(answer)


def play(scenario, address="127.0.0.1:0"):
    """Run `scenario(supervisor, request)`; `request` gives a reply's status, JSON and headers."""

    async def run():
        ours, theirs = socket.socketpair()
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        supervisor = Supervisor()
        control = Control(memoryview(bytearray(metrics.size_bytes(1))))
        running = asyncio.ensure_future(control.run(theirs, listening))
        await asyncio.sleep(0)
        channel = Channel(ours, supervisor.serve)

        async def request(method, path, data=None, **headers):
            async with session.request(method, f"http://127.0.0.1:{port}{path}", data=data, headers=headers) as reply:
                body = await reply.read()
                found = msgspec.json.decode(body) if reply.content_type == "application/json" else body.decode()
                return reply.status, found, reply.headers

        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            await channel.call(Observe(address, {"(other)": 0}))
            result = await scenario(supervisor, request)
            with pytest.raises(ChannelError):
                await channel.call(Status())
        channel.close()
        await running  # hanging up ends it
        return result

    return asyncio.run(run())


def test_probes():
    async def scenario(supervisor, request):
        assert (await request("GET", "/livez"))[:2] == (200, {"alive": True})
        assert (await request("GET", "/readyz"))[:2] == (200, supervisor.answers[Ready])
        supervisor.answers[Ready] = {"ready": False, "state": "draining", "generation": 4}
        assert (await request("GET", "/livez"))[0] == 200
        return (await request("GET", "/readyz"))[:2]

    assert play(scenario) == (503, {"ready": False, "state": "draining", "generation": 4})


def test_a_supervisor_that_does_not_answer_is_neither_alive_nor_ready(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.05)

    async def scenario(supervisor, request):
        supervisor.answers[Ready] = never = asyncio.Event()
        stuck = [(await request("GET", path))[0] for path in ("/livez", "/readyz")]
        never.set()
        supervisor.answers[Ready] = RuntimeError("broken")
        return stuck, (await request("GET", "/readyz"))[:2]

    stuck, broken = play(scenario)
    assert stuck == [503, 503]
    assert broken == (503, {"error": "the supervisor does not answer: RuntimeError: broken"})


def test_status_and_metrics():
    async def scenario(supervisor, request):
        assert (await request("GET", "/status"))[:2] == (200, STATUS)
        return await request("GET", "/metrics")

    status, page, headers = play(scenario)
    assert status == 200
    assert "gatewayd_generation 4.0" in page
    assert headers["Content-Type"].startswith("text/plain; version=")


def test_reload_and_its_faults():
    async def scenario(supervisor, request):
        assert (await request("POST", "/reload"))[:2] == (200, {"generation": 5})
        supervisor.answers[Reload] = ConfigError([FAULT])
        return (await request("POST", "/reload"))[:2]

    status, found = play(scenario)
    assert status == 422
    assert [Fault(**each) for each in found["faults"]] == [FAULT]


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": "evil.example:9901"}, {"Origin": "http://127.0.0.1"}]
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/reload"), ("GET", "/usage?consumer=a"), ("GET", "/v1/logs"), ("GET", "/%761/logs")]
)
def test_web_pages_reload_nothing_and_read_nothing_of_anybody(headers, method, path):
    async def scenario(supervisor, request):
        supervisor.answers.clear()  # not to be asked
        return await request(method, path, **headers)

    assert play(scenario)[0] == 403


def test_probes_and_metrics_are_for_everybody():
    async def scenario(supervisor, request):
        return await request("GET", "/readyz", Host="gateway.example")

    assert play(scenario)[0] == 200


def purging(body, content_type="application/json", **headers):
    """What becomes of an order to purge, and what the supervisor heard."""

    async def scenario(supervisor, request):
        supervisor.answers[Tell] = [2, 0, 1]
        return (await request("POST", "/cache/purge", body, **{"Content-Type": content_type, **headers}))[
            :2
        ], supervisor

    found, supervisor = play(scenario)
    return found, supervisor.heard


def test_purging_tells_all_workers():
    found, heard = purging(b'{"kind":"tag","value":"a"}')
    assert found == (200, {"purged": 3})
    (told,) = heard
    assert (told.topic, told.body) == ("cache/purge", b'{"kind":"tag","value":"a"}')
    assert re.fullmatch(r"127\.0\.0\.1:\d+", told.actor)


def test_who_asks_at_a_unix_socket_is_a_user(tmp_path):
    async def answer(request):
        return web.Response(text=actor_of(request))

    async def run():
        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, f"{tmp_path}/s").start()
        connector = aiohttp.UnixConnector(f"{tmp_path}/s")
        async with aiohttp.ClientSession(connector=connector) as session, session.get("http://localhost/") as reply:
            found = await reply.text()
        await runner.cleanup()
        return found

    assert asyncio.run(run()) == user()


@pytest.mark.parametrize(("said", "expected"), [([None, {"limits": []}], (200, {"limits": []})), ([None], (404, None))])
def test_what_a_consumer_has_used_is_what_the_first_who_knows_says(said, expected):
    async def scenario(supervisor, request):
        supervisor.answers[Tell] = said
        status, body, _ = await request("GET", "/usage?consumer=b%C3%A4r")
        return (status, body if status == 200 else None), supervisor.heard

    assert play(scenario) == (expected, [Tell("usage", "bär".encode())])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"kind":"all"}', {"content_type": "text/plain"}, 415),
        (b'{"kind":"all"}', {"content_type": "application/x-www-form-urlencoded"}, 415),
        (b'{"kind":"all"}', {"Origin": "http://127.0.0.1"}, 403),
        (b'{"kind":"all"}', {"Host": "evil.example"}, 403),
        (b'{"kind":"all","value":"x"}', {}, 400),
        (b'{"kind":"url"}', {}, 400),
        (b'{"kind":"colour","value":"red"}', {}, 400),
        (b'{"kind":"all","more":1}', {}, 400),
        (b"nonsense", {}, 400),
    ],
)
def test_other_orders_purge_nothing(body, headers, status):
    found, heard = purging(body, **headers)
    assert found[0] == status
    assert heard == []


def test_errors_are_json_and_nobody_says_which_library_this_is():
    async def scenario(supervisor, request):
        return await request("GET", "/nothing"), await request("GET", "/reload")

    missing, wrong_method = play(scenario)
    assert missing[:2] == (404, {"error": "404: Not Found"})
    assert wrong_method[0] == 405
    assert wrong_method[2]["Allow"] == "POST"
    assert {missing[2]["Server"], wrong_method[2]["Server"]} == {"gatewayd"}


@pytest.mark.parametrize("host", ["localhost", "localhost:9901", "127.0.0.1:9901", "127.9.9.9", "[::1]:9901"])
@pytest.mark.parametrize("configured", ["127.0.0.1:9901", "0.0.0.0:9901", "unix:/run/control.sock"])
def test_this_machine_is_trusted(host, configured):
    assert trusted_host(host, configured)


@pytest.mark.parametrize(
    ("host", "configured", "trusted"),
    [
        ("10.0.0.5:9901", "10.0.0.5:9901", True),
        ("10.0.0.6:9901", "0.0.0.0:9901", True),
        ("[2001:db8::1]", "[::]:9901", True),
        ("gateway.internal", "gateway.internal:9901", True),
        ("GATEWAY.internal:1", "gateway.internal:9901", True),
        ("localhost.evil.example", "127.0.0.1:9901", False),
        ("127.0.0.1.evil.example", "127.0.0.1:9901", False),
        ("evil.example", "unix:/run/control.sock", False),
        ("", "unix:/run/control.sock", False),
        ("[::1", "127.0.0.1:9901", False),
        ("localhost", "nonsense", False),
    ],
)
def test_other_names_only_if_configured(host, configured, trusted):
    assert trusted_host(host, configured) is trusted
