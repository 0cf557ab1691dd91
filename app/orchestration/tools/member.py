"""A member of a panel that acts with tools before it answers: one candidate a step.

It runs tools that only read, and stops at calls that are to be made once in a run: those of tools that write, those that a
person must agree to, those of the client's own. What it has said by then is its answer, and what it wants is in `wants`. Who is
chosen goes on from there (`go_on`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import orjson

from app.core.chat import ChatResponse, Choice
from app.core.errors import BudgetExceeded, QuorumError, report
from app.core.models import Model
from app.core.run_events import CandidateFailed, CandidateFinished, RunEvent, RunFinished, RunPaused
from app.core.run_fold import total_usage
from app.core.runs import Candidate, RunStatus
from app.core.usage import Usage
from app.orchestration.calls import Wanted
from app.orchestration.context import RunContext
from app.orchestration.tools.asking import Seat
from app.orchestration.tools.calling import key_of
from app.orchestration.tools.loop import ToolLoop
from app.orchestration.tools.offering import Offer
from app.orchestration.tools.options import PanelOptions
from app.orchestration.tools.turns import Turn


class ToolMember:
    """A `Member` whose model acts with the tools of `offer`.

    Parameters:
        turns: what it is asked.
        seat: its place in the panel.
        output: whether it is the only one, so that what it says is the output already.
    """

    def __init__(
        self, context: RunContext, offer: Offer, model: Model, turns: Sequence[Turn], seat: Seat, *, output: bool
    ) -> None:
        options: PanelOptions = context.options
        self.model = model
        self.error: QuorumError | None = None
        self.wants: Wanted | None = None
        self.last: CandidateFinished | CandidateFailed | None = None
        self._context = context
        self._seat = seat
        self._candidates: dict[str, Candidate] = {}
        self._loop = ToolLoop(context, offer, turns, models=[model], options=options, seat=seat, output=output)

    @property
    def profile_name(self) -> str:
        return self.model.profile.name

    @property
    def candidate(self) -> Candidate:
        asked = self._loop.asking.asked
        if self.error is not None and self.last is not None:
            return self.last.candidate
        if asked is not None:
            return asked.candidate
        profile = self.model.profile
        return Candidate(self._seat.id, profile.name, profile.provider, self._seat.replicate)

    @property
    def usage(self) -> Usage:
        return total_usage(self._candidates.values())

    @property
    def response(self) -> ChatResponse | None:
        asked = self._loop.asking.asked
        return asked.response if asked is not None and self.error is None else None

    @property
    def choice(self) -> Choice:
        """What it said last. Calls that a model asks for where it may not are none of it."""
        asked = self._loop.asking.asked
        if asked is None:
            return Choice(0)
        return asked.choice if self.wants else replace(asked.choice, tool_calls=())

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask and act, and tell; the last event says how it has ended. A failure is an event and `error`, not an exception."""
        end: CandidateFinished | CandidateFailed | None = None
        try:
            async with aclosing(self._loop.events()) as events:
                async for event in events:
                    if end is not None:
                        yield end
                        end = None
                    if isinstance(event, (CandidateFinished, CandidateFailed)):
                        self._candidates[event.candidate.id] = event.candidate
                        end = event
                    else:
                        yield event
        except QuorumError as error:
            if isinstance(error, BudgetExceeded) and self._loop.ends_run:
                raise
            end = self._failed(end, error)
        else:
            self.wants = self._wanted()
        self.last = end or CandidateFinished(self.candidate)
        yield self.last

    async def go_on(self, others: Sequence[Model], unwanted: str | None) -> AsyncGenerator[RunEvent]:
        """Make what it wants, and go on to its answer, which is the output, or until somebody has to be asked.

        Parameters:
            others: who goes on where its model fails.
            unwanted: why a person is to look first at what it writes.

        Raises:
            QuorumError: no model answers, or a tool has failed and is to fail the run.
        """
        self._loop.go_on(others, unwanted)
        async with aclosing(self._loop.events()) as events:
            async for event in events:
                yield event
        if self._context.conversation is not None:
            self._context.conversation.said = self._loop.said

    def ending(self, *, is_synthesized: bool = False) -> RunFinished:
        ending = self._loop.ending
        assert isinstance(ending, RunFinished)  # noqa: S101 - none that has not gone on waits for anybody
        return replace(ending, is_synthesized=is_synthesized)

    def end(self, status: RunStatus) -> RunFinished | RunPaused:
        """How the run ends that it has gone on with: with `status`; or what pauses it."""
        ending = self._loop.ending
        return ending if isinstance(ending, RunPaused) else replace(ending, status=status)

    def _failed(self, end: CandidateFinished | CandidateFailed | None, error: QuorumError) -> CandidateFailed:
        """How it ends where it fails: by its model's failure, or though its model has answered, as where a tool has failed."""
        self.error = error
        if isinstance(end, CandidateFailed):
            return end
        return CandidateFailed(replace(self.candidate, status="failed", error=report(error)))

    def _wanted(self) -> Wanted | None:
        calls = self._loop.waiting
        label = orjson.dumps(sorted(key_of(call) for call in calls)).decode()
        return Wanted(label, calls) if calls else None
