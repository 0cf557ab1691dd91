"""Requests that were begun and cannot be gone on with: their runs are ended, once they have taken back what they did."""

from __future__ import annotations

from app.api.idempotency.request import KeyedRequest
from app.core.errors import QuorumError
from app.orchestration.runs.stored import StoredRuns
from app.orchestration.runs.withdrawal import Origin, Withdrawal


class Refused:
    """Ends such runs."""

    def __init__(self, withdrawal: Withdrawal, runs: StoredRuns) -> None:
        self._withdrawal, self._runs = withdrawal, runs

    async def close(self, request: KeyedRequest, run_id: str, refusal: QuorumError) -> bool:
        """End the run of `request` with `refusal`. False where it has ended, or cannot be ended by this.

        Raises:
            StateUnavailable: Redis is away, or another process is to do it.
        """
        origin = Origin(request.request_id, request.traceparent, request.address)
        if await self._withdrawal.withdraw(run_id, request.id.digest, request.principal, origin, refusal):
            return True
        return await self._runs.close(request.id.tenant, run_id, refusal)
