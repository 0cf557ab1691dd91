"""Reliability test 4: the scripts decide as a reference model does, in whatever order things happen, with replies lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

import app.state
from app.state.client import StateClient
from app.state.embedded import EmbeddedValkey
from app.state.idempotency import (
    LEASE_S,
    Answered,
    Asked,
    Begun,
    Busy,
    IdempotencyRecords,
    Outcome,
    RequestId,
    Told,
    Write,
)

SCRIPTS = Path(app.state.__file__).parent / "scripts"
TIME = 'redis.call("TIME")'
TURNED = '{math.floor(redis.call("GET", "clock") / 1000), redis.call("GET", "clock") % 1000 * 1000}'
FORGET = 'redis.call("PEXPIRE", KEYS[1], ARGV[12])'
"""The mark of a drop goes after a while, by a clock that cannot be turned."""
KEEP_S = 1_000_000
REQUESTS = st.sampled_from([RequestId("t", "a"), RequestId("t", "b"), RequestId("u", "a")])
WAITS_MS = st.one_of(st.integers(0, 40_000), st.sampled_from([0, 1, int(LEASE_S * 1000)]))


@dataclass
class Held:
    """A request as the model has it."""

    asked: Asked
    operation: str
    epoch: int
    lease_until: int
    pieces: list[bytes] = field(default_factory=list[bytes])
    state: str = "running"


class TurnedClient(StateClient):
    """Its scripts read their clock from a key, and forget nothing by another."""

    def script(self, name: str) -> Any:
        text = (SCRIPTS / f"{name}.lua").read_text()
        assert FORGET in text or name != "idem_write"
        return self.commands.register_script(text.replace(TIME, TURNED).replace(FORGET, ""))


class Both(RuleBasedStateMachine):
    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = TurnedClient(self.url)
        self.records = IdempotencyRecords(self.client)
        self.model: dict[RequestId, Held] = {}
        self.known: defaultdict[RequestId, list[tuple[str, int, Asked]]] = defaultdict(list)
        self.operations = 0
        self.now = 1_000_000

    def teardown(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()

    @initialize()
    def empty(self) -> None:
        self.model.clear()
        self.runner.run(self.client.commands.flushdb())
        self.runner.run(self.client.commands.set("clock", self.now))

    @rule(wait_ms=WAITS_MS)
    def wait(self, wait_ms: int) -> None:
        self.now += wait_ms
        self.runner.run(self.client.commands.set("clock", self.now))

    @rule(request=REQUESTS, fingerprint=st.sampled_from(["x", "y", ""]), replies_lost=st.integers(0, 2))
    def begin(self, request: RequestId, fingerprint: str, replies_lost: int) -> None:
        self.operations += 1
        operation, run_id = f"op{self.operations}", f"run{self.operations}"
        asked = Asked(fingerprint, f"asked {run_id}", run_id) if fingerprint else None
        expected = self._begun(request, operation, asked)
        for _ in range(1 + replies_lost):
            found = self.runner.run(self.records.begin(request, operation=operation, keep_s=KEEP_S, asked=asked))
            assert found == expected

    def _begun(self, request: RequestId, operation: str, asked: Asked | None) -> Outcome:
        held, lease_until = self.model.get(request), self.now + int(LEASE_S * 1000)
        if held and held.state == "deleted":
            return "deleted"
        if held is None or held.state == "dropped":
            if asked is None:
                return "absent"
            self.model[request] = Held(asked, operation, 1, lease_until)
            self.known[request].append((operation, 1, asked))
            return Begun(operation, 1, asked.run_id, asked.sealed)
        if asked and held.asked.fingerprint != asked.fingerprint:
            return "other"
        if held.state == "done":
            return Answered(b"head", "run")
        if held.lease_until > self.now:
            return Busy((held.lease_until - self.now) / 1000)
        held.operation, held.epoch, held.lease_until, held.pieces = operation, held.epoch + 1, lease_until, []
        self.known[request].append((operation, held.epoch, held.asked))
        return Begun(operation, held.epoch, held.asked.run_id, held.asked.sealed)

    @rule(
        request=REQUESTS,
        which=st.integers(0, 3),
        pieces=st.lists(st.binary(min_size=1, max_size=3), max_size=3),
        skipped=st.sampled_from([0, 0, 0, 2]),
        end=st.sampled_from(["", "", "keep", "drop"]),
        release=st.booleans(),
        replies_lost=st.integers(0, 2),
    )
    def write(
        self,
        request: RequestId,
        which: int,
        pieces: list[bytes],
        skipped: int,
        end: Any,
        release: bool,
        replies_lost: int,
    ) -> None:
        """Of who has begun it last (0), or of who had before."""
        if which >= len(self.known[request]):
            return
        operation, epoch, asked = self.known[request][-1 - which]
        held = self.model.get(request)
        first = 1 + skipped + (len(held.pieces) if held and held.state == "running" else 0)
        told = Write(request, operation, epoch, KEEP_S, b"head" if end else b"", "run", first, pieces, end, release and not end)
        expected = self._written(told)
        for _ in range(1 + replies_lost):
            assert self.runner.run(self.records.write([told])) == [expected]
        if expected == "missing":  # all is told again
            whole = replace(told, first=1, pieces=[*(held.pieces if held else []), *pieces], again=asked)
            assert self._written(whole) == "ok"
            assert self.runner.run(self.records.write([whole])) == ["ok"]

    def _written(self, told: Write) -> Told:
        held = self.model.get(told.id)
        if held and held.state == "deleted":
            return "ok"
        others = held and (held.operation, held.epoch) != (told.operation, told.epoch)
        if others or (held and held.state == "dropped" and told.end != "drop"):
            return "lost"
        if held and held.state == "done":
            return "ok"
        if told.end == "drop":
            self.model[told.id] = Held(Asked("", "", ""), told.operation, told.epoch, 0, [], "dropped")
            return "ok"
        if told.first > 1 + (len(held.pieces) if held else 0) or not (held or told.again):
            return "missing"
        if held is None and told.again:
            held = self.model[told.id] = Held(told.again, told.operation, told.epoch, 0)
        assert held
        held.pieces += list(told.pieces)[len(held.pieces) - told.first + 1 :]
        held.state = "done" if told.end == "keep" else "running"
        held.lease_until = self.now + (0 if told.release else int(LEASE_S * 1000))
        return "ok"

    @rule(request=REQUESTS, which=st.integers(0, 3), other=st.booleans())
    def delete(self, request: RequestId, which: int, other: bool) -> None:
        if which >= len(self.known[request]):
            return
        held, run_id = self.model.get(request), "another" if other else self.known[request][-1 - which][2].run_id
        self.runner.run(self.records.delete(request, run_id))
        if held and held.asked.run_id == run_id:
            held.state, held.pieces, held.asked = "deleted", [], Asked("", "", "")

    @rule()
    def lose_all(self) -> None:
        """The store is emptied."""
        self.empty()

    @rule(request=REQUESTS, after=st.integers(0, 3))
    def read(self, request: RequestId, after: int) -> None:
        held = self.model.get(request)
        found = self.runner.run(self.records.pieces(request, after))
        assert [piece for _, piece in found] == (held.pieces[after:] if held else [])

    @rule()
    def look_for_dead_owners(self) -> None:
        """Whoever has no owner any more is found; who is found and has one is looked at for nothing."""
        due = set(self.runner.run(self.records.due(100)))
        dead = {request for request, held in self.model.items() if held.state == "running" and held.lease_until <= self.now}
        assert dead <= due


def test_the_scripts_decide_as_the_model_does(valkey: EmbeddedValkey) -> None:
    Both.url = valkey.url
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Both, settings=settings(max_examples=60, stateful_step_count=40, suppress_health_check=checks)
    )
