"""Listening sockets: places, probes, shares, and ports that close without losing a caller."""

from __future__ import annotations

import os
import select
import socket
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.errors import ConfigError
from gatewayd.server import sockets
from gatewayd.server.sockets import (
    CONTROL,
    AddressError,
    Place,
    SocketStore,
    Wanted,
    bind,
    deal,
    drop_new,
    key_of,
    path_of,
    place,
    probe,
    shown,
)

ANY = "127.0.0.1:0"


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"127.0.0.1:{sock.getsockname()[1]}"


def ports(socks):
    return {sock.getsockname()[1] for sock in socks}


def test_places():
    assert place("127.0.0.1:80") == Place(socket.AF_INET, ("127.0.0.1", 80))
    assert place("[::1]:80") == Place(socket.AF_INET6, ("::1", 80, 0, 0))
    assert place("unix:/run/a.sock") == Place(socket.AF_UNIX, "/run/a.sock")
    assert place("localhost:80").where[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("text", ["", "127.0.0.1", "unix:relative", "no-such-host.invalid:80"])
def test_no_places(text):
    with pytest.raises(AddressError):
        place(text)


def test_an_address_in_use_is_found_and_a_free_one_stays_free(taken):
    assert probe(place(taken)) == "in use by another process"
    assert probe(place(ANY)) == ""
    assert probe(place("192.0.2.1:80")) == "no address of this machine"


def test_a_second_daemon_does_not_join_the_first_ones_port():
    with bind(place(ANY), 1, share=True) as sock:
        assert probe(place(shown(sock))) == "in use by another process"


def test_an_ipv6_socket_leaves_ipv4_alone():
    with bind(place("[::]:0"), 1, share=True) as sock:
        assert shown(sock).startswith("[::]:")
        assert probe(Place(socket.AF_INET, ("127.0.0.1", sock.getsockname()[1]))) == ""


def test_paths(tmp_path):
    path = tmp_path / "a.sock"
    at = place(f"unix:{path}")
    assert probe(at) == ""
    with bind(at, 1, share=True) as sock:
        assert shown(sock) == f"unix:{path}"
        assert probe(at) == "in use by another process"
    assert path.exists()
    assert probe(at) == ""
    bind(at, 1, share=False).close()
    path.unlink()
    path.write_text("precious")
    assert probe(at) == "a file that is no socket stands there"
    assert probe(place(f"unix:{tmp_path}/nowhere/a.sock")) == "its folder is missing or not writable"


def test_sharing_sockets_each_have_their_own_queue():
    with bind(place(ANY), 99, share=True) as one, bind(place(shown(one)), 99, share=True) as other:
        callers = [socket.create_connection(one.getsockname()) for _ in range(64)]
        waiting = Counter()
        for sock in (one, other):
            while True:
                try:
                    sock.accept()[0].close()
                except BlockingIOError:
                    break
                waiting[sock.fileno()] += 1
        for caller in callers:
            caller.close()
    assert sum(waiting.values()) == 64
    assert len(waiting) == 2


WORKERS = st.sets(st.integers(0, 127), min_size=1, max_size=12).map(sorted)


@given(st.integers(0, 40), WORKERS, st.data())
def test_every_socket_is_served_while_anybody_lives(count, workers, data):
    living = data.draw(st.sets(st.sampled_from(workers), min_size=1))
    dealt = deal(count, workers, living)
    assert set(dealt) == living
    assert {number for numbers in dealt.values() for number in numbers} == set(range(count))
    assert all(len(numbers) == len(set(numbers)) for numbers in dealt.values())


@given(st.integers(0, 40), WORKERS)
def test_all_workers_get_the_same_share(count, workers):
    dealt = deal(count, workers, workers)
    assert len({len(numbers) for numbers in dealt.values()}) == 1
    owners = Counter(number for numbers in dealt.values() for number in numbers)
    assert set(owners.values()) <= {1, len(workers)}
    assert sum(owners[number] > 1 for number in range(count)) < len(workers)


@given(st.integers(1, 40), WORKERS)
def test_a_worker_that_is_back_has_the_sockets_it_had(count, workers):
    assert deal(count, workers, workers) == deal(count, workers, set(workers))
    assert deal(count, workers, []) == {}


def test_one_socket_per_worker_is_the_plain_case():
    assert deal(3, [0, 1, 2], [0, 1, 2]) == {0: [0], 1: [1], 2: [2]}
    assert deal(3, [0, 1, 2], [0, 2]) == {0: [0, 1], 2: [1, 2]}
    assert deal(1, [0, 1], [0, 1]) == {0: [0], 1: [0]}


@pytest.mark.parametrize("address", [ANY, "[::1]:0"])
def test_a_port_is_closed_without_losing_who_waits(address):
    sock = bind(place(address), 8, share=True)
    where = sock.getsockname()[:2]
    waiting = socket.create_connection(where)
    waiting.sendall(b"still here")
    drop_new(sock)
    late = socket.socket(sock.family)
    late.setblocking(False)
    late.connect_ex(where)
    assert select.select([], [late], [], 0.1) == ([], [], [])
    accepted, _ = sock.accept()
    assert accepted.recv(100) == b"still here"
    sock.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)
    for each in (waiting, late, accepted):
        each.close()


def test_the_store_holds_a_socket_per_worker_and_more_when_there_are_more():
    store = SocketStore()
    http, control = Wanted(ANY, 16), Wanted(ANY, 16, share=False)
    assert store.open({"http": http, CONTROL: control}, 2) == {"http=127.0.0.1:0", "(control)=127.0.0.1:0"}
    before = store.of("http", ANY)
    assert [len(before), len(store.of(CONTROL, ANY))] == [2, 1]
    assert len(ports(before)) == 1
    assert store.open({"http": http, CONTROL: control}, 3) == set()
    assert store.of("http", ANY)[:2] == before
    assert store.open({"http": http}, 1) == set()
    assert len(store.of("http", ANY)) == 3
    store.close(store.keys())
    assert store.keys() == set()
    assert all(sock.fileno() == -1 for sock in before)


def test_a_listener_that_is_renamed_keeps_its_sockets(tmp_path):
    address = f"unix:{tmp_path}/a.sock"
    store = SocketStore()
    store.open({"old": Wanted(address, 16)}, 2)
    assert store.open({"new": Wanted(address, 16)}, 2) == set()
    assert len(store.of("new", address)) == 1
    store.close(store.keys())
    assert not os.path.exists(f"{tmp_path}/a.sock")


def test_opening_all_or_nothing(taken, tmp_path):
    store = SocketStore()
    store.open({"kept": Wanted(f"unix:{tmp_path}/kept.sock", 16)}, 2)
    bad = {
        "free": Wanted(f"unix:{tmp_path}/free.sock", 16),
        "taken": Wanted(taken, 16),
        "far": Wanted("192.0.2.1:80", 16),
    }
    with pytest.raises(ConfigError) as refused:
        store.open(bad, 2)
    assert [(fault.path, fault.found) for fault in refused.value.faults] == [
        ("listeners.taken.address", taken),
        ("listeners.far.address", "192.0.2.1:80"),
    ]
    assert store.keys() == {f"unix:{tmp_path}/kept.sock"}
    assert not os.path.exists(f"{tmp_path}/free.sock")
    store.close(store.keys())


def test_files_of_inherited_sockets_are_not_ours_to_remove_before_we_own_them(tmp_path):
    path = f"{tmp_path}/a.sock"
    first = SocketStore()
    first.open({"http": Wanted(f"unix:{path}", 16)}, 1)
    inherited = {key: [sock.dup() for sock in socks] for key, socks in first.items()}
    failing = SocketStore({key: [sock.dup() for sock in socks] for key, socks in inherited.items()})
    failing.close(failing.keys())
    assert os.path.exists(path)
    second = SocketStore(inherited)
    second.own()
    first.disown()
    first.close(first.keys())
    assert os.path.exists(path)
    second.close(second.keys())
    assert not os.path.exists(path)


def test_a_file_that_became_somebody_elses_stays(tmp_path):
    path = tmp_path / "a.sock"
    store = SocketStore()
    store.open({"http": Wanted(f"unix:{path}", 16)}, 1)
    path.unlink()
    with bind(place(f"unix:{path}"), 1, share=False):
        store.close(store.keys())
        assert path.exists()


def test_dropping_takes_a_unix_sockets_file_away_and_leaves_its_queue(tmp_path):
    path = f"{tmp_path}/a.sock"
    store = SocketStore()
    store.open({"http": Wanted(f"unix:{path}", 16)}, 1)
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(path)
    store.drop_new(store.keys())
    assert not os.path.exists(path)
    store.of("http", f"unix:{path}")[0].accept()[0].close()
    caller.close()
    store.close(store.keys())


def test_a_new_backlog_counts_for_sockets_that_stay():
    store = SocketStore()
    store.open({"http": Wanted(ANY, 1)}, 1)
    where = store.of("http", ANY)[0].getsockname()
    store.open({"http": Wanted(ANY, 8)}, 1)
    callers = [socket.create_connection(where, timeout=5) for _ in range(9)]
    for caller in callers:
        caller.close()
    store.close(store.keys())


def test_keys_and_paths():
    assert key_of("http", "LOCALHOST:080") == key_of("other", "localhost:80") == "localhost:80"
    assert key_of("http", ANY) != key_of("other", ANY)
    assert key_of("http", "nonsense") == "nonsense"
    assert path_of("a.b") == 'listeners."a.b".address'
    assert path_of(CONTROL) == "control.address"


def test_a_sandbox_without_filters_is_no_reason_to_fail(monkeypatch):
    monkeypatch.setattr(sockets, "_SO_ATTACH_FILTER", 10_000)
    with bind(place(ANY), 1, share=True) as sock:
        drop_new(sock)
