"""Dead letters: jobs that were given up, with the reason."""

from __future__ import annotations

from typing import Any

import orjson
import structlog

from app.core.clock import Clock
from app.observability import metrics
from app.state.jobs import Claimed, JobQueue

_log = structlog.get_logger("quorum.jobs")


class DeadLetters:
    """Those of all tenants. Raises `StateUnavailable` while Redis is away."""

    def __init__(self, queue: JobQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock

    async def put(self, job: Claimed, reason: str) -> None:
        """A job is given up."""
        metrics.JOBS_GIVEN_UP.labels(job.kind).inc()
        _log.error("a job is given up", job=job.id, kind=job.kind, attempts=job.attempts, reason=reason)
        letter: dict[str, Any] = {
            "id": _subject(job),
            "kind": job.kind,
            "reason": reason,
            "attempts": job.attempts,
            "given_up_at": int(self._clock.now()),
        }
        await self._queue.bury(job.tenant, orjson.dumps(letter))

    async def newest(self, tenant: str, most: int) -> list[bytes]:
        """The newest of a tenant, each as JSON: `id`, `kind`, `reason`, `attempts`, `given_up_at`."""
        return await self._queue.buried(tenant, most)


def _subject(job: Claimed) -> str:
    """The id of what the job was about, as it is asked for."""
    return job.id.partition(":")[0] if job.kind == "batch" else job.id.rpartition(":")[2]
