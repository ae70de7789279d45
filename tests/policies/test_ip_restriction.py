"""ip_restriction: who may come."""

from __future__ import annotations

import os

import pytest

from gatewayd.core.policy import BuildContext
from gatewayd.errors import ConfigError
from gatewayd.policies import ip_restriction
from gatewayd.policies.ip_restriction import MEMO_LIMIT, Config
from tests.support.exchanges import make_exchange


def hooks(context=None, **options):
    return ip_restriction.build(Config(**options), context or BuildContext("office"))


def refused(access, client):
    verdict = access(make_exchange(client=client, peer="10.9.9.9"))
    again = access(make_exchange(client=client, peer="10.9.9.9"))
    assert verdict is again
    assert verdict is None or (verdict.status, verdict.code) == (403, "ip_restricted")
    return verdict is not None


@pytest.mark.parametrize(
    ("options", "client", "out"),
    [
        ({"allow": ["192.0.2.0/24"]}, "192.0.2.1", False),
        ({"allow": ["192.0.2.0/24"]}, "192.0.3.1", True),
        ({"allow": ["192.0.2.0/24"]}, "2001:db8::1", True),
        ({"allow": ["192.0.2.0/24"]}, "::ffff:192.0.2.1", False),
        ({"allow": ["192.0.2.0/24"]}, "", True),
        ({"deny": ["192.0.2.0/24"]}, "192.0.2.1", True),
        ({"deny": ["192.0.2.0/24"]}, "192.0.3.1", False),
        ({"deny": ["192.0.2.0/24"]}, "::ffff:192.0.2.1", True),
        ({"deny": ["192.0.2.0/24"]}, "", False),
        ({"allow": ["192.0.2.0/24"], "deny": ["192.0.2.7"]}, "192.0.2.7", True),
        ({"allow": ["192.0.2.7"], "deny": ["192.0.2.0/24"]}, "192.0.2.7", True),
        ({"allow": ["2001:db8::/32"]}, "2001:db8:ffff::1", False),
    ],
)
def test_deny_wins_and_an_allow_list_shuts_out_the_rest(options, client, out):
    assert refused(hooks(**options).access, client) is out


def test_files_count_like_the_lists_beside_them(tmp_path):
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("# offices\n192.0.2.0/24  # Vienna\n\n   2001:db8::/32\r\n")
    denied = tmp_path / "denied.txt"
    denied.write_text("192.0.2.9\n")
    access = hooks(allow=["198.51.100.1"], allow_files=[str(allowed)], deny_files=[str(denied)]).access
    assert [refused(access, client) for client in ("192.0.2.1", "2001:db8::1", "198.51.100.1")] == [False] * 3
    assert refused(access, "192.0.2.9")
    assert refused(access, "203.0.113.1")


def test_an_empty_allow_file_lets_nobody_in(tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("# nobody yet\n")
    assert refused(hooks(allow_files=[str(empty)]).access, "192.0.2.1")


def test_everything_wrong_is_said_at_once(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("192.0.2.0/24\nnonsense\n192.0.2.1/24\n")
    with pytest.raises(ConfigError) as caught:
        hooks(allow=["10.0.0.0/8", "10.0.0.0/33"], deny_files=[str(path), str(tmp_path / "none.txt")])
    found = [(fault.path, fault.file.rpartition("/")[2], fault.line) for fault in caught.value.faults]
    assert found == [
        ("allow[1]", "", 0),
        ("deny_files[0]", "list.txt", 2),
        ("deny_files[0]", "list.txt", 3),
        ("deny_files[1]", "", 0),
    ]
    assert "the network is 192.0.2.0/24" in str(caught.value.faults[2])
    assert "No such file" in str(caught.value.faults[3])


def test_a_file_of_something_else_does_not_flood_the_terminal(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8junk\n" * 500)
    with pytest.raises(ConfigError) as caught:
        hooks(deny_files=[str(path)])
    assert len(caught.value.faults) == 20


def test_without_any_list_it_is_a_mistake():
    with pytest.raises(ConfigError):
        hooks()


def test_recent_verdicts_are_bounded():
    context = BuildContext("office")
    access = hooks(context, deny=["192.0.2.1"]).access
    for number in range(MEMO_LIMIT + 500):
        assert access(make_exchange(client=f"10.0.{number >> 8}.{number & 255}")) is None
    (tables,) = context.kept["office", "tables"]
    assert len(tables.memo) == MEMO_LIMIT
    assert access(make_exchange(client="192.0.2.1")) is not None
    assert len(tables.memo) == MEMO_LIMIT


def test_lists_are_read_again_only_when_something_changed(tmp_path):
    path = tmp_path / "denied.txt"
    path.write_text("192.0.2.1\n")
    context = BuildContext("office")
    first = hooks(context, deny_files=[str(path)])
    (tables,) = context.kept["office", "tables"]
    hooks(context, deny_files=[str(path)])
    assert context.kept["office", "tables"] == [tables]
    path.write_text("192.0.2.2\n")
    os.utime(path, ns=(1, 1))  # a file replaced within the clock's grain would keep its stamp
    second = hooks(context, deny_files=[str(path)])
    assert refused(second.access, "192.0.2.2")
    assert not refused(second.access, "192.0.2.1")
    assert refused(first.access, "192.0.2.1"), "the old generation serves on as it was"


def test_a_broken_file_at_reload_leaves_the_old_lists_in_use(tmp_path):
    path = tmp_path / "denied.txt"
    path.write_text("192.0.2.1\n")
    context = BuildContext("office")
    access = hooks(context, deny_files=[str(path)]).access
    path.write_text("nonsense, and longer\n")
    with pytest.raises(ConfigError):
        hooks(context, deny_files=[str(path)])
    assert refused(access, "192.0.2.1")


def test_explain():
    assert hooks(deny=["192.0.2.1", "192.0.2.0/24"]).explain == "allow any address, deny 1 ranges"
    assert hooks(allow=["::/0"]).explain == "allow 1 ranges, deny 0 ranges"
