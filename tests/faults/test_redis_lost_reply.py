"""Replies of Redis are lost, so that nobody knows whether a command was carried out: what is counted stays exact."""

from __future__ import annotations

import asyncio
from random import Random

from app.core.budgets import Amount, Claim, Limit
from app.core.errors import StateUnavailable
from app.orchestration.admission import Admission, Permit
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.ledger import Ledger
from tests.support.lossy_proxy import lossy_proxy

RUNS = 400
LIMITS = (
    Limit("usd_per_day", "tenant", 10**15),
    Limit("tokens_per_day", "key:a", 10**9),
    Limit("concurrent_runs", "tenant", RUNS + 1),
)


class Hurried:
    """A clock that is ten seconds later at each look, so that nobody waits before trying Redis again."""

    def __init__(self) -> None:
        self._time = 0.0

    def now(self) -> float:
        return self._time

    def monotonic(self) -> float:
        self._time += 10
        return self._time


async def test_counters_are_exact_when_replies_are_lost(valkey: EmbeddedValkey) -> None:
    rng = Random(7)
    truth = StateClient(valkey.url)
    await truth.commands.flushall()
    async with lossy_proxy(valkey.url) as proxy:
        state = StateClient(proxy.url)
        admission = Admission(Ledger(state), Hurried())
        spent, refused = Amount(), 0
        turns = asyncio.Semaphore(16)

        async def run(number: int) -> None:
            nonlocal spent, refused
            ask = Amount(rng.randint(1, 5_000), rng.randint(1, 10**9))
            async with turns:
                try:
                    permit: Permit = await admission.admit(Claim(f"run_{number}", "t", LIMITS, ask))
                except StateUnavailable:
                    refused += 1
                    return
                permit.begin()
                used = Amount(rng.randint(0, ask.tokens), rng.randint(0, ask.nano_usd))
                spent += used
                await permit.settle(used)

        await asyncio.wait_for(state.ping(), 5)
        proxy.share = 0.3
        await asyncio.gather(*(run(number) for number in range(RUNS)))
        proxy.share = 0.0
        await asyncio.gather(*(state.ping() for _ in range(64)))  # connections that were cut are made anew
        await admission.close()
        await state.close()

    verdict = await Ledger(truth).admit(Claim("look", "t", LIMITS), dry=True)
    dollars, tokens, running = (quota.remaining for quota in verdict.quotas)
    await truth.close()
    print(f"{proxy.lost} replies lost, {RUNS - refused} of {RUNS} runs admitted, {spent.tokens} tokens counted exactly")
    assert proxy.lost > 50
    assert 0 < refused < RUNS
    assert LIMITS[1].size - tokens == spent.tokens
    assert LIMITS[0].size - dollars == spent.nano_usd
    assert running == LIMITS[2].size
