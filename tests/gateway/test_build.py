"""From a document to a snapshot: everything wrong at once and in its place, and what is shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gatewayd.config.faults import placed
from gatewayd.config.load import decode, load
from gatewayd.core.clock import FakeClock
from gatewayd.errors import ConfigError, Fault
from gatewayd.gateway.build import Ground, below, build, verify
from gatewayd.gateway.chains import CONFIGS
from gatewayd.gateway.router import Miss
from gatewayd.gateway.snapshot import Snapshot
from tests.support.exchanges import make_exchange
from tests.wire.certificates import Authority

HEAD = """
[listeners.http]
address = "127.0.0.1:8080"
[upstreams.up]
targets = [{ address = "127.0.0.1:9000" }]
[services.api]
upstream = "up"
"""


def faults_of(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """What a build says to a file that the loader has nothing against; places as `line: key: message`."""
    path = folder / "conf.toml"
    path.write_text(HEAD.strip() + "\n" + text.strip() + "\n")
    loaded = load(path, environ or {}, CONFIGS)
    found = placed(verify(loaded.document, loaded.locate), (), loaded.locate)
    return [str(fault).removeprefix(f"{path}:") for fault in found]


def built(**parts: Any) -> Snapshot:
    """The snapshot of a small document with these parts instead."""
    raw: dict[str, Any] = {
        "listeners": {"http": {"address": "127.0.0.1:8080"}},
        "upstreams": {"up": {"targets": [{"address": "127.0.0.1:9000"}]}},
        "services": {"api": {"upstream": "up"}},
        "routes": {"all": {"path": "/*", "service": "api"}},
    }
    return build(decode(raw | parts), Ground(FakeClock(), Random(1)), 7)


def matched(snapshot: Snapshot, listener: str = "http", **attributes: Any) -> str | Miss:
    """The name of the route that a request gets, or the miss."""
    found = snapshot.routers[listener].match(make_exchange(**attributes))
    return found if isinstance(found, Miss) else found.name


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_signature_key_that_checks_nothing_is_named_where_it_stands(tmp_path):
    text = """
[[consumers.acme.signatures]]
keyid = "i"
algorithm = "ed25519"
key = "geheim"
"""
    assert faults_of(tmp_path, text) == [
        "10: consumers.acme.signatures[0].key: ed25519 cannot use it: not a public key in PEM form"
    ]


BROKEN = """
[routes.first]
path = "/v1/{id}"
service = "api"
[routes.shadowed]
path = "/v1/{name}"
service = "api"
[routes.strip]
path = "/v2/{version}/x"
service = "api"
strip_prefix = "/v2"
[routes.template]
path = "/v3/{id"
service = "api"
[routes.answered]
path = "/v4"
redirect = { to = "{nothing}" }
[routes.guarded]
path = "/v5"
service = "api"
policies = ["offices"]
[policies.offices]
policy = "ip_restriction"
allow = ["192.0.2.0/24"]
deny = ["192.0.2.7/24", "x"]
[policies.pages]
policy = "cors"
origins = ["https://*", "nonsense"]
"""


def test_all_that_is_wrong_is_said_at_once_and_where(tmp_path):
    found = faults_of(tmp_path, BROKEN)
    lines = (HEAD.strip() + "\n" + BROKEN.strip()).splitlines()
    places = {}
    for fault in found:
        line, key, message = fault.split(": ", 2)
        places[key] = lines[int(line) - 1], message
    assert places.keys() == {
        "routes.shadowed.path",
        "routes.template.path",
        "routes.answered.redirect.to",
        "policies.offices.deny[0]",
        "policies.offices.deny[1]",
        "policies.pages.origins[0]",
        "policies.pages.origins[1]",
    }
    assert places["routes.shadowed.path"][0] == 'path = "/v1/{name}"'
    assert "route first takes the same requests" in places["routes.shadowed.path"][1]
    assert places["policies.offices.deny[1]"][0] == 'deny = ["192.0.2.7/24", "x"]'
    assert len(found) == len(places)


def test_a_route_that_nothing_answers_is_looked_at_all_the_same():
    """Its service may have a fault of its own, which is said elsewhere."""
    routes = {
        "lost": {"path": "/{id", "service": "gone"},
        "there": {"path": "/x", "redirect": {"to": "nowhere"}},
        "again": {"path": "/x", "service": "api"},
    }
    with pytest.raises(ConfigError) as raised:
        built(routes=routes)
    assert [fault.path for fault in raised.value.faults] == [
        "routes.there.redirect.to",
        "routes.lost.path",
        "routes.again.path",
    ]


def test_without_a_sound_listener_routes_are_looked_at_too():
    with pytest.raises(ConfigError) as raised:
        built(listeners={}, routes={"lost": {"path": "/{id", "service": "api"}})
    assert [fault.path for fault in raised.value.faults] == ["routes.lost.path"]


def test_a_prefix_that_the_path_has_in_a_parameter_cannot_be_stripped():
    routes = {"all": {"path": "/{tenant}/x", "service": "api", "strip_prefix": "/{tenant}"}}
    with pytest.raises(ConfigError) as caught:
        built(routes=routes)
    assert [fault.path for fault in caught.value.faults] == ["routes.all.strip_prefix"]


@pytest.mark.parametrize(
    ("path", "prefix", "fits"),
    [
        ("/v1/x", "/v1", True),
        ("/v1/x", "/v1/", True),
        ("/v1", "/v1", True),
        ("/v1/*", "/v1", True),
        ("/v1/{id}", "/v1", True),
        ("/v10", "/v1", False),
        ("/*", "/v1", False),
        ("/v1/{id}/x", "/v1/{id}", False),
    ],
)
def test_prefixes_that_can_be_stripped(path, prefix, fits):
    routes = {"all": {"path": path, "service": "api", "strip_prefix": prefix}}
    if fits:
        assert built(routes=routes).routes.keys() == {"all"}
    else:
        with pytest.raises(ConfigError):
            built(routes=routes)


def test_certificates_that_cannot_be_read(tmp_path):
    tls = f'tls = {{ certificates = [{{ cert = "{tmp_path}/no.crt", key = "{tmp_path}/no.key" }}] }}'
    document = decode(
        {
            "listeners": {
                "https": {"address": "a:1", "tls": {"certificates": [{"cert": "/no.crt", "key": "/no.key"}]}}
            },
            "upstreams": {"up": {"targets": [{"address": "a:1"}], "tls": {"ca": "/no-ca", "cert": "/no-cert"}}},
        }
    )
    paths = [fault.path for fault in verify(document)]
    assert paths[:2] == ["upstreams.up.tls.ca", "upstreams.up.tls.cert"]
    assert "listeners.https.tls.certificates[0].cert" in paths
    with pytest.raises(ConfigError, match="cannot be read"):
        faults_of(tmp_path, f'[listeners.https]\naddress = "127.0.0.1:8443"\n{tls}')


def test_a_listener_without_names_for_its_certificates(tmp_path):
    ca = Authority(tmp_path)
    first, nameless = ca.issue("a.example"), ca.issue(common="nobody")
    pairs = ", ".join(f'{{ cert = "{each.cert}", key = "{each.key}" }}' for each in (first, nameless))
    text = f'[listeners.https]\naddress = "127.0.0.1:8443"\n[listeners.https.tls]\ncertificates = [{pairs}]'
    (fault,) = faults_of(tmp_path, text)
    assert "listeners.https.tls.certificates[1].cert: it names no host" in fault


def test_an_access_log_that_cannot_be_opened(tmp_path):
    document = decode({"access_log": {"path": f"{tmp_path}/none/log"}})
    assert [fault.path for fault in verify(document)] == ["access_log.path"]


SECRET = "hunter2-and-more"


def test_secrets_are_not_shown(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    text = """
[routes.a]
path = "/v1/x"
service = "api"
[routes.b]
path = "/v1/{id}"
redirect = { to = "${file:secret}" }
[policies.offices]
policy = "ip_restriction"
allow = ["${env:WORD}"]
[policies.pages]
policy = "cors"
origins = ["${file:secret}"]
"""
    found = faults_of(tmp_path, text, {"WORD": SECRET})
    assert len(found) == 3
    assert not [fault for fault in found if SECRET in fault]
    assert any("${env:WORD}" in fault for fault in found), "as it was written it may be shown"


def test_faults_of_a_policy_without_a_text_behind_them(tmp_path):
    document = decode({"policies": {"cors": {"origins": [SECRET]}}})
    (fault,) = verify(document)
    assert fault.path == "policies.cors.origins[0]"
    assert SECRET not in str(fault)


def test_a_policy_nobody_has_heard_of_is_a_fault_of_its_table(tmp_path):
    document = decode({"policies": {"cros": {}}})
    (fault,) = verify(document)
    assert fault.path.startswith("policies.cros")
    assert "cors" in str(fault)


def test_a_document_in_order_has_no_faults(tmp_path):
    assert faults_of(tmp_path, '[routes.all]\npath = "/*"\nservice = "api"') == []


def test_below_moves_faults_and_keeps_the_rest():
    fault = Fault("tls.ca", "cannot be read", "x", "a file", "look", "conf.toml", 3)
    assert below("upstreams.up", ConfigError([fault])).faults == (replace(fault, path="upstreams.up.tls.ca"),)


# -- routes -----------------------------------------------------------------------------------------------------------


def test_a_route_is_compiled_with_all_that_is_decided_before_a_request():
    options = {"path": "/v1/*", "service": "api", "hosts": ["api.example"], "body": "1KiB", "upgrades": ["WebSocket"]}
    snapshot = built(routes={"all": options})
    route = snapshot.routes["all"]
    assert (route.name, route.service, route.path, route.hosts) == ("all", "api", "/v1/*", ("api.example",))
    assert (route.body_limit, route.upgrades) == (1024, frozenset({b"websocket"}))
    assert snapshot.generation == 7


def test_without_a_limit_of_its_own_a_route_has_the_gateways():
    assert built(limits={"body": "3KiB"}).routes["all"].body_limit == 3072
    unlimited = {"all": {"path": "/*", "service": "api", "body": 0}}
    assert built(routes=unlimited, limits={"body": "3KiB"}).routes["all"].body_limit == 0


def test_rows_in_shared_memory_come_from_the_supervisor():
    ground = Ground(FakeClock(), slots={"all": 5})
    raw = {"routes": {name: {"path": f"/{name}", "reply": {}} for name in ("all", "more")}}
    snapshot = build(decode(raw), ground)
    assert (snapshot.routes["all"].slot, snapshot.routes["more"].slot) == (5, 0)


def test_listeners_have_their_own_routes():
    snapshot = built(
        listeners={name: {"address": f"127.0.0.1:{port}"} for port, name in enumerate(("in", "out", "spare"), 8080)},
        routes={
            "everywhere": {"path": "/a", "reply": {}},
            "inside": {"path": "/b", "listeners": ["in"], "reply": {}},
            "outside": {"path": "/b", "listeners": ["out"], "reply": {"status": 403}},
        },
    )
    found = {name: (matched(snapshot, name, path=b"/a"), matched(snapshot, name, path=b"/b")) for name in ("in", "out")}
    assert found == {"in": ("everywhere", "inside"), "out": ("everywhere", "outside")}
    assert isinstance(matched(snapshot, "spare", path=b"/b"), Miss)


def test_listeners_with_the_same_routes_share_a_router():
    listeners = {name: {"address": f"127.0.0.1:{port}"} for port, name in enumerate(("a", "b"), 8080)}
    snapshot = built(listeners=listeners)
    assert snapshot.routers["a"] is snapshot.routers["b"]


def test_routes_of_two_listeners_do_not_shadow_each_other_but_those_of_one_do():
    listeners = {name: {"address": f"127.0.0.1:{port}"} for port, name in enumerate(("a", "b"), 8080)}
    routes = {name: {"path": "/x", "listeners": [name], "reply": {}} for name in listeners}
    assert built(listeners=listeners, routes=routes).routes.keys() == {"a", "b"}
    routes["b"]["listeners"] = ["a", "b"]
    with pytest.raises(ConfigError) as caught:
        built(listeners=listeners, routes=routes)
    assert [fault.path for fault in caught.value.faults] == ["routes.b.path"]


def test_one_fault_of_routes_on_many_listeners_is_told_once():
    listeners = {name: {"address": f"127.0.0.1:{port}"} for port, name in enumerate("abc", 8080)}
    routes = {name: {"path": "/x", "reply": {}} for name in ("one", "two")}
    routes["only_a"] = {"path": "/a", "listeners": ["a"], "reply": {}}  # so that routers differ
    with pytest.raises(ConfigError) as caught:
        built(listeners=listeners, routes=routes)
    assert len(caught.value.faults) == 1


def test_preflights_go_to_routes_that_answer_them():
    routes = {
        "shared": {"path": "/a", "methods": ["POST"], "reply": {}, "policies": ["cors"]},
        "plain": {"path": "/b", "methods": ["POST"], "reply": {}},
    }
    snapshot = built(routes=routes, policies={"cors": {"origins": ["https://portal.example"]}})
    asking = [(b"origin", b"https://portal.example"), (b"access-control-request-method", b"POST")]
    assert matched(snapshot, path=b"/a", method=b"OPTIONS", headers=asking) == "shared"
    assert matched(snapshot, path=b"/b", method=b"OPTIONS", headers=asking).status == 405
    assert matched(snapshot, path=b"/a", method=b"OPTIONS").status == 405


# -- services and upstreams -------------------------------------------------------------------------------------------


def service_of(snapshot: Snapshot, route: str) -> Any:
    """The compiled service behind a route's handler."""
    (cell,) = snapshot.routes[route].handler.__closure__
    return cell.cell_contents


def test_routes_that_do_the_same_with_a_service_share_it():
    plain = {"service": "api"}
    routes = {
        "a": {"path": "/a", **plain},
        "b": {"path": "/b", **plain},
        "stripped": {"path": "/c/*", **plain, "strip_prefix": "/c"},
    }
    snapshot = built(routes=routes)
    assert service_of(snapshot, "a") is service_of(snapshot, "b")
    assert service_of(snapshot, "a") is not service_of(snapshot, "stripped")
    assert service_of(snapshot, "a").group is service_of(snapshot, "stripped").group is snapshot.upstreams["up"]


def test_rewriting_is_made_only_where_something_is_rewritten():
    routes = {
        "plain": {"path": "/a", "service": "api"},
        "stripped": {"path": "/c/*", "service": "api", "strip_prefix": "/c"},
        "left": {"path": "/d/*", "service": "api", "strip_prefix": "/d", "rewrite_location": False},
    }
    snapshot = built(routes=routes)
    assert [service_of(snapshot, name).rewriting is not None for name in routes] == [False, True, False]


@pytest.mark.parametrize(
    ("timeouts", "expected"), [([], 5.0), (["1s"], 1.0), (["1s", "9s"], 9.0), (["0s"], 5.0), (["0s", "2s"], 2.0)]
)
def test_a_dial_may_take_as_long_as_the_most_patient_service_waits(timeouts, expected):
    services = {f"s{at}": {"upstream": "up", "timeouts": {"connect": each}} for at, each in enumerate(timeouts)}
    snapshot = built(services=services, routes={})
    (target,) = snapshot.upstreams["up"].targets
    dial = target.pool._dial
    dialler = next(cell.cell_contents for cell in dial.__closure__ if hasattr(cell.cell_contents, "connect"))
    assert dialler._timeout == expected


def test_a_target_keeps_its_pool_under_new_options():
    snapshot = built()
    (target,) = snapshot.upstreams["up"].targets
    pool = target.pool
    newer = built(upstreams={"up": {"targets": [{"address": "127.0.0.1:9000"}], "pool": {"connections": 3}}})
    newer.upstreams["up"].carry_over(snapshot.upstreams["up"])
    assert newer.upstreams["up"].targets == (target,)
    assert target.pool is pool
    assert pool._config.connections == 3


def test_what_policies_keep_goes_from_ground_to_ground():
    ground = Ground(FakeClock())
    raw = {"policies": {"offices": {"policy": "ip_restriction", "allow": ["192.0.2.0/24"]}}}
    build(decode(raw), ground)
    kept = ground.kept["offices", "tables"][0]
    build(decode(raw), ground)
    assert ground.kept["offices", "tables"][0] is kept
