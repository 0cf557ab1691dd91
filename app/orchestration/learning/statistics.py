"""Counts how models and strategies do, and tells all replicas in batches. Nothing waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.config.spec import LearningConfig
from app.core.errors import StateUnavailable
from app.core.runs import OrchestrationOutput, RunRequest
from app.orchestration.learning.history import (
    CALIBRATION,
    OF_MODELS,
    Amounts,
    Sums,
    add,
    faded,
    of_confidence,
    of_judgement,
)
from app.orchestration.learning.judging import Judgements, outcome
from app.orchestration.learning.tally import Tally, count
from app.orchestration.learning.taught import Noted, Taught
from app.state.flusher import Flusher
from app.state.history import MOST_RECORDS, HistoryStore
from app.state.keys import SHARED

MOST_SCOPES: Final = 1_000
"""Tenants whose counts wait for Redis while it is away; those of others are lost."""


@dataclass(slots=True)
class _Batch:
    number: int
    amounts: dict[str, Amounts]


class Statistics:
    """The counts of one process on their way to all.

    Parameters:
        config: in force now; may be replaced.
    """

    def __init__(self, store: HistoryStore, config: LearningConfig) -> None:
        self.config = config
        self._store = store
        self._tallies: dict[str, dict[str, Tally]] = {}
        self._waiting: dict[str, dict[str, Amounts]] = {}
        self._under_way: dict[str, _Batch] = {}
        self._numbers = 0
        self._flusher = Flusher("statistics", self.flush)

    def start(self) -> None:
        self._flusher.start()

    async def close(self) -> None:
        await self._flusher.close()

    def ended(self, request: RunRequest, result: OrchestrationOutput, taught: Taught | None, category: str | None) -> None:
        """Count a run (an `Observer`)."""
        tallies = self._tallies.get(request.tenant)
        if tallies is None:
            if len(self._tallies) >= MOST_SCOPES:
                return
            tallies = self._tallies[request.tenant] = {}
        if len(tallies) < MOST_RECORDS:
            count(tallies, result, category)

    def judged(self, tenant: str, run: Noted, before: Judgements, after: Judgements) -> None:
        """Count what is said of `run` now in place of what was said before."""
        self._count(tenant, of_judgement(run, before, after))
        if run.confidence is None:
            return
        for right, sign in ((outcome(run, before), -1), (outcome(run, after), 1)):
            if right is not None:
                self._count(tenant, {CALIBRATION: of_confidence(run.confidence, right=right, times=sign)})

    def _count(self, tenant: str, amounts: dict[str, Amounts]) -> None:
        sums = self._waiting.get(tenant)
        if sums is None:
            if len(self._waiting) >= MOST_SCOPES:
                return
            sums = self._waiting[tenant] = {}
        for field, own in amounts.items():
            if field in sums or len(sums) < MOST_RECORDS:
                add(sums, field, own)

    async def flush(self) -> None:
        """Tell Redis what was counted. What it does not take is told again, and counts once."""
        tallies, self._tallies = self._tallies, {}
        for tenant, own in tallies.items():
            self._count(tenant, {field: tally.amounts() for field, tally in own.items()})
        tenants = [scope for scope in self._waiting if scope != SHARED and scope not in self._under_way]
        told = {tenant: self._waiting.pop(tenant) for tenant in tenants}
        for field, own in self._for_all(told):
            add(self._waiting.setdefault(SHARED, {}), field, own)
        if SHARED in self._waiting and SHARED not in self._under_way:
            told[SHARED] = self._waiting.pop(SHARED)
        for scope, amounts in told.items():
            self._numbers += 1
            self._under_way[scope] = _Batch(self._numbers, amounts)
        for scope, batch in list(self._under_way.items()):
            try:
                await self._store.add(scope, batch.number, batch.amounts, half_life_s=self.config.half_life_s)
            except StateUnavailable:
                return
            del self._under_way[scope]

    def _for_all(self, told: dict[str, dict[str, Amounts]]) -> list[tuple[str, Amounts]]:
        """What all tenants have in common: how models answer; what was said of them only where tenants share that."""
        return [
            (field, own)
            for amounts in told.values()
            for field, own in amounts.items()
            if self.config.share or field.startswith(OF_MODELS)
        ]

    async def read(self, scope: str) -> dict[str, Sums]:
        """What the records of a scope say now.

        Raises:
            StateUnavailable: Redis is away.
        """
        records = await self._store.read(scope)
        return {field: faded(record.amounts, record.age_s, self.config.half_life_s) for field, record in records.items()}
