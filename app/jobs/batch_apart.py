"""Lines of batches whose runs are jobs by themselves: those that may wait for a person, or that do steps one after the other.

The part of such a line holds nobody while it waits: it is looked at again when the run has ended or waits for somebody, and
every `LOOK_S`. The run goes on in any process, as any background run does; its result becomes the line's.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

from app.core.errors import Gone, NotFound
from app.core.jobs import Priority, QueuedRequest
from app.core.run_reading import read_result
from app.core.runs import OrchestrationOutput
from app.jobs.background import BackgroundRuns
from app.orchestration.run import Run
from app.orchestration.runs.endings import known_of
from app.orchestration.runs.stored import StoredRuns
from app.state.run_records import UNDER_WAY, RunRecords

LOOK_S: Final = 30.0
"""How often a part is looked at whose lines wait: whoever ends one of them may have died before the part was told."""


@dataclass(frozen=True, slots=True)
class ApartLines:
    """Has such runs done, and tells how they stand."""

    background: BackgroundRuns
    runs: StoredRuns
    records: RunRecords

    @staticmethod
    def wants(run: Run) -> bool:
        """Whether a line's run is to be a job by itself."""
        return run.strategy.keeps_steps or run.strategy.may_pause(run.context)

    async def standing(self, run: Run, request: QueuedRequest, priority: Priority, *, known: bool) -> OrchestrationOutput:
        """What is known of a line's run, which is put into the queue where it is not `known` yet.

        Raises:
            Gone: it was known, and is deleted.
            StateUnavailable: Redis is away.
        """
        record = await self.records.get(run.request.tenant, run.id)
        if record is not None:
            ended = record.status not in UNDER_WAY and record.result is not None
            return read_result(record.result) if ended and record.result else known_of(record)
        if known:
            raise Gone(f"{run.id}, the run of this line, was deleted")
        return await self.background.put(run, request, priority)

    async def cancel(self, tenant: str, run_id: str) -> None:
        """The line of a run is not wanted any more."""
        with contextlib.suppress(NotFound):
            await self.runs.cancel(tenant, run_id)
