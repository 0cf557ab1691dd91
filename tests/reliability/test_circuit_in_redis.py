"""The script that all replicas share decides as the pure state machine does, whatever happens in which order."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import app.state
from app.reliability.circuit import Circuit, Rules, Tally
from app.state.embedded import EmbeddedValkey
from tests.support.valkey import patient

RULES = Rules(
    window_ms=1_000, min_calls=4, failure_share=0.5, slow_share=0.75, open_ms=100, max_open_ms=400, probes=3, lease_ms=50
)
SCRIPT = (Path(app.state.__file__).parent / "scripts" / "breakers.lua").read_text()
TIME = "redis.call('TIME')"
TURNED = "{math.floor(redis.call('GET', 'clock') / 1000), (redis.call('GET', 'clock') % 1000) * 1000}"
PERMITS = st.sampled_from("abcdefgh")
JITTER = st.sampled_from([0.0, 0.25, 0.5, 0.75])


def test_the_clock_is_read_in_one_place() -> None:
    assert SCRIPT.count(TIME) == 1


class Both(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = patient(self.url)
        self.script = self.client.commands.register_script(SCRIPT.replace(TIME, TURNED))
        self.circuit = Circuit()
        self.now = 1_700_000_000_000

    def teardown(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()

    @initialize()
    def empty(self) -> None:
        self.runner.run(self.client.commands.flushall())
        self.tick(0)

    def call(self, operation: str, **more: Any) -> Any:
        entry = {"id": "x", "rules": asdict(RULES), "jitter": 0.5, "probes": [], "renew": [], "cool_ms": 0, **more}
        keys = ["quorum:{b}:r", "quorum:{b}:v", "quorum:{b}:w"]
        answer = self.runner.run(self.script(keys=keys, args=["quorum:{b}:c", operation, json.dumps([entry])]))
        return json.loads(answer)

    @rule(ms=st.sampled_from([0, 1, 7, 49, 50, 51, 90, 100, 110, 200, 500, 1_000]))
    def tick(self, ms: int) -> None:
        self.now += ms
        self.runner.run(self.client.commands.set("clock", self.now))

    @rule(
        old=st.sampled_from([0, 0, 0, 1]), calls=st.integers(0, 4), bad=st.integers(0, 4), slow=st.integers(0, 4), jitter=JITTER
    )
    def report(self, old: int, calls: int, bad: int, slow: int, jitter: float) -> None:
        tally = Tally(calls, min(calls, bad), calls, min(calls, slow))
        generation = self.circuit.generation - old
        self.circuit.report(self.now, RULES, generation, tally, jitter)
        self.call("report", generation=generation, tally=asdict(tally), jitter=jitter)

    @rule(permit=PERMITS)
    def ask(self, permit: str) -> None:
        assert self.call("ask", permit=permit)["grants"]["x"] == asdict(self.circuit.ask(self.now, RULES, permit))

    @rule(permit=PERMITS, old=st.sampled_from([0, 0, 0, 1]), verdict=st.sampled_from(["passed", "passed", "failed", "void"]))
    def settle(self, permit: str, old: int, verdict: Any) -> None:
        generation = self.circuit.generation - old
        self.circuit.settle(self.now, RULES, generation, permit, verdict, 0.5)
        self.call("report", probes=[{"generation": generation, "permit": permit, "verdict": verdict}])

    @rule(
        count=st.integers(1, 5),
        verdicts=st.lists(st.sampled_from(["passed", "passed", "passed", "failed", "void"]), max_size=4),
    )
    def probe(self, count: int, verdicts: list[str]) -> None:
        """Rarely met by chance: it trips, its time is over, several ask, some of them come back."""
        self.report(0, 4, 4, 0, 0.0)
        self.tick(max(0, self.circuit.until - self.now))
        for permit in "abcdefgh"[:count]:
            self.ask(permit)
        for permit, verdict in zip("abcdefgh", verdicts, strict=False):
            self.settle(permit, 0, verdict)

    @rule(permit=PERMITS)
    def renew(self, permit: str) -> None:
        self.circuit.renew(self.now, RULES, permit)
        self.call("report", renew=[permit])

    @rule(ms=st.integers(1, 300))
    def cool(self, ms: int) -> None:
        self.circuit.cool(self.now, ms)
        self.call("report", cool_ms=ms)

    @rule()
    def reset(self) -> None:
        self.circuit.reset()
        self.call("reset")

    @invariant()
    def they_are_the_same(self) -> None:
        record = self.call("read")["records"].get("x")
        circuit = self.circuit
        if record is None:
            assert (circuit.state, circuit.generation, circuit.cool_until) == ("closed", 0, 0)
            return
        assert record == {
            "state": circuit.state,
            "generation": circuit.generation,
            "until_ms": circuit.until,
            "trips": circuit.trips,
            "issued": circuit.issued,
            "passed": circuit.passed,
            "cool_until_ms": circuit.cool_until,
            "leases": circuit.leases,
        }
        assert circuit.issued <= RULES.probes


@pytest.mark.timeout(120)
def test_they_decide_the_same(valkey: EmbeddedValkey) -> None:
    Both.url = valkey.url
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(Both, settings=settings(max_examples=100, stateful_step_count=40, suppress_health_check=checks))
