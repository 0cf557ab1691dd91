"""A run that may begin, and what is counted, noted and logged of it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

import structlog

from app.core.budgets import NOTHING, Amount
from app.core.run_events import RunEvent, RunFailed, RunFinished, RunPaused
from app.core.run_fold import RunFold
from app.core.runs import OrchestrationOutput, RunRequest, Timing
from app.core.streams import close
from app.observability import counting
from app.orchestration.admission import Permit
from app.orchestration.base import BaseOrchestrator
from app.orchestration.charging import Charge
from app.orchestration.context import RunContext
from app.orchestration.drive import drive
from app.orchestration.learning.observer import Observer
from app.state.ledger import Settlement

_log = structlog.get_logger("quorum.run")


@dataclass(slots=True, eq=False)
class Run:
    """A run that may begin: everything about it that could be refused has been checked.

    Where a limit of its caller applies, `charge` has a claim, and the run begins only after `Engine.admit` has got it a permit.
    Its end settles that, unless it does not `settle`: then its caller does, who first keeps what came of it.
    """

    id: str
    strategy: BaseOrchestrator
    request: RunRequest
    context: RunContext
    charge: Charge | None = None
    permit: Permit | None = None
    observers: Sequence[Observer] = ()
    settles: bool = True

    async def events(self) -> AsyncGenerator[RunEvent]:
        """What happens, to its end, or until it pauses. Closing this cancels the run."""
        permit, conversation = self._begun(), self.context.conversation
        clock, fold = self.context.clock, RunFold(self.id)
        began = clock.monotonic()
        end: RunFinished | RunFailed | RunPaused | None = None
        source = drive(self.strategy, self.request, self.context, fold)
        try:
            async for event in source:
                if isinstance(event, (RunFinished, RunFailed, RunPaused)):
                    end = event
                    if not isinstance(event, RunPaused):
                        self._note(event)
                    if permit is not None and self.settles:  # before the caller hears of the end, and may ask again
                        await permit.settle(self._used())
                    if conversation is not None:
                        await conversation.release()
                yield event
        finally:
            try:
                await close(source)
            finally:
                if self.settles:
                    self.settle_later()
                if conversation is not None:
                    conversation.leave()
                if end is None:
                    self._note_cut(fold, Timing((clock.monotonic() - began) * 1000))

    def _begun(self) -> Permit | None:
        if self.charge is not None and self.charge.claim is not None and self.permit is None:
            raise RuntimeError(f"run {self.id} begins without having been admitted")
        if self.permit is not None:
            self.permit.begin()
        if self.context.conversation is not None:
            self.context.conversation.begin()
        return self.permit

    @property
    def anew(self) -> bool:
        """Whether it was admitted beside one of its id that is settled: who had it before has booked what that one used."""
        charged = self.charge is not None and self.charge.claim
        return bool(charged and self.permit is not None and self.permit.claim.operation != charged.operation)

    @property
    def settlement(self) -> Settlement | None:
        """What it used until now of what was reserved for it; None where no limit applies."""
        return None if self.permit is None else Settlement(self.permit.claim, self._used())

    async def settle(self) -> None:
        """Book what it used. Said again it does nothing."""
        if self.permit is not None:
            await self.permit.settle(self._used())

    def settle_later(self) -> None:
        """The same for who cannot wait, as one who is being cancelled."""
        if self.permit is not None:
            self.permit.settle_later(self._used())

    def _used(self) -> Amount:
        purse = self.context.spending.purse
        return purse.spent if purse else NOTHING

    async def result(self) -> OrchestrationOutput:
        """The fold of `events`."""
        result: OrchestrationOutput | None = None
        async for event in self.events():
            if isinstance(event, (RunFinished, RunFailed)):
                result = event.result
        if result is None:
            raise RuntimeError(f"run {self.id} ended without a result")
        return result

    def _note_cut(self, fold: RunFold, timing: Timing) -> None:
        """The run was left before its end. What it used until then counts."""
        for event in self.context.book.unheard(fold):
            fold.add(event)
        end = RunFinished("cancelled", endings=(), timing=timing)
        fold.add(end)
        self._note(replace(end, result=fold.result()))

    def _note(self, end: RunFinished | RunFailed) -> None:
        counting.run_ended(end)
        result = end.result
        if result is None:
            return
        taught, category = self.context.taught, self.context.told_category
        for observer in self.observers:
            observer.ended(self.request, result, taught, category)
        _log.info(
            "run cancelled" if result.status == "cancelled" else "run ended",
            run_id=self.id,
            request_id=self.request.request_id,
            strategy=result.strategy,
            recipe=result.recipe,
            status=result.status,
            candidates=len(result.candidates),
            source_model=result.output.source_model,
            tokens=result.usage.total_tokens,
            cost_usd=result.cost_usd,
            ms=round(result.timing.total_ms, 1),
            error=result.error.code if result.error else None,
        )


def new_run_id() -> str:
    """`run_` and 24 characters that no other run has: 96 random bits."""
    return "run_" + os.urandom(12).hex()
