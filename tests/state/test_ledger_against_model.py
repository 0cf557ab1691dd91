"""The scripts that all replicas share count as the pure rules do, in whatever order things happen and however often sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import app.state
from app.core.budgets import NOTHING, Amount, Claim, Limit
from app.core.errors import StateUnavailable
from app.reliability.quotas import Counters
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.ledger import Ledger

SCRIPTS = Path(app.state.__file__).parent / "scripts"
TIME = 'redis.call("TIME")'
TURNED = '{math.floor(redis.call("GET", "clock") / 1000000), redis.call("GET", "clock") % 1000000}'
LEASE_S = 30.0
LIMITS = (
    Limit("usd_per_day", "tenant", 3_000_000_000_000),
    Limit("usd_per_day", "key:a", 1_000_000_000_007),
    Limit("tokens_per_day", "tenant", 5_000),
    Limit("requests_per_minute", "tenant", 7),
    Limit("tokens_per_minute", "key:a", 1_301),
    Limit("concurrent_runs", "tenant", 3),
)
RUNS = st.sampled_from([f"run_{number}" for number in range(12)])
TOKENS = st.integers(0, 1_600)
MONEY = st.integers(0, 1_200_000_000_000)
WAITS_MS = st.one_of(st.integers(0, 70_000), st.sampled_from([0, 1, LEASE_S * 1000, 3_600_000, 86_400_000])).map(int)


class TurnedClient(StateClient):
    """Its scripts read their clock from a key."""

    def script(self, name: str) -> Any:
        return self.commands.register_script((SCRIPTS / f"{name}.lua").read_text().replace(TIME, TURNED))


class Both(RuleBasedStateMachine):
    """The scripts in a real Valkey beside the pure rules."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = TurnedClient(self.url)
        self.ledger = Ledger(self.client, lease_s=LEASE_S)
        self.counters = Counters(lease_s=LEASE_S)
        self.claims: dict[tuple[str, str], Claim] = {}
        self.now_us = 1_700_000_000_000_000

    def teardown(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()

    @initialize()
    def empty(self) -> None:
        self.runner.run(self.client.commands.flushall())
        self.wait(0)

    @rule(ms=WAITS_MS)
    def wait(self, ms: int) -> None:
        self.now_us += ms * 1000
        self.runner.run(self.client.commands.set("clock", self.now_us))

    @rule(
        tenant=st.sampled_from(["one", "two"]),
        run=RUNS,
        tokens=TOKENS,
        money=MONEY,
        few=st.sets(st.sampled_from(LIMITS), min_size=1),
        part=st.one_of(st.none(), st.fractions(0, 1)),
        times=st.integers(1, 2),
        dry=st.booleans(),
    )
    def admit(self, tenant: str, run: str, tokens: int, money: int, few: set[Limit], part: Any, times: int, dry: bool) -> None:
        limits = tuple(limit for limit in LIMITS if limit in few)
        least = None if part is None else Amount(int(tokens * part), int(money * part))
        claim = self.claims.setdefault((tenant, run), Claim(run, tenant, limits, Amount(tokens, money), least))
        for _ in range(times):
            expected = self.counters.admit(claim, self.now_us, dry=dry)
            try:
                found = self.runner.run(self.ledger.admit(claim, dry=dry))
            except StateUnavailable:
                found = None
            if expected is None or found is None:
                assert found is expected
                continue
            assert (found.granted, found.refused_by) == (expected.granted, expected.refused_by)
            assert close(found.retry_after_s, expected.retry_after_s)
            for one, other in zip(found.quotas, expected.quotas, strict=True):
                assert one.remaining == other.remaining
                assert close(one.resets_s, other.resets_s)

    @rule(tenant=st.sampled_from(["one", "two"]), run=RUNS, tokens=TOKENS, money=MONEY, times=st.integers(1, 2))
    def settle(self, tenant: str, run: str, tokens: int, money: int, times: int) -> None:
        claim = self.claims.get((tenant, run), Claim(run, tenant, LIMITS))
        self.claims[tenant, run] = claim
        for _ in range(times):
            used = Amount(tokens, money)
            assert self.runner.run(self.ledger.settle(claim, used)) == self.counters.settle(claim, used, self.now_us)

    @rule(first=st.integers(500, 1_301), second=st.integers(1, 1_301), used=st.integers(0, 1_301), ms=st.integers(0, 60_000))
    def settle_after_a_while(self, first: int, second: int, used: int, ms: int) -> None:
        """Rarely met by chance: what a run reserved has drained in part, and another has come, when the first is settled."""
        minute = {LIMITS[4]}
        one, other, last = (f"run_{len(self.claims) + number}_after" for number in range(3))
        self.admit("one", one, first, 0, minute, None, 1, False)
        self.wait(ms)
        self.admit("one", other, second, 0, minute, None, 1, False)
        self.settle("one", one, min(first, used), 0, 1)
        self.admit("one", last, 1, 0, minute, None, 1, True)

    @rule(tenant=st.sampled_from(["one", "two"]), run=RUNS)
    def renew(self, tenant: str, run: str) -> None:
        claim = self.claims.get((tenant, run), Claim(run, tenant, LIMITS))
        assert self.runner.run(self.ledger.renew(claim)) == self.counters.renew(claim, self.now_us)


def close(one: float | None, other: float | None) -> bool:
    """Whether two times are the same but for the millisecond that the script rounds up to."""
    return one is other or (one is not None and other is not None and abs(one - other) <= 0.001)


def test_the_scripts_count_as_the_pure_rules_do(valkey: EmbeddedValkey) -> None:
    Both.url = valkey.url
    run_state_machine_as_test(
        Both,
        settings=settings(max_examples=60, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]),
    )


def test_the_clock_is_read_once_a_script() -> None:
    assert [(SCRIPTS / f"{name}.lua").read_text().count(TIME) for name in ("admit", "settle", "renew")] == [1, 1, 1]


async def test_a_claim_without_any_use_takes_nothing_of_tokens(state: StateClient) -> None:
    ledger = Ledger(state)
    claim = Claim("run_1", "t", LIMITS[2:3])
    verdict = await ledger.admit(claim)
    assert (verdict.granted, verdict.quotas[0].remaining) == (NOTHING, 5_000)


async def test_one_tenants_use_is_not_anothers(state: StateClient) -> None:
    ledger = Ledger(state)
    whole = Amount(5_000, 0)
    assert (await ledger.admit(Claim("run_1", "one", LIMITS[2:3], whole))).refused_by is None
    assert (await ledger.admit(Claim("run_2", "one", LIMITS[2:3], whole))).refused_by == LIMITS[2]
    assert (await ledger.admit(Claim("run_2", "two", LIMITS[2:3], whole))).refused_by is None
    assert await ledger.settle(Claim("run_1", "two", LIMITS[2:3]), NOTHING) is False
    assert (await ledger.admit(Claim("run_3", "one", LIMITS[2:3], whole))).refused_by == LIMITS[2]


async def test_all_that_is_stored_of_a_tenant_lies_in_one_slot_and_expires(state: StateClient) -> None:
    ledger = Ledger(state)
    claim = Claim("run_1", "t", LIMITS, Amount(10, 10))
    await ledger.admit(claim)
    keys = await state.commands.keys("*")
    assert {key.split(b"{")[1].split(b"}")[0] for key in keys} == {b"tenant:t"}
    assert all([await state.commands.pttl(key) > 0 for key in keys])
