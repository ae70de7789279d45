"""`gatewayd passwd`: a password in, its hash out, and nothing else anywhere."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from click.testing import CliRunner

from gatewayd.cli.passwd import passwd


def run(text):
    found = CliRunner().invoke(passwd, input=text)
    return found.exit_code, found.stdout, found.stderr


@pytest.mark.parametrize(
    "text", ["correct horse\n", "correct horse\r\n", "correct horse", "correct horse\nsecond line\n"]
)
def test_the_first_line_is_hashed(text):
    code, out, err = run(text)
    assert (code, err) == (0, "")
    assert out.startswith("$argon2id$")
    assert out.count("\n") == 1
    assert PasswordHasher().verify(out.strip(), "correct horse")
    assert "horse" not in out


@pytest.mark.parametrize(("text", "said"), [("", "empty"), ("\n", "empty"), ("a\tb\n", "control")])
def test_what_is_no_password(text, said):
    code, out, err = run(text)
    assert (code, out) == (2, "")
    assert said in err
