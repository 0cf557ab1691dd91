"""Reliability test 4: the scripts decide as a reference model does, in whatever order things happen, with replies lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import app.state
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.idempotency import LEASE_S, Answered, Begun, Busy, IdempotencyRecords, Outcome, RequestId, Write

SCRIPTS = Path(app.state.__file__).parent / "scripts"
TIME = 'redis.call("TIME")'
TURNED = '{math.floor(redis.call("GET", "clock") / 1000), redis.call("GET", "clock") % 1000 * 1000}'
KEEP_S = 1_000_000
OWNERS = st.sampled_from(["w1", "w2", "w3"])
REQUESTS = st.sampled_from([RequestId("t", "a"), RequestId("t", "b"), RequestId("u", "a")])
WAITS_MS = st.one_of(st.integers(0, 40_000), st.sampled_from([0, 1, int(LEASE_S * 1000)]))


@dataclass
class Held:
    """A request as the model has it."""

    fingerprint: str
    owner: str
    epoch: int
    lease_until: int
    run_id: str
    pieces: list[bytes] = field(default_factory=list[bytes])
    done: bool = False


class TurnedClient(StateClient):
    """Its scripts read their clock from a key."""

    def script(self, name: str) -> Any:
        return self.commands.register_script((SCRIPTS / f"{name}.lua").read_text().replace(TIME, TURNED))


class Both(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = TurnedClient(self.url)
        self.records = IdempotencyRecords(self.client)
        self.model: dict[RequestId, Held] = {}
        self.operations = 0
        self.now = 1_000_000

    def teardown(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()

    @initialize()
    def empty(self) -> None:
        self.runner.run(self.client.commands.flushdb())
        self.runner.run(self.client.commands.set("clock", self.now))

    @rule(wait_ms=WAITS_MS)
    def wait(self, wait_ms: int) -> None:
        self.now += wait_ms
        self.runner.run(self.client.commands.set("clock", self.now))

    @rule(request=REQUESTS, owner=OWNERS, fingerprint=st.sampled_from(["x", "y", ""]), replies_lost=st.integers(0, 2))
    def begin(self, request: RequestId, owner: str, fingerprint: str, replies_lost: int) -> None:
        self.operations += 1
        operation, run_id = f"op{self.operations}", f"run{self.operations}"
        expected = self._begun(request, owner, fingerprint, run_id)
        for _ in range(1 + replies_lost):
            found = self.runner.run(
                self.records.begin(
                    request,
                    owner=owner,
                    operation=operation,
                    keep_s=KEEP_S,
                    fingerprint=fingerprint,
                    sealed=f"asked {run_id}",
                    run_id=run_id,
                )
            )
            assert found == expected

    def _begun(self, request: RequestId, owner: str, fingerprint: str, run_id: str) -> Outcome:
        held, lease_until = self.model.get(request), self.now + int(LEASE_S * 1000)
        if held is None:
            if not fingerprint:
                return "absent"
            self.model[request] = Held(fingerprint, owner, 1, lease_until, run_id)
            return Begun(1, run_id, f"asked {run_id}")
        if fingerprint and held.fingerprint != fingerprint:
            return "other"
        if held.done:
            return Answered(b"head", "run")
        if held.lease_until > self.now:
            return Busy((held.lease_until - self.now) / 1000)
        held.owner, held.epoch, held.lease_until, held.pieces = owner, held.epoch + 1, lease_until, []
        return Begun(held.epoch, held.run_id, f"asked {held.run_id}")

    @rule(
        request=REQUESTS,
        owner=OWNERS,
        epoch=st.integers(1, 3),
        pieces=st.lists(st.binary(min_size=1, max_size=3), max_size=3),
        end=st.sampled_from(["", "", "keep", "drop"]),
        release=st.booleans(),
        replies_lost=st.integers(0, 2),
    )
    def write(
        self, request: RequestId, owner: str, epoch: int, pieces: list[bytes], end: Any, release: bool, replies_lost: int
    ) -> None:
        held = self.model.get(request)
        ours = held is not None and (held.owner, held.epoch) == (owner, epoch)
        first = len(held.pieces) + 1 if held and not held.done else 1
        told = Write(request, owner, epoch, KEEP_S, b"head" if end else b"", "run", first, pieces, end, release and not end)
        for sent in range(1 + replies_lost):
            taken = self.runner.run(self.records.write([told]))
            assert taken == [ours and (sent == 0 or end != "drop")]
        if held is None or not ours or held.done:
            return
        if end == "drop":
            del self.model[request]
            return
        held.pieces += pieces
        held.done = end == "keep"
        held.lease_until = self.now + (0 if told.release else int(LEASE_S * 1000))

    @rule(request=REQUESTS, after=st.integers(0, 3))
    def read(self, request: RequestId, after: int) -> None:
        held = self.model.get(request)
        found = self.runner.run(self.records.pieces(request, after))
        assert [piece for _, piece in found] == (held.pieces[after:] if held else [])

    @rule()
    def look_for_dead_owners(self) -> None:
        """Whoever has no owner any more is found; who is found and has one is looked at for nothing."""
        due = set(self.runner.run(self.records.due(100)))
        dead = {request for request, held in self.model.items() if not held.done and held.lease_until <= self.now}
        assert dead <= due


def test_the_scripts_decide_as_the_model_does(valkey: EmbeddedValkey) -> None:
    Both.url = valkey.url
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Both, settings=settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=checks)
    )
