"""Loading as a whole: from files and environment to a document, or to everything that is wrong with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from gatewayd.config.load import Loaded, decode, load
from gatewayd.config.model import File
from gatewayd.config.units import Duration, Size
from gatewayd.errors import ConfigError, Fault

SMALL = """\
[listeners.http]
address = "127.0.0.1:8080"
[upstreams.quotes]
targets = [{ address = "127.0.0.1:9000" }]
[services.quotes]
upstream = "quotes"
[routes.quotes]
path = "/v1/quotes"
service = "quotes"
"""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy's options."""

    key: str = ""
    limit: int = 1
    list: File = ""


POLICIES = {"limit": Config}


def loaded(folder: Path, text: str, **environ: str) -> Loaded:
    """The configuration that `text` is."""
    (folder / "conf.toml").write_text(text)
    return load(folder / "conf.toml", environ, POLICIES)


def faults_of(folder: Path, text: str, **environ: str) -> list[str]:
    """Everything wrong with `text`, file names below the folder."""
    with pytest.raises(ConfigError) as raised:
        loaded(folder, text, **environ)
    return [str(fault).replace(f"{folder}/", "") for fault in raised.value.faults]


def test_a_document_and_where_it_stands(tmp_path):
    found = loaded(tmp_path, SMALL, GATEWAYD__LIMITS__HEAD="1KiB")
    assert found.document.limits.head == Size(1024)
    assert found.document.timeouts.head == Duration(10)
    assert found.document.routes["quotes"].service == "quotes"
    assert found.locate("routes.quotes.service") == (f"{tmp_path}/conf.toml", 9)
    assert found.locate("limits.head") == ("environment", 0)


def test_what_workers_get_makes_the_same_document(tmp_path):
    found = loaded(tmp_path, SMALL + '[limits]\nhead = "${env:HEAD}"\nheaders = "${env:N}"\n', HEAD="2KiB", N="7")
    packed = msgspec.msgpack.encode(found.raw)
    assert msgspec.json.encode(found.raw)
    assert decode(msgspec.msgpack.decode(packed)) == found.document
    assert found.document.limits.headers == 7


def test_relative_file_names_count_from_the_file_they_stand_in(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.txt").write_text("hello")
    (tmp_path / "sub" / "more.toml").write_text(
        '[routes.page]\npath = "/page"\nreply = { file = "page.txt" }\n[policies.limit]\nlist = "a.txt"\n'
    )
    found = loaded(tmp_path, 'include = ["sub/*.toml"]\n' + SMALL)
    assert found.document.include == []
    assert found.document.routes["page"].reply.file == f"{tmp_path}/sub/page.txt"
    assert found.raw["policies"]["limit"]["list"] == f"{tmp_path}/sub/a.txt"


def test_all_faults_at_once_in_the_order_of_the_text(tmp_path):
    (tmp_path / "more.toml").write_text("[limits]\nheaders = 0\n")
    text = """\
include = ["more.toml", "no.toml"]
[gateway]
wokers = 2
policies = ["limits"]
[listeners.http]
address = "localhost"
[upstreams.quotes]
targets = []
[services.quotes]
upstream = "quots"
[routes.quotes]
path = "/v1/quotes"
service = "quots"
body = "1X"
[routes.other]
path = "/"
[policies.limit]
limit = "${env:MISSING}"
kye = 1
"""
    found = faults_of(tmp_path, text, GATEWAYD__TIMEOUTS__HAED="1", GATEWAYD__TIMEOUTS__HEAD="1 year")
    expected = [
        "conf.toml:1: include[1]: there is no such file",
        "conf.toml:3: gateway.wokers: unknown option; allowed: drain_idle_grace, drain_timeout, name, paths, "
        'pid_file, policies, state_dir, workers (did you mean "workers"?)',
        'conf.toml:4: gateway.policies[0]: there is no policy instance of this name; found "limits"; allowed: "limit"',
        "conf.toml:6: listeners.http.address: no port",
        "conf.toml:8: upstreams.quotes.targets: too few",
        'conf.toml:10: services.quotes.upstream: there is no upstream of this name; found "quots"; allowed: "quotes"',
        'conf.toml:13: routes.quotes.service: there is no service of this name; found "quots"; allowed: "quotes"',
        "conf.toml:14: routes.quotes.body: is not a size",
        "conf.toml:15: routes.other: nothing answers it",
        "conf.toml:18: policies.limit.limit: the environment has no MISSING",
        "conf.toml:19: policies.limit.kye: unknown option; allowed: failure, key, limit, list, mode, policy (did",
        "more.toml:2: limits.headers: out of range; found 0; allowed: a whole number, at least 1",
        "environment: timeouts.haed: unknown option; found GATEWAYD__TIMEOUTS__HAED",
        'environment: timeouts.head: is not a duration; found "${env:GATEWAYD__TIMEOUTS__HEAD}"',
    ]
    assert len(found) == len(expected)
    for fault, text in zip(found, expected, strict=True):
        assert fault.startswith(text)


def test_what_builders_find_is_said_together_with_the_rest(tmp_path):
    """They see what is sound; what they miss there for a fault that is known is not said again."""
    seen = []

    def verify(document, locate):
        seen.append(document)
        return [
            Fault("routes.quotes.path", "is odd", "/v1/quotes"),
            Fault("upstreams.quotes", "lacks something"),
            Fault("upstreams.quotes.targets[0]", "lacks its weight"),
        ]

    text = SMALL.replace(" }]", ", weight = -1 }]") + '[limits]\nhead = "1KiB"\nheaders = 0\n'
    (tmp_path / "conf.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "conf.toml", {}, POLICIES, verify)
    assert [(fault.path, fault.line) for fault in raised.value.faults] == [
        ("upstreams.quotes.targets[0].weight", 4),
        ("routes.quotes.path", 8),
        ("limits.headers", 12),
    ]
    (document,) = seen
    assert document.upstreams["quotes"].targets[0].weight == 1
    assert (document.limits.head, document.limits.headers) == (Size(1024), 100)


@pytest.mark.parametrize(
    "text",
    [
        SMALL.replace('service = "quotes"', 'sevice = "quotes"'),
        SMALL.replace('service = "quotes"', "service = 1"),
        SMALL.replace('address = "127.0.0.1:8080"', 'adress = "127.0.0.1:8080"'),
        SMALL.replace('targets = [{ address = "127.0.0.1:9000" }]', "targets = 1"),
        SMALL.replace('upstream = "quotes"', "upstream = []"),
    ],
)
def test_one_mistake_is_not_told_twice(tmp_path, text):
    """What a table lacks because of a fault in it, and what refers to such a table, is no fault of its own."""
    found = faults_of(tmp_path, text)
    assert len({fault.partition(": ")[2].split(".")[1] for fault in found}) == 1
    assert not [fault for fault in found if "nothing answers" in fault or "of this name" in fault]


def test_an_unknown_section(tmp_path):
    (fault,) = faults_of(tmp_path, SMALL + "[limit]\nhead = 1\n")
    assert fault.startswith("conf.toml:10: limit: unknown option")
    assert fault.endswith('(did you mean "limits"?)')


@pytest.mark.parametrize("section", ["limits", "policies", "timeouts"])
@pytest.mark.parametrize("value", ["1", "[]", '"x"'])
def test_a_section_that_is_no_table(tmp_path, section, value):
    (fault,) = faults_of(tmp_path, f"{section} = {value}\n{SMALL}")
    assert fault.startswith(f"conf.toml:1: {section}: wrong type; found ")


SECRETS = """
[policies.limit]
key = "${file:secret}"
limit = "${env:SECRET}"
"""


def test_secrets_show_in_no_error_and_no_repr(tmp_path):
    (tmp_path / "secret").write_text("hunter2")
    found = loaded(tmp_path, SMALL + SECRETS, SECRET="5")
    assert found.document.policies["limit"] == {"key": "hunter2", "limit": 5}
    assert "hunter2" not in repr(found) + repr(found.document) + repr(found.locate)
    text = SMALL.replace('"quotes"\n', '"${env:SECRET}"\n').replace("127.0.0.1:8080", "${env:SECRET}") + SECRETS
    told = "\n".join(faults_of(tmp_path, text, SECRET="hunter3", GATEWAYD__LIMITS__HEAD="hunter4"))
    assert told.count("${env:SECRET}") == 4
    assert "hunter" not in told


def test_an_override_may_hold_marks_of_its_own(tmp_path):
    (tmp_path / "secret").write_text("1KiB\n")
    assert loaded(tmp_path, SMALL, GATEWAYD__LIMITS__HEAD="${file:secret}").document.limits.head == 1024


def test_without_policies_their_tables_are_only_plain_data(tmp_path):
    (tmp_path / "conf.toml").write_text(SMALL + "[policies.x]\nany = 1\n")
    assert load(tmp_path / "conf.toml", {}).document.policies == {"x": {"any": 1}}
    (tmp_path / "conf.toml").write_text(SMALL + "[policies.x]\nany = 2026-01-01\n")
    with pytest.raises(ConfigError, match=r"conf.toml:11: policies.x.any: wrong type; found 2026-01-01"):
        load(tmp_path / "conf.toml", {})


def test_ten_thousand_routes(tmp_path):
    routes = "".join(f'[routes.r{n}]\npath = "/v1/{n}/{{id}}"\nservice = "quotes"\n' for n in range(10_000))
    assert len(loaded(tmp_path, SMALL + routes).document.routes) == 10_001
    found = faults_of(tmp_path, SMALL + routes.replace('path = "/v1/9999', 'pth = "/v1/9999'))
    assert [fault.partition(": ")[0] for fault in found] == ["conf.toml:30007", "conf.toml:30008"]


def test_the_grammar_is_loaded_only_to_place_an_error(tmp_path):
    (tmp_path / "conf.toml").write_text(SMALL)
    script = f"import sys; from gatewayd.config.load import load; load({str(tmp_path / 'conf.toml')!r}, {{}})"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert not {"tree_sitter", "cryptography", "difflib"} & {*done.stdout.split()}
