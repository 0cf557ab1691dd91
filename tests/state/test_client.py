from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from app.core.errors import ConfigError, StateUnavailable
from app.state.addresses import address
from app.state.client import StateClient, reaching_state, without_password
from app.state.embedded import EmbeddedValkey
from tests.support.valkey import running_valkey, server_pid


async def test_a_frozen_server_is_noticed_within_the_command_timeout() -> None:
    with running_valkey() as valkey:
        state = StateClient(valkey.url)
        assert await state.ping()
        pid = server_pid(valkey.data_dir)
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(StateUnavailable, match="does not answer"), reaching_state():
            await state.commands.get("x")
        assert 0.2 < time.monotonic() - started < 0.6
        assert not await state.ping()
        os.kill(pid, signal.SIGCONT)
        assert await state.ping()
        await state.close()


async def test_a_server_that_is_not_there_is_unavailable_at_once() -> None:
    state = StateClient("redis://127.0.0.1:1")
    with pytest.raises(StateUnavailable), reaching_state():
        await state.commands.get("x")
    await state.close()


async def test_a_wrong_command_is_not_mistaken_for_an_absent_server(state: StateClient) -> None:
    await state.commands.set("text", "x")
    with pytest.raises(Exception, match="WRONGTYPE"), reaching_state():
        await state.commands.lpush("text", "y")


async def test_a_server_that_evicts_is_warned_about(state: StateClient, valkey: EmbeddedValkey) -> None:
    assert await state.warnings() == ()
    await state.commands.config_set("maxmemory-policy", "allkeys-lru")
    try:
        (warning,) = await state.warnings()
    finally:
        await state.commands.config_set("maxmemory-policy", "noeviction")
    assert "'allkeys-lru'" in warning
    assert "noeviction" in warning


@pytest.mark.parametrize("url", ["http://x", "nonsense"])
def test_an_unknown_address_is_refused_with_what_would_be_right(url: str) -> None:
    with pytest.raises(ConfigError, match="redis://, rediss://, unix://"):
        StateClient(url)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis+sentinel://a,b", "names the service"),
        ("redis+sentinel://a/main/x", "is no database"),
        ("redis+sentinel://a/main?nonsense=1", "unknown option 'nonsense'"),
        ("redis+cluster://a/3", "one database"),
        ("redis+cluster://a:x", "is no address"),
        ("redis+cluster://a,:1", "is no address"),
    ],
)
def test_a_faulty_address_says_what_is_wrong(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        StateClient(url)


def test_an_address_is_taken_apart() -> None:
    found = address("rediss+sentinel://me:p%40ss@a:1,b,[::1]:2/main/3?ssl_ca_certs=/ca&sentinel_password=s")
    assert found.hosts == (("a", 1), ("b", 26379), ("::1", 2))
    assert (found.username, found.password, found.service, found.db, found.tls) == ("me", "p@ss", "main", 3, True)
    assert "p@ss" not in repr(found)


def test_an_address_is_shown_without_its_password() -> None:
    assert without_password("rediss://user:pa@ss@host:6380/2?password=x") == "rediss://host:6380/2"


async def test_a_cancelled_command_is_cancelled_whenever_that_comes(state: StateClient) -> None:
    async def commands() -> None:
        while True:
            await state.commands.get("x")

    for turns in range(200):
        task = asyncio.create_task(commands())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        _, going_on = await asyncio.wait([task], timeout=1)
        assert not going_on, f"the cancellation after {turns} turns of the loop was lost"
    await state.commands.set("mine", "1")
    assert await state.commands.get("mine") == b"1"
