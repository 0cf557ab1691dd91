from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.core.budgets import NOTHING, Amount, Claim, Limit
from app.core.errors import BudgetExceeded, LimitExceeded, StateUnavailable
from app.orchestration.admission import RECHECK_S, RENEW_S, Admission
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.ledger import LEASE_S, Ledger
from tests.support.valkey import running_valkey, server_pid


class TurnedClock:
    """It stands still until a test turns `time`."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time + 1e9

    def monotonic(self) -> float:
        return self.time


DAY = Limit("tokens_per_day", "tenant", 1_000)
MINUTE = Limit("requests_per_minute", "tenant", 4)
AT_ONCE = Limit("concurrent_runs", "key:a", 2)


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
async def state(valkey: EmbeddedValkey) -> AsyncIterator[StateClient]:
    client = StateClient(valkey.url)
    await client.commands.flushall()
    yield client
    await client.close()


@asynccontextmanager
async def frozen(valkey: EmbeddedValkey) -> AsyncIterator[None]:
    pid = server_pid(valkey.data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def claim(run: str, *limits: Limit, tokens: int = 0, least: int | None = None) -> Claim:
    return Claim(run, "t", limits, Amount(tokens), None if least is None else Amount(least))


async def test_what_a_run_did_not_use_is_there_again_when_it_is_over(state: StateClient) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    permit = await admission.admit(claim("a", DAY, tokens=900))
    with pytest.raises(BudgetExceeded, match=r"the tenant has 100 left of 1,000 a day; ask for less .* or later"):
        await admission.admit(claim("b", DAY, tokens=200))
    await permit.settle(Amount(50))
    await permit.settle(Amount(50))
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 950


async def test_what_can_never_be_admitted_is_not_told_to_wait(state: StateClient) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    with pytest.raises(BudgetExceeded) as refused:
        await admission.admit(claim("a", Limit("tokens_per_minute", "key:a", 10), tokens=11))
    assert refused.value.retry_after is None


async def test_a_limit_a_minute_says_when_to_come_again(state: StateClient) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    for number in range(4):
        await admission.admit(claim(f"run_{number}", MINUTE))
    with pytest.raises(LimitExceeded, match="the tenant may make 4 requests a minute, and has") as refused:
        await admission.admit(claim("late", MINUTE))
    assert refused.value.retry_after == pytest.approx(15, abs=1)
    assert refused.value.quotas[0].remaining == 0


async def test_while_the_store_is_frozen_limits_fall_to_a_local_share_and_budgets_refuse(
    state: StateClient, valkey: EmbeddedValkey
) -> None:
    clock = TurnedClock()
    admission = Admission(Ledger(state), clock, 0.5)
    async with frozen(valkey):
        permits = [await admission.admit(claim(f"run_{number}", MINUTE, AT_ONCE)) for number in range(1)]
        with pytest.raises(LimitExceeded):
            await admission.admit(claim("run_more", MINUTE, AT_ONCE))
        with pytest.raises(StateUnavailable, match="a daily budget cannot be checked"):
            await admission.admit(claim("money", DAY, tokens=1))
        await permits[0].settle(NOTHING)
        await admission.admit(claim("run_again", MINUTE, AT_ONCE))
    clock.time += RECHECK_S
    assert (await admission.admit(claim("money_again", DAY, tokens=1))).local is False


async def test_what_a_run_used_while_the_store_was_frozen_is_told_to_it_afterwards(
    state: StateClient, valkey: EmbeddedValkey
) -> None:
    clock = TurnedClock()
    admission = Admission(Ledger(state), clock)
    permit = await admission.admit(claim("a", DAY, tokens=900))
    async with frozen(valkey):
        await permit.settle(Amount(70))
    clock.time += RECHECK_S
    await admission.close()
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 930


async def test_a_claim_whose_reply_never_came_is_given_back(state: StateClient, valkey: EmbeddedValkey) -> None:
    clock = TurnedClock()
    admission = Admission(Ledger(state), clock)
    async with frozen(valkey):
        with pytest.raises(StateUnavailable):
            await admission.admit(claim("a", DAY, tokens=900))
    await state.ping()  # it is there again, and carries out what it was sent
    clock.time += RECHECK_S
    await admission.close()
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 1_000
    with pytest.raises(StateUnavailable, match="given up"):
        await Ledger(state).admit(claim("a", DAY, tokens=900))


async def test_who_takes_a_run_over_from_a_dead_process_goes_on_with_its_reservation(state: StateClient) -> None:
    dead, other = (Admission(Ledger(state), TurnedClock()) for _ in range(2))
    (await dead.admit(claim("a", DAY, AT_ONCE, tokens=900))).begin()
    permit = await other.admit(claim("a", DAY, AT_ONCE, tokens=900))
    assert permit.granted.tokens == 900
    await permit.settle(Amount(300))
    assert [quota.remaining for quota in (await other.would(claim("b", DAY, AT_ONCE))).quotas] == [700, 2]


async def test_who_takes_a_run_over_that_was_settled_reserves_anew_and_both_are_booked(state: StateClient) -> None:
    stopping, other = (Admission(Ledger(state), TurnedClock()) for _ in range(2))
    first = await stopping.admit(claim("a", DAY, AT_ONCE, tokens=900))
    await first.settle(Amount(50))
    second = await other.admit(claim("a", DAY, AT_ONCE, tokens=900))
    assert [quota.remaining for quota in second.quotas] == [50, 1]
    await second.settle(Amount(300))
    assert [quota.remaining for quota in (await other.would(claim("b", DAY, AT_ONCE))).quotas] == [650, 2]


async def test_a_permit_whose_run_never_begins_is_given_back(state: StateClient) -> None:
    clock = TurnedClock()
    admission = Admission(Ledger(state), clock)
    await admission.admit(claim("a", DAY, AT_ONCE, tokens=900))
    (await admission.admit(claim("b", DAY, AT_ONCE, tokens=50))).begin()
    clock.time += LEASE_S + 1
    await admission.renew()
    await admission.close()
    standing = await admission.would(claim("c", DAY, AT_ONCE))
    assert [quota.remaining for quota in standing.quotas] == [950, 1]


async def test_a_run_under_way_keeps_its_permit_and_one_of_a_dead_process_loses_it(state: StateClient) -> None:
    ledger = Ledger(state, lease_s=0.2)
    clock = TurnedClock()
    here, dead = Admission(ledger, clock), Admission(ledger, clock)
    (await here.admit(claim("a", AT_ONCE))).begin()
    (await dead.admit(claim("b", AT_ONCE))).begin()
    refused = 0
    async with asyncio.timeout(5):
        while True:
            await here.renew()
            try:
                await here.admit(claim("c", AT_ONCE))
            except LimitExceeded:
                refused += 1
            else:
                break
    assert refused
    with pytest.raises(LimitExceeded):
        await here.admit(claim("d", AT_ONCE))
    assert RENEW_S < LEASE_S


async def test_a_part_is_granted_to_a_run_that_ends_with_what_it_has(state: StateClient) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    await admission.admit(claim("a", DAY, tokens=900))
    assert (await admission.admit(claim("b", DAY, tokens=500, least=50))).granted == Amount(100)
    with pytest.raises(BudgetExceeded, match="the run may use 50 tokens and the tenant has 0 left"):
        await admission.admit(claim("c", DAY, tokens=500, least=50))


@asynccontextmanager
async def out_of_reach(state: StateClient, valkey: EmbeddedValkey) -> AsyncIterator[None]:
    """The store does not even take a connection, so nothing that is sent meanwhile gets there."""
    await state.commands.connection_pool.disconnect()
    async with frozen(valkey):
        yield


async def stopped(work: asyncio.Task[Any]) -> None:
    """Cancel `work` once it waits for the store."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert not work.done()
    work.cancel()
    await asyncio.wait([work])


async def test_a_run_that_is_cancelled_while_it_settles_gives_back_what_it_did_not_use(
    state: StateClient, valkey: EmbeddedValkey
) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    permit = await admission.admit(claim("a", DAY, tokens=900))
    async with out_of_reach(state, valkey):
        await stopped(asyncio.create_task(permit.settle(Amount(50))))
        permit.settle_later(Amount(50))
    await admission.close()
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 950


async def test_what_is_being_told_when_the_process_stops_is_told_all_the_same(
    state: StateClient, valkey: EmbeddedValkey
) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    permit = await admission.admit(claim("a", DAY, tokens=900))
    await admission.start()
    async with out_of_reach(state, valkey):
        permit.settle_later(Amount(50))
        for _ in range(20):
            await asyncio.sleep(0)
        closing = asyncio.create_task(admission.close())
        for _ in range(20):
            await asyncio.sleep(0)
    await closing
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 950


async def test_who_leaves_while_he_is_being_admitted_leaves_nothing_reserved(
    state: StateClient, valkey: EmbeddedValkey
) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    async with frozen(valkey):
        await stopped(asyncio.create_task(admission.admit(claim("a", DAY, tokens=900))))
    await admission.close()
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 1_000


async def test_a_call_beside_the_plan_reserves_for_itself_and_is_settled_by_itself(state: StateClient) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    permit = await admission.admit(claim("a", DAY, AT_ONCE, MINUTE, tokens=800))
    permit.begin()
    assert await admission.beside(permit.claim, Amount(300)) is None
    more = await admission.beside(permit.claim, Amount(150))
    assert more is not None
    standing = await admission.would(claim("b", DAY, AT_ONCE, MINUTE))
    assert [quota.remaining for quota in standing.quotas] == [50, 1, 3]  # neither a run nor a request more
    more.settle_later(Amount(10))
    await permit.settle(Amount(100))
    await admission.close()
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 890


async def test_who_no_longer_waits_for_a_call_beside_the_plan_has_nothing_reserved(
    state: StateClient, valkey: EmbeddedValkey
) -> None:
    admission = Admission(Ledger(state), TurnedClock())
    permit = await admission.admit(claim("a", DAY, tokens=100))
    async with frozen(valkey):
        await stopped(asyncio.create_task(admission.beside(permit.claim, Amount(150))))
    await permit.settle(NOTHING)
    await admission.close()
    assert (await admission.would(claim("b", DAY))).quotas[0].remaining == 1_000
