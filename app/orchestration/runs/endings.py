"""Whether a run has ended, if need be because its process is dead; and what is said of it then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import orjson
import structlog

from app.core.errors import ErrorReport, NotFound
from app.core.run_events import RunFailed, RunFinished
from app.core.run_fold import RunFold, unfold
from app.core.run_json import event_parts, json_bytes, payload
from app.core.runs import OrchestrationOutput, RunStatus
from app.observability.metrics import RUNS_LOST, run_ended
from app.orchestration.approving.approvals import Approvals
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.taking import read_paused
from app.state.run_records import PAUSED, Record, RunRecords, Standing

_log = structlog.get_logger("quorum.run")


class Endings:
    """Knows of runs whether they have ended, and ends those of dead processes."""

    def __init__(self, host: RunHost, records: RunRecords, approvals: Approvals) -> None:
        self._approvals = approvals
        self._host = host
        self._records = records

    async def settled(self, tenant: str, run_id: str) -> bool:
        """Whether the run has ended, if need be because its owner is dead, which is noted then.

        Raises:
            NotFound: nothing of that id is kept for `tenant`.
        """
        standing = await self._records.look(tenant, run_id)
        if standing is None:
            raise unknown(run_id)
        if not standing.goes_on:
            return True
        return standing.lost and await self.lose(tenant, run_id, standing, 0)

    async def lose(self, tenant: str, run_id: str, standing: Standing, after: int) -> bool:
        """End a run that has lost its process, after event `after`. False where somebody else has done it, or it is gone."""
        record = await self._records.get(tenant, run_id)
        if record is None:
            return False
        message = "the process that ran this died, and nobody has gone on with it; ask again"
        report = ErrorReport("OrchestratorError", "owner_lost", message)
        known = known_of(record, report)
        members: dict[str, Any] = {"error": report, "status": "failed", "timing": known.timing, "result": known}
        head, tail = event_parts("run.failed", run_id, members)
        result = json_bytes(known)
        keep_ms = self._host.config.events_keep_s * 1000
        ended = await self._records.lose(
            tenant, run_id, standing.epoch, ("run.failed", head, tail), result, after=after, events_keep_ms=keep_ms
        )
        if ended:
            RUNS_LOST.inc()
            self._approvals.over(tenant, run_id)
            _log.warning("a run has lost its process", run_id=run_id)
        return ended

    async def close(self, tenant: str, run_id: str, error: ErrorReport | None) -> bool:
        """End a run that is paused: as failed with `error`, else as cancelled. False where it is not paused any more."""
        standing = await self._records.look(tenant, run_id)
        if standing is None or standing.status != PAUSED:
            return False
        _, content = await self._records.paused(tenant, run_id)
        before = read_paused(content)
        if before is None:
            return False
        before = replace(before, approvals=await self._approvals.standing(tenant, before.approvals))
        fold = RunFold(run_id)
        for event in unfold(before):
            fold.add(event)
        end = RunFailed(error, timing=before.timing) if error else RunFinished("cancelled", endings=(), timing=before.timing)
        fold.add(end)
        end = replace(end, result=fold.result())
        told = (end.type, *event_parts(end.type, run_id, payload(end)))
        keep_s = self._host.config.events_keep_s
        closed = await self._records.close(tenant, run_id, standing.epoch, told, (end.status, json_bytes(end.result)), keep_s)
        if closed:
            run_ended(end)
        return closed


def known_of(record: Record, error: ErrorReport | None = None) -> OrchestrationOutput:
    """The result of a run of which only the record is known."""
    about = orjson.loads(record.request)
    return OrchestrationOutput(
        record.run_id,
        cast("RunStatus", "failed" if error else record.status),
        record.strategy,
        recipe=record.recipe,
        error=error,
        metadata=about.get("metadata") or {},
        request_id=about.get("request_id") or "",
        trace_id=about.get("trace_id"),
        created_at=record.created_at,
        conversation_id=about.get("conversation_id"),
    )


def unknown(run_id: str) -> NotFound:
    """What is said of a run that is not kept."""
    message = f"no run {run_id!r} is kept; runs that answer with JSON or in OpenAI's dialect are not, and others expire"
    return NotFound(message, param="id")
