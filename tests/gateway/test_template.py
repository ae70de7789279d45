"""Templates and host patterns: what they are made of, and what is refused."""

import pytest

from gatewayd.errors import ConfigError, Fault
from gatewayd.gateway.segment import Pattern
from gatewayd.gateway.template import MAX_SEGMENTS, host_name, is_address, parse_host, parse_template


def shown(text: str) -> tuple[list[str], tuple[str, ...], bool]:
    """A template's segments, names and whether it has a tail."""
    template = parse_template(text, "routes.x.path")
    segments = [
        "{}" if segment is None else str(segment) if isinstance(segment, Pattern) else segment.decode()
        for segment in template.segments
    ]
    return segments, template.names, template.tail


@pytest.mark.parametrize(
    ("text", "segments", "names", "tail"),
    [
        ("/", [""], (), False),
        ("/a/b", ["a", "b"], (), False),
        ("/a/", ["a", ""], (), False),
        ("/a/{id}", ["a", "{}"], ("id",), False),
        ("/a/{id}/", ["a", "{}", ""], ("id",), False),
        ("/{a:int}/{b:uuid}/{c:slug}", ["{…:int}", "{…:uuid}", "{…:slug}"], ("a", "b", "c"), False),
        ("/{a:/[0-9]{4}/}/{b:/x|y/}", ["{…:/[0-9]{4}/}", "{…:/x|y/}"], ("a", "b"), False),
        ("/{a:/[^/]+/}", ["{}"], ("a",), False),
        ("/{a:/.*/}.pdf", ["{…}.pdf"], ("a",), False),
        ("/files/{name}.pdf", ["files", "{…}.pdf"], ("name",), False),
        ("/v{version:int}/x", ["v{…:int}", "x"], ("version",), False),
        ("/docs/{rest*}", ["docs"], ("rest",), True),
        ("/docs/*", ["docs"], (), True),
        ("/*", [], (), True),
        ("/{all*}", [], ("all",), True),
        ("/{a}/{rest*}", ["{}"], ("a", "rest"), True),
        ("/é/{x}ß", ["%C3%A9", "{…}%C3%9F"], ("x",), False),
        ("/%C3%A9", ["%C3%A9"], (), False),
        ("/a;b=c", ["a;b=c"], (), False),
    ],
)
def test_templates(text, segments, names, tail):
    assert shown(text) == (segments, names, tail)


def test_a_template_without_parameters_is_a_path():
    assert parse_template("/a/é", "").literal == b"/a/%C3%A9"
    assert parse_template("/.well-known/a", "").literal == b"/.well-known/a"
    assert parse_template("/a/{b}", "").literal == b""
    assert parse_template("/*", "").literal == b""


def fault(text: str) -> Fault:
    """What is wrong with a template."""
    with pytest.raises(ConfigError) as raised:
        parse_template(text, "routes.x.path")
    (found,) = raised.value.faults
    assert found.path == "routes.x.path"
    return found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with a slash"),
        ("a", "begins with a slash"),
        ("/a\x00", "begins with a slash"),
        ("/{a", "a brace"),
        ("/a}", "a brace"),
        ("/{}", "a brace"),
        ("/{a-b}", "a brace"),
        ("/{1a}", "a brace"),
        ("/{a:}", "a brace"),
        ("/{a:/x}", "a brace"),
        ("/{a:foo}", "unknown type"),
        ("/{a:any}", "unknown type"),
        ("/{a:regex}", "unknown type"),
        ("/{a:/(/}", "not valid"),
        ("/{a}{b}", "two parameters"),
        ("/{a}-{b}", "two parameters"),
        ("/{a}/{a}", "same name"),
        ("/{a}/{a*}", "same name"),
        ("/{a*}/b", "the whole last segment"),
        ("/{a*}/{b*}", "the whole last segment"),
        ("/*/b", "the whole last segment"),
        ("/a*", "the whole last segment"),
        ("/a*/*", "the whole last segment"),
        ("/x{a*}", "the whole last segment"),
        ("/{a*}.pdf", "the whole last segment"),
        ("/a//b", "once it is normalised"),
        ("/a/../b", "once it is normalised"),
        ("/a/.", "once it is normalised"),
        ("/%41", "once it is normalised"),
        ("/%c3%a9", "once it is normalised"),
        ("/a|b/{c}", "once it is normalised"),
        ("/..", "no request has such a path"),
        ("/a b", "no request has such a path"),
        ("/a?b", "no request has such a path"),
        ("/a#b", "no request has such a path"),
        ("/a\\b", "no request has such a path"),
        ("/%00", "no request has such a path"),
        ("/a" * (MAX_SEGMENTS + 1), "at most 64 segments"),
        ("/{a}" + "/a" * MAX_SEGMENTS, "at most 64 segments"),
    ],
)
def test_refused(text, message):
    assert message in fault(text).message


def test_faults_say_what_would_do():
    assert fault("/a//b").hint == "it becomes /a/b"
    assert fault("/{a:foo}").found == "'foo'"
    assert fault("/{a:foo}").allowed == "int, uuid, slug, /regex/"
    assert fault("/{a:/[/}").message.startswith("the regex of a is not valid: missing ]")


def test_hosts():
    assert parse_host("API.example.com", "") == b"api.example.com"
    assert parse_host("*.Example.com", "") == b"*.example.com"
    assert parse_host("[0::1]", "") == b"[::1]"
    assert parse_host("127.0.0.1", "") == b"127.0.0.1"


@pytest.mark.parametrize(
    "text",
    ["", "*", "*.", "**.a", "a.*", "*a.b", "a:80", "*.a:80", "*.1.2.3.4", "*.[::1]", "é.de", "a b", "http://a", "a..b"],
)
def test_refused_hosts(text):
    with pytest.raises(ConfigError) as raised:
        parse_host(text, "routes.x.hosts")
    assert [found.path for found in raised.value.faults] == ["routes.x.hosts"]


def test_names_and_addresses():
    assert [host_name(host) for host in (b"a.b:80", b"a.b", b"[::1]:80", b"[::1]", b"")] == [
        b"a.b", b"a.b", b"[::1]", b"[::1]", b"",
    ]  # fmt: skip
    assert [is_address(name) for name in (b"1.2.3.4", b"[::1]", b"a.b4", b"a")] == [True, True, False, False]
