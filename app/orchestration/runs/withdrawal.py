"""Runs that have begun and can never go on as they were asked for: what they did is taken back, as they began."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from app.core.errors import QuorumError, StateUnavailable
from app.core.messages import user
from app.core.principal import Principal
from app.core.runs import OrchestrationConfig, RunRequest
from app.orchestration.approving.approvals import Approvals
from app.orchestration.engine import Engine
from app.orchestration.runs.host import RunHost
from app.orchestration.runs.taking import go_on_from, read_paused, withdrawing
from app.state.run_records import RunRecords


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from: its id, its trace, and its peer's address."""

    request_id: str
    traceparent: str | None
    address: str | None


class Withdrawal:
    """Has runs take back what they did that somebody was to go on with."""

    def __init__(self, engine: Engine, host: RunHost, records: RunRecords, approvals: Approvals) -> None:
        self._engine, self._host, self._records, self._approvals = engine, host, records, approvals

    async def withdraw(self, run_id: str, digest: str, who: Principal, origin: Origin, refusal: QuorumError) -> bool:
        """Have a run end as failed with `refusal`, once it has taken back what it did; True when it has.

        False where it has nothing to take back, or is over.

        Parameters:
            digest: that of the request that has it, of which `who` and `origin` are too.

        Raises:
            StateUnavailable: Redis is away, or the run goes to another process, which is to do the same.
        """
        tenant = who.tenant
        standing, began_with = await self._records.look(tenant, run_id), await self._records.began_with(tenant, run_id)
        if standing is None or not standing.goes_on or not began_with:
            return False
        before = read_paused((await self._records.paused(tenant, run_id))[1])
        known = orjson.loads(began_with)
        request = RunRequest(
            OrchestrationConfig(known["strategy"], options=known["options"]),
            (user(""),),
            tenant=tenant,
            key_id=who.key_id,
            key_name=who.name,
            scopes=who.scopes,
            request_id=origin.request_id,
            traceparent=origin.traceparent,
            address=origin.address,
        )
        try:
            run = withdrawing(self._engine.begin(request, run_id, before, taken=True), refusal)
        except QuorumError:  # not even what takes it back can be made of it any more
            return False
        taken = await self._host.take(run, digest)
        if taken is None:
            return False
        await self._engine.admit_anyway(run)
        run.context.past.taken = not taken.paused
        if before is not None:
            run.context.approvals = self._approvals.of_run(digest, before)
            go_on_from(run.context, before)
        hosted = await self._host.begin(run, on_disconnect="continue", resumable=digest, taken=taken)
        await hosted.awaited()
        if hosted.lost:
            raise StateUnavailable(f"{run_id} has gone to another process while it took back what it did")
        await self._host.written(hosted)
        return True
