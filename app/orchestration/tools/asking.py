"""A step's call of a model: the first of the loop's models is asked, and where it fails the next one goes on in its place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from app.core.chat import Generation, ToolChoice
from app.core.errors import AllCandidatesFailed, BudgetExceeded, OrchestratorError, ProviderError, QuorumError, report
from app.core.models import Model
from app.core.run_events import OutputDelta, OutputReset, RunEvent, Warning
from app.orchestration.calls import CandidateCall
from app.orchestration.context import RunContext
from app.orchestration.fallback.options import DEFAULT_ON
from app.orchestration.tools.offering import Offer
from app.orchestration.tools.pausing import going_on
from app.orchestration.tools.turns import Turn, for_model


@dataclass(frozen=True, slots=True)
class Seat:
    """A member's place in a panel: the name of its first candidate, which those of its later steps begin with, and what its
    model is asked with."""

    id: str
    replicate: int = 0
    generation: Generation | None = None


def seat_of(candidate_id: str) -> str:
    """Whose candidate that is: the name of the first one of its seat."""
    return candidate_id.partition(".")[0]


class Asking:
    """Who is asked in a loop, and was `asked` last. When `events` is over, `answer` is who answered, and `shown` says whether
    any of it was output."""

    answer: CandidateCall
    shown: bool

    def __init__(self, context: RunContext, offer: Offer, models: Sequence[Model], seat: Seat | None, *, output: bool) -> None:
        self._context, self._offer, self._seat = context, offer, seat
        self._models, self._first = list(models), models[0]
        self.asked: CandidateCall | None = None
        self.output = output
        self._failed: list[CandidateCall] = []

    async def events(
        self,
        turns: Sequence[Turn],
        step: int,
        choice: ToolChoice,
        *,
        unplanned: bool,
        at_most: int | None = None,
    ) -> AsyncGenerator[RunEvent]:
        """Ask what to say after `turns`, in `at_most` tokens where that is less than what the run allows.

        Raises:
            BudgetExceeded: the budget does not hold the call.
            QuorumError: no model answers.
        """
        self._models = going_on(self._models, self._context.past.finished, step, self._seat.id if self._seat else None)
        while True:
            asked = self.asked = self._call(turns, step, choice, unplanned=unplanned, at_most=at_most)
            shown = False
            async with aclosing(asked.events()) as events:
                async for event in events:
                    if isinstance(event, OutputDelta):
                        if event.kind == "tool_call":
                            continue
                        shown = True
                    yield event
            if asked.error is None:
                self.answer, self.shown = asked, shown
                return
            following = self._next_model(asked)
            said = f"{asked.profile_name!r} failed ({asked.error.code})"
            if shown:
                yield OutputReset(f"{said} after it had begun to answer")
            yield Warning(f"{said}; {following.profile.name!r} goes on in its place")

    def followed_by(self, models: Sequence[Model]) -> None:
        """Have `models` go on, too, where those before them fail."""
        self._models += models

    def _call(
        self, turns: Sequence[Turn], step: int, choice: ToolChoice, *, unplanned: bool, at_most: int | None
    ) -> CandidateCall:
        context, model, seat = self._context, self._models[0], self._seat
        own = seat is not None and model is self._first
        generation = seat.generation if seat else None
        if at_most is not None:
            full = generation or context.request.generation
            generation = replace(full, max_tokens=min(at_most, full.max_tokens or at_most))
        return context.ask(
            model,
            for_model(turns, model.profile),
            replicate=seat.replicate if seat else 0,
            layer=step,
            generation=generation,
            tools=self._offer.definitions(context, model.profile),
            tool_choice=choice,
            output=self.output,
            trims=True,
            unplanned=unplanned,
            candidate_id=(seat.id if step == 1 else f"{seat.id}.{step}") if seat and own else None,
        )

    def _next_model(self, asked: CandidateCall) -> Model:
        """Who goes on where `asked` has failed.

        Raises:
            QuorumError: nobody does.
        """
        self._failed.append(asked)
        error = asked.error or OrchestratorError(f"{asked.profile_name!r} ended without an answer")
        word = error.failure if isinstance(error, ProviderError) else error.code
        if isinstance(error, BudgetExceeded):
            raise error
        if word not in DEFAULT_ON or len(self._models) == 1:
            raise self._failure(error)
        del self._models[0]
        return self._models[0]

    def _failure(self, error: QuorumError) -> QuorumError:
        if len(self._failed) == 1:
            return error
        reasons = "; ".join(f"{call.profile_name!r}: {call.error.message}" for call in self._failed if call.error)
        reports = tuple(report(call.error) for call in self._failed if call.error)
        return AllCandidatesFailed(f"no model is left to go on. {reasons}", reports=reports)
