from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from app.config.spec import KeyConfig
from app.core.clock import SystemClock
from app.core.errors import InvalidRequest, NotFound
from app.core.principal import SCOPES, Principal
from app.state.api_keys import ApiKeys
from app.state.client import StateClient
from app.state.key_ring import KeyRing
from app.state.keys import API_KEYS
from app.state.secrets import Secret
from tests.support.valkey import running_valkey, server_pid


class TurnedClock:
    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def keys(state: StateClient, secret: Secret) -> ApiKeys:
    return ApiKeys(state, secret, SystemClock())


@asynccontextmanager
async def ring_of(state: StateClient, secret: Secret, clock: Any = None, **options: Any) -> AsyncIterator[KeyRing]:
    ring = KeyRing(state, secret, clock or SystemClock(), **options)
    await ring.start()
    try:
        yield ring
    finally:
        await ring.close()


async def within(seconds: float, true: Callable[[], bool]) -> None:
    """Fails where `true` has not come true after `seconds`."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.002)


async def test_a_key_opens_for_its_tenant_and_is_stored_as_a_hash_only(
    keys: ApiKeys, state: StateClient, secret: Secret
) -> None:
    key, plain = await keys.create(name="ci", tenant="acme", scopes=["run", "read"])
    assert plain.startswith("qk_")
    async with ring_of(state, secret) as ring:
        assert ring.find(plain) == Principal("acme", key.id, "ci", frozenset({"run", "read"}))
        assert ring.find(plain + "x") is None
        assert ring.find("") is None
        assert ring.find("\ud800") is None
    everything = b"".join([await state.commands.dump(name) for name in await state.commands.keys()])
    assert plain.encode() not in everything
    assert plain[3:20].encode() not in everything


async def test_a_revocation_reaches_the_ring_of_another_replica_within_a_second(
    keys: ApiKeys, state: StateClient, secret: Secret
) -> None:
    key, plain = await keys.create(name="ci", tenant="acme", scopes=["run"])
    other = StateClient(f"unix://{state.where.removeprefix('unix://')}")
    async with ring_of(other, secret) as ring:
        assert ring.find(plain) is not None
        await keys.revoke(key.id)
        await within(1.0, lambda: ring.find(plain) is None)
        _, second = await keys.create(name="new", tenant="acme", scopes=["run"])
        await within(1.0, lambda: ring.find(second) is not None)
    await other.close()


async def test_a_change_whose_push_is_lost_is_found_by_the_poll(keys: ApiKeys, state: StateClient, secret: Secret) -> None:
    key, plain = await keys.create(name="ci", tenant="acme", scopes=["run"])
    async with ring_of(state, secret) as ring:
        assert ring.find(plain) is not None
        await state.commands.hdel(API_KEYS.records, key.id)
        await state.commands.incr(API_KEYS.version)
        await within(1.0, lambda: ring.find(plain) is None)


async def test_the_ring_serves_on_while_redis_is_away_and_catches_up_afterwards(secret: Secret) -> None:
    with running_valkey() as valkey:
        state = StateClient(valkey.url)
        keys = ApiKeys(state, secret, SystemClock())
        key, plain = await keys.create(name="ci", tenant="acme", scopes=["run"])
        async with ring_of(state, secret) as ring:
            pid = server_pid(valkey.data_dir)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await asyncio.to_thread(lambda: [None for _ in iter(valkey.alive, False)])
            assert not await state.ping()
            assert ring.find(plain) is not None
            valkey.start()
            await keys.revoke(key.id)
            await within(2.0, lambda: ring.find(plain) is None)
        await state.close()


async def test_a_ring_that_never_reached_redis_knows_the_configured_keys_and_stays_closed(secret: Secret) -> None:
    state = StateClient("redis://127.0.0.1:1")
    configured = [KeyConfig(name="app", key=SecretStr("from-the-file"), tenant="acme")]
    async with ring_of(state, secret, configured=configured, admin_key="from-the-environment") as ring:
        assert not ring.loaded
        assert not ring.open
        found = ring.find("from-the-file")
        assert found == Principal("acme", "config:app", "app", frozenset({"run", "read"}))
        admin = ring.find("from-the-environment")
        assert admin is not None
        assert admin.scopes == SCOPES
    await state.close()


async def test_another_configuration_replaces_its_keys_at_once(state: StateClient, secret: Secret) -> None:
    async with ring_of(state, secret, configured=[KeyConfig(name="a", key=SecretStr("first"))]) as ring:
        assert ring.find("first") is not None
        ring.configure([KeyConfig(name="b", key=SecretStr("second"))])
        assert ring.find("first") is None
        assert ring.find("second") is not None


async def test_an_expired_key_opens_nothing(state: StateClient, secret: Secret) -> None:
    clock = TurnedClock(1_000.0)
    keys = ApiKeys(state, secret, clock)
    _, plain = await keys.create(name="ci", tenant="acme", scopes=["run"], expires_at=1_060.0)
    async with ring_of(state, secret, clock) as ring:
        assert ring.find(plain) is not None
        clock.time = 1_060.0
        assert ring.find(plain) is None
        assert not ring.open
    with pytest.raises(InvalidRequest, match="still to come"):
        await keys.create(name="ci", tenant="acme", scopes=["run"], expires_at=1_060.0)


async def test_the_service_is_open_only_until_there_ever_was_a_key(keys: ApiKeys, state: StateClient, secret: Secret) -> None:
    async with ring_of(state, secret) as ring, ring_of(state, secret, may_open=False) as public:
        assert ring.open
        assert not public.open
        key, plain = await keys.create(name="ci", tenant="acme", scopes=["run"])
        await within(1.0, lambda: not ring.open and ring.find(plain) is not None)
        await keys.revoke(key.id)
        await within(1.0, lambda: ring.find(plain) is None)
        assert not ring.open


async def test_an_unreadable_record_opens_nothing_and_hides_no_other(
    keys: ApiKeys, state: StateClient, secret: Secret, caplog: pytest.LogCaptureFixture
) -> None:
    await state.commands.hset(API_KEYS.records, "key_bad", "{")
    key, plain = await keys.create(name="ci", tenant="acme", scopes=["run"])
    assert [each.id for each in await keys.all()] == [key.id]
    async with ring_of(state, secret) as ring:
        assert ring.find(plain) is not None
    assert "key_bad" in caplog.text


async def test_what_a_key_may_not_be_is_refused(keys: ApiKeys) -> None:
    for wrong in ({"scopes": ["fly"]}, {"scopes": []}, {"tenant": "a{b}"}, {"name": ""}):
        with pytest.raises(InvalidRequest):
            await keys.create(**{"name": "ci", "tenant": "acme", "scopes": ["run"], **wrong})
    with pytest.raises(NotFound, match="no API key 'key_x'"):
        await keys.revoke("key_x")


async def test_revoking_twice_keeps_the_first_time(state: StateClient, secret: Secret) -> None:
    clock = TurnedClock(1_000.0)
    keys = ApiKeys(state, secret, clock)
    key, _ = await keys.create(name="ci", tenant="acme", scopes=["run"])
    await keys.revoke(key.id)
    clock.time = 2_000.0
    await keys.revoke(key.id)
    assert [each.revoked_at for each in await keys.all()] == [1_000.0]


async def test_looking_up_a_key_again_costs_microseconds(keys: ApiKeys, state: StateClient, secret: Secret) -> None:
    _, plain = await keys.create(name="ci", tenant="acme", scopes=["run"])
    async with ring_of(state, secret) as ring:
        ring.find(plain)
        best = min(_seconds(lambda: [ring.find(plain) for _ in range(1_000)]) for _ in range(20)) / 1_000
    assert best < 2e-6


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
