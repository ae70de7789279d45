"""Finding the configuration and the ports, and saying what to try; process/test_demo.py starts it all."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gatewayd.demo import insurer


def test_the_configuration_named_is_the_one_used(tmp_path):
    conf = tmp_path / "mine.toml"
    conf.write_text("")
    assert insurer.find_conf(str(conf)) == conf
    with pytest.raises(insurer.DemoError, match=r"other\.toml.*name one with -c"):
        insurer.find_conf(str(tmp_path / "other.toml"))


def test_conf_toml_is_looked_for_here_first(tmp_path, monkeypatch):
    (tmp_path / "conf.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert insurer.find_conf("") == tmp_path / "conf.toml"


def test_a_port_in_use_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, free_port = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        assert insurer.ports_in_use([port, free_port]) == [port]


def test_the_address_without_tls_comes_first(tmp_path):
    conf = tmp_path / "conf.toml"
    conf.write_text(
        '[control]\naddress = "127.0.0.1:1"\n'
        '[listeners.a]\naddress = "127.0.0.1:2"\ntls = {}\n'
        '[listeners.b]\naddress = "0.0.0.0:3"\n'
    )
    assert insurer.addresses(conf) == ("127.0.0.1:1", ["0.0.0.0:3", "127.0.0.1:2"])


def test_the_control_listener_has_a_default(tmp_path):
    conf = tmp_path / "conf.toml"
    conf.write_text('[listeners.a]\naddress = "[::]:80"\n')
    assert insurer.addresses(conf) == ("127.0.0.1:9901", ["[::]:80"])


@pytest.mark.parametrize(("text", "said"), [("= 1", "line 1"), ("", "no listener")])
def test_a_configuration_that_cannot_be_read_is_told(tmp_path, text, said):
    conf = tmp_path / "conf.toml"
    conf.write_text(text)
    with pytest.raises(insurer.DemoError, match=said):
        insurer.addresses(conf)


def test_every_service_has_a_line_to_try():
    text = insurer.commands("http://127.0.0.1:8080", "http://127.0.0.1:9901", Path("/c.toml"), Path("/a.log"))
    names = {service.name for service in insurer.SERVICES}
    assert all(f"\n  {name} " in text for name in names)
    assert "ws://127.0.0.1:8080/v1/telematics/stream" in text
    assert len(names) == 7
    assert len({service.offset for service in insurer.SERVICES}) == 9
