"""The audit trail of server processes that append at once, that are killed amid it, and of a store that fails over."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import redis

from app.state.audit import AuditStore
from app.state.client import StateClient
from app.state.secrets import Secret
from app.tools.audit.chain import USE, SigningKey, public_keys
from app.tools.audit.verifying import Fault, Verifier
from tests.faults.test_redis_shapes import SHAPES, Shape, primaries
from tests.support.clients import http_client
from tests.support.loopback import Loopback, as_json
from tests.support.openai_wire import completion
from tests.support.processes import processes
from tests.support.service import Service, eventually, processes_of, service
from tests.support.serving import serving, upstream
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.timeout(180)

SECRET = "x" * 32
KEYS = public_keys([SigningKey(Secret(SECRET).key_for(USE)).public])
KILLS = 8
PROMOTED_WITHIN_S = 13.0


async def read(url: str, tenant: str = "default") -> tuple[list[dict[str, Any]], Fault | None, Verifier]:
    """The records, and what is wrong with them."""
    state = StateClient(url)
    verifier = Verifier(KEYS, tenant=tenant)
    verifier.begin(None)
    records: list[dict[str, Any]] = []
    while rows := await AuditStore(state).newer(tenant, len(records), 1_000):
        for seq, line in rows:
            verifier.add(line, place=seq)
            records.append(orjson.loads(line))
    await state.close()
    return records, verifier.finish(), verifier


async def acts(url: str, name: str, count: int) -> list[str]:
    """Registers and removes providers; the names of those whose removal was answered."""
    done: list[str] = []
    async with http_client(url, timeout_s=10) as client:
        for number in range(count):
            body = {"name": f"{name}-{number}", "kind": "mock"}
            try:
                assert (await client.post("/v1/providers", json=body)).status_code == 201
                assert (await client.delete(f"/v1/providers/{name}-{number}")).status_code == 204
            except httpx.TransportError:
                break
            done.append(f"{name}-{number}")
    return done


def url_of_store(one: Service) -> str:
    environment = Path(f"/proc/{one.process.pid}/environ").read_bytes().split(b"\0")
    return next(entry for entry in environment if entry.startswith(b"QUORUM_REDIS_URL=")).decode().partition("=")[2]


@pytest.mark.timeout(120)
async def test_two_servers_append_to_one_unbroken_chain(tmp_path: Path) -> None:
    async with Loopback(as_json(completion("fine"))) as provider, processes(tmp_path, provider) as servers:
        began = time.perf_counter()
        found = await asyncio.gather(*(acts(one.url, f"s{at}-{n}", 10) for at, one in enumerate(servers) for n in range(4)))
        took = time.perf_counter() - began
        records, fault, verifier = await read(url_of_store(servers[0]))

    assert fault is None
    assert verifier.unfinished == ()
    assert len(records) == 4 * sum(len(names) for names in found) == 320
    decisions = Counter((record["subject"]["id"], record["action"], record["decision"]) for record in records)
    assert set(decisions.values()) == {1}
    print(f"two servers, 8 clients: {len(records)} records in {took:.2f} s, {took / 160 * 8 * 1000:.1f} ms an act")


@pytest.mark.timeout(180)
async def test_a_server_killed_amid_appends_leaves_a_chain_that_holds(tmp_path: Path) -> None:
    """Every act that was answered is in it, and of one that was not there is at least its beginning, if it had an effect."""
    rng = random.Random(7)
    answered: list[str] = []
    with running_valkey() as store:
        for turn in range(KILLS):
            place = tmp_path / f"server-{turn}"
            place.mkdir()
            options: dict[str, object] = {"redis_url": store.url, "secret": SECRET, "log_level": "error"}
            with service(place, factory="app.main:create_app", ready=False, **options) as one:
                await asyncio.to_thread(one.wait_ready)
                clients = [asyncio.create_task(acts(one.url, f"k{turn}-{n}", 1_000)) for n in range(3)]
                await asyncio.sleep(rng.uniform(0.05, 0.6))
                for pid in processes_of(place):
                    os.kill(pid, signal.SIGKILL)
                for names in await asyncio.gather(*clients):
                    answered += names
            records, fault, _ = await read(store.url)
            assert fault is None, fault
        _, _, verifier = await read(store.url)

    removed = {
        record["subject"]["id"] for record in records if (record["action"], record["decision"]) == ("provider.remove", "done")
    }
    begun = {record["subject"]["id"] for record in records if record["decision"] == "begun"}
    assert set(answered) <= removed <= begun
    assert len(verifier.unfinished) <= 3 * KILLS
    print(f"{KILLS} kills: {len(records)} records, {len(answered)} answered, {len(verifier.unfinished)} without an outcome")


@pytest.mark.timeout(120)
@SHAPES
async def test_a_primary_is_killed(tmp_path: Path, shape: Shape) -> None:
    """What the store had not passed on is lost with it; the chain says so itself, and goes on without a break."""
    key = {"Authorization": "Bearer sk-admin-0123456789"}
    with shape() as servers:
        config = {
            **upstream("http://127.0.0.1:9"),
            "keys": [{"name": "admin", "key": key["Authorization"][7:], "scopes": ["admin"]}],
        }
        async with serving(tmp_path, servers.url, config, secret=SECRET) as one:
            one.client.headers.update(key)

            async def act() -> int:
                return (await one.client.post("/v1/admin/reload")).status_code

            assert [await act() for _ in range(20)] == [200] * 20
            owner = [port for port in primaries(servers) if holds(port)]
            assert await asyncio.to_thread(eventually, lambda: all(has_replicas(port) for port in owner), within_s=20)
            assert [await act() for _ in range(20)] == [200] * 20
            before_ms, killed = time.time() * 1000, time.monotonic()
            for port in owner:
                await asyncio.to_thread(servers.kill, port)
            good, refused = 0, 0
            while good < 20:
                status = await act()
                assert status in (200, 503)
                good, refused = (good + 1, refused) if status == 200 else (0, refused + 1)
                assert time.monotonic() - killed < PROMOTED_WITHIN_S
            took = time.monotonic() - killed
        records, fault, verifier = await read(servers.url)

    assert fault is None, fault
    kept = sum(record["time_ms"] < before_ms for record in records)
    assert kept >= 40  # those that the replicas had before
    uncertain = [record["decision"] for record in records if record["decision"] in ("uncertain", "refused", "found")]
    print(f"{shape.__name__}, a primary killed: back after {took:.1f} s, {refused} refused, {Counter(uncertain)}")
    assert len(verifier.unfinished) <= 2


def holds(port: int) -> bool:
    """Whether a primary has the chain."""
    try:
        return bool(redis.Redis(port=port).exists("quorum:{audit:default}:records"))
    except redis.exceptions.ResponseError:  # another one has that slot
        return False


def has_replicas(port: int) -> bool:
    """Whether the replicas of a primary have what it has. (They begin to copy only after some seconds.)"""
    facts: Any = redis.Redis(port=port, decode_responses=True).info("replication")
    replicas = [facts[f"slave{number}"] for number in range(facts["connected_slaves"])]
    return all(one["state"] == "online" and one["offset"] == facts["master_repl_offset"] for one in replicas)
