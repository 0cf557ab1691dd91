"""Reliability tests 5 and 6: breakers over replicas. Few probes whatever dies, and everybody refuses within a second."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from app.config.spec import CircuitBreakerConfig
from app.reliability.breakers import Breaker, Breakers
from app.reliability.circuit import Rules, Tally, rules_of
from app.state.breakers import BreakerStore
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from tests.support.clocks import SkewedClock
from tests.support.serving import until
from tests.support.valkey import running_valkey, server_pid

REPLICAS = 8
RULES = rules_of(CircuitBreakerConfig(open_s=0.3, max_open_s=0.3, probe_lease_s=0.2))


class Replica:
    """One process's breakers, and the breaker of one model."""

    def __init__(self, url: str, number: int, rules: Rules = RULES) -> None:
        self.state = StateClient(url)
        self.breakers = Breakers(
            BreakerStore(self.state), SkewedClock(3600 * (number - 4), up_s=3600 * (number + 1)), Random(number)
        )
        self.breaker: Breaker = self.breakers.of("p", "m", "", rules)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Replica]:
        await self.breakers.start()
        try:
            yield self
        finally:
            await self.breakers.close()
            await self.state.close()

    def fail(self, times: int) -> None:
        self.breaker.record(self.breaker.circuit.generation, Tally(times, times))

    def refuses(self) -> bool:
        return self.breaker.circuit.state != "closed"


@asynccontextmanager
async def replicas(url: str, rules: Rules = RULES) -> AsyncIterator[list[Replica]]:
    made = [Replica(url, number, rules) for number in range(REPLICAS)]
    await made[0].state.commands.flushall()
    async with AsyncExitStack() as stack:
        for replica in made:
            await stack.enter_async_context(replica.running())
        yield made


@pytest.mark.parametrize("push", [True, False], ids=["pushed", "push lost"])
async def test_every_replica_refuses_within_a_second(valkey: EmbeddedValkey, push: bool) -> None:
    """Twenty failures spread over the replicas: none has seen enough by itself, and their clocks are hours apart."""
    async with replicas(valkey.url) as all_of_them:
        if not push:
            await all_of_them[0].state.commands.client_kill_filter(_type="pubsub")
        began = time.monotonic()
        for replica in all_of_them[:4]:
            replica.fail(5)
        await until(lambda: all(replica.refuses() for replica in all_of_them), within_s=1.0)
        took = time.monotonic() - began
        print(f"cb-spread: {REPLICAS} replicas refuse after {took * 1000:.0f} ms ({'pushed' if push else 'push lost'})")
        assert {replica.breaker.circuit.generation for replica in all_of_them} == {1}
        left = [replica.breaker.open_s() for replica in all_of_them]
        assert all(0 <= seconds <= 0.35 for seconds in left)


async def test_a_pause_reaches_every_replica_within_a_second(valkey: EmbeddedValkey) -> None:
    async with replicas(valkey.url) as all_of_them:
        began = time.monotonic()
        all_of_them[0].breaker.cool(30)
        await until(lambda: all(replica.breaker.cooling_s() > 25 for replica in all_of_them), within_s=1.0)
        print(f"pause: known to {REPLICAS} replicas after {(time.monotonic() - began) * 1000:.0f} ms")
        await all_of_them[3].breakers.reset("p:m")
        await until(lambda: not any(replica.breaker.cooling_s() for replica in all_of_them), within_s=1.0)


async def test_probes_are_three_an_epoch_and_never_stuck_though_probers_die(valkey: EmbeddedValkey) -> None:
    """Who asks for a probe dies with it: its permit is neither settled nor renewed. At last the provider is well."""
    granted: Counter[int] = Counter()
    async with replicas(valkey.url) as all_of_them:
        for replica in all_of_them:
            replica.fail(5)
        await until(lambda: all(replica.refuses() for replica in all_of_them), within_s=1.0)
        healthy_from = time.monotonic() + 2.0

        async def callers(replica: Replica) -> None:
            while replica.refuses():
                grant, permit = await replica.breaker.ask()
                if grant.probe:
                    if not replica.breakers.local:  # nobody can count who probes without the store
                        granted[grant.generation] += 1
                    if time.monotonic() < healthy_from:
                        replica.breaker.probes.pop(permit)  # as if its process had been killed: nobody renews it
                    else:
                        replica.breaker.settle(grant.generation, permit, "passed")
                await asyncio.sleep(0.005)

        async with asyncio.timeout(10):
            await asyncio.gather(*(callers(replica) for replica in all_of_them for _ in range(3)))
        print(
            f"cb-probes: {REPLICAS} replicas, {sum(granted.values())} probes in {len(granted)} epochs, "
            f"at most {max(granted.values())} in one; closed again"
        )
        assert max(granted.values()) == 3
        assert len(granted) >= 4  # the dead ones' epochs came to an end
        assert {replica.breaker.circuit.state for replica in all_of_them} == {"closed"}


async def test_a_long_probe_keeps_its_permit_as_long_as_its_process_lives(valkey: EmbeddedValkey) -> None:
    rules = replace(RULES, lease_ms=1_000)
    async with replicas(valkey.url, rules) as all_of_them:
        first = all_of_them[0]
        first.fail(20)
        await until(lambda: all(replica.refuses() for replica in all_of_them), within_s=1.0)
        await until(lambda: not any(replica.breaker.open_s() for replica in all_of_them))
        probes = [await replica.breaker.ask() for replica in all_of_them[:3]]
        assert all(grant.probe for grant, _ in probes)
        await asyncio.sleep(3 * rules.lease_ms / 1000)  # longer than a lease: what is tested is that time goes by
        grant, _ = await all_of_them[4].breaker.ask()
        assert not grant.admitted


async def test_while_redis_is_frozen_each_replica_decides_by_itself_and_agrees_again_afterwards() -> None:
    with running_valkey() as server:
        pid = server_pid(server.data_dir)
        assert pid is not None
        async with replicas(server.url) as all_of_them:
            first, second = all_of_them[:2]
            os.kill(pid, signal.SIGSTOP)
            first.fail(20)
            await until(first.refuses, within_s=2.0)
            assert first.breakers.local
            assert not second.refuses()
            os.kill(pid, signal.SIGCONT)
            began = time.monotonic()
            await until(lambda: not first.breakers.local, within_s=5.0)
            print(f"breakers are shared again {(time.monotonic() - began) * 1000:.0f} ms after Redis came back")
            second.fail(20)
            await until(lambda: first.refuses() and second.refuses(), within_s=1.0)
