"""Whether a run has ended, if need be because its process is dead; and what is said of it then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import orjson
import structlog

from app.core.errors import ErrorReport, NotFound
from app.core.run_events import RunFailed, RunFinished
from app.core.run_fold import RunFold, unfold
from app.core.run_json import event_parts, json_bytes, logged, payload
from app.core.runs import OrchestrationOutput, RunStatus
from app.observability.counting import run_ended
from app.observability.metrics import RUNS_LOST
from app.orchestration.approving.approvals import Approvals
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.taking import UNLOGGED, read_paused
from app.state.run_records import PAUSED, Append, Ownership, Record, RunRecords, Standing

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
        """End a run that waits or is paused: as failed with `error`, else as cancelled. False where it is neither."""
        standing = await self._records.look(tenant, run_id)
        if standing is None or standing.status not in ("queued", PAUSED):
            return False
        before = await self._before(tenant, run_id, standing.status)
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

    async def _before(self, tenant: str, run_id: str, status: str) -> OrchestrationOutput | None:
        """What is known of a run that waits or is paused."""
        if status == PAUSED:
            return read_paused((await self._records.paused(tenant, run_id))[1])
        record = await self._records.get(tenant, run_id)
        return known_of(record) if record else None

    async def give_up(self, tenant: str, run_id: str, error: ErrorReport) -> bool:
        """End a run of the queue that nobody is to run any more, as failed. False where it has ended, or is gone."""
        self._approvals.over(tenant, run_id)
        if await self.close(tenant, run_id, error):
            return True
        config, owner = self._host.config, self._host.owner
        record = await self._records.get(tenant, run_id)
        whose = (tenant, run_id, owner)
        found = await self._records.take(whose, "", keep_s=config.keep_s, events_keep_s=config.events_keep_s)
        if record is None or found is None:
            return False
        known = known_of(record, error)
        event = logged(RunFailed(error, timing=known.timing, result=known), run_id, found.last_seq + UNLOGGED)
        ownership = Ownership(tenant, run_id, owner, found.epoch)
        keep_ms, events_keep_ms = config.keep_s * 1000, config.events_keep_s * 1000
        append = Append(ownership, keep_ms, events_keep_ms, [event], status="failed", result=json_bytes(known))
        [told] = await self._records.append([append])
        return told is not None and told.outcome == "ok"


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
