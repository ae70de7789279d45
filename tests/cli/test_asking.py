from __future__ import annotations

import io

import click
import pytest

from gatewayd.cli import asking
from gatewayd.errors import GatewaydError
from gatewayd.server import running


@pytest.fixture
def daemon(monkeypatch):
    """A daemon that answers `daemon.answer` and keeps what it was asked."""

    class Daemon:
        answer = (200, {"found": 1})
        asked = []

    daemon = Daemon()

    def ask(*arguments):
        daemon.asked = arguments
        return daemon.answer

    monkeypatch.setattr(running, "ask", ask)
    monkeypatch.setattr(running, "fetch", ask)
    return daemon


@click.command()
@asking.filters
@click.pass_context
def show(context, /, **options):
    click.echo(asking.control_of(context, options))
    for name, value in asking.wanted(options):
        click.echo(f"{name}={value}")


def said(*words):
    from click.testing import CliRunner

    return CliRunner().invoke(show, ["--control", "127.0.0.1:1", *words], obj="").output.splitlines()


def test_filters_become_parameters():
    words = ["--consumer", "a", "--consumer", "b", "--request-id", "x y", "--from", "15m", "--text", ""]
    assert said(*words) == ["127.0.0.1:1", "consumer=a", "consumer=b", "request_id=x y", "from=15m", "text="]
    assert said() == ["127.0.0.1:1"]


def test_the_last_so_long_is_from_so_long_ago():
    assert said("--last", "1h30m") == ["127.0.0.1:1", "from=1h30m"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--last", "1h", "--from", "2h"], "--from does not go with --last"),
        (["--last", "1h", "--to", "2h"], "--to does not go with --last"),
        (["--last", "2027-01-15"], "--last is not a duration; found '2027-01-15'"),
        (["--control", "nonsense"], "--control: no port"),
    ],
)
def test_wrong_uses(words, text):
    assert said(*words)[-1].startswith(f"Error: {text}")


def test_a_method_may_be_said_in_lower_case():
    assert said("--method", "get", "--method", "PUT")[1:] == ["method=get", "method=PUT", "method=GET"]


def test_values_are_written_as_addresses_take_them(daemon):
    assert asking.ask("c", "/v1/logs", [("text", "a&b c/ü"), ("limit", 5)]) == {"found": 1}
    assert daemon.asked == ("c", "GET", "/v1/logs?text=a%26b+c%2F%C3%BC&limit=5", asking.TIMEOUT)
    asking.ask("c", "/v1/logs")
    assert daemon.asked[2] == "/v1/logs"


def test_what_is_wrong_with_the_question_is_a_wrong_use(daemon):
    fault = {"path": "request_id", "message": "is too long", "found": "'x'", "allowed": "1000 characters"}
    daemon.answer = (400, {"error": "…", "faults": [fault, {**fault, "path": "to", "found": "", "allowed": ""}]})
    with pytest.raises(click.UsageError) as caught:
        asking.ask("c", "/v1/logs")
    lines = caught.value.message.splitlines()
    assert lines == ["--request-id is too long; found 'x'; allowed: 1000 characters", "--to is too long"]
    daemon.answer = (400, {"error": "…", "faults": [{**fault, "path": "by", "found": "", "allowed": ""}]})
    with pytest.raises(click.UsageError, match=r"^DIMENSION is too long$"):
        asking.ask("c", "/v1/stats")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((503, {"error": "too many questions at once; ask again", "faults": []}), "too many questions at once"),
        ((404, {"error": "no call of this id is kept", "faults": []}), "no call of this id"),
        ((404, {"error": "404: Not Found"}), "404: Not Found"),
        ((500, {}), "status 500"),
    ],
)
def test_why_there_is_no_answer(daemon, answer, text):
    daemon.answer = answer
    with pytest.raises(GatewaydError, match=text):
        asking.ask("c", "/v1/logs")
    with pytest.raises(GatewaydError, match=text):
        asking.save("c", [], io.BytesIO())


def test_a_file_is_asked_for(daemon):
    file = io.BytesIO()
    asking.save("c", [("format", "csv")], file)
    assert daemon.asked[1] == "/v1/export?format=csv"
    assert daemon.asked[3] is file
