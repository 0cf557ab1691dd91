from __future__ import annotations

import socket

import pytest

from app.core.errors import ConfigError
from app.listening import bind, may_bind, urls


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST.", "::ffff:127.0.0.1"])
def test_loopback_may_always_be_served(host: str) -> None:
    assert may_bind(host, has_keys=False, insecure=False) is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.5", "10.0.0.1", "example.com", "localhost.evil.com", "fe80::1%eth0"]
)
def test_other_addresses_need_a_key_or_the_word_insecure(host: str) -> None:
    refusal = may_bind(host, has_keys=False, insecure=False)
    assert refusal is not None
    assert "quorum keys create" in refusal
    assert "--insecure" in refusal
    assert may_bind(host, has_keys=True, insecure=False) is None
    assert may_bind(host, has_keys=False, insecure=True) is None


def test_all_addresses_of_localhost_share_one_free_port() -> None:
    sockets = bind("localhost", 0)
    try:
        assert len({each.getsockname()[1] for each in sockets}) == 1
        assert f"http://127.0.0.1:{sockets[0].getsockname()[1]}" in urls(sockets)
    finally:
        for each in sockets:
            each.close()


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=rf"port {taken.getsockname()[1]} .*--port"):
            bind("127.0.0.1", taken.getsockname()[1])


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(ConfigError, match="'no such host'"):
        bind("no such host", 0)
