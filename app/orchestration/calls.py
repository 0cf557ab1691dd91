"""Calls to models inside a run, as they tell what happens: candidates and those that help."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.chat import ChatRequest, ChatResponse, Choice
from app.core.clock import Clock
from app.core.errors import OrchestratorError, QuorumError, report
from app.core.messages import ReasoningPart, ToolCallPart
from app.core.model_events import (
    Delta,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from app.core.models import Call, Model
from app.core.run_events import (
    CandidateDelta,
    CandidateFailed,
    CandidateFinished,
    CandidateStarted,
    DeltaKind,
    HelperFinished,
    RunEvent,
    RunFinished,
    Warning,
)
from app.core.run_fold import RunFold, output_delta
from app.core.runs import CallRole, Candidate, CandidateStatus, HelperCall
from app.core.streams import close
from app.core.usage import Usage
from app.orchestration.model_call import ModelCall

_KINDS: dict[type[Delta], DeltaKind] = {
    TextDelta: "text",
    ReasoningDelta: "reasoning",
    RefusalDelta: "refusal",
    ToolCallDelta: "tool_call",
}


class Member(Protocol):
    """Who answers in a panel: a model that is asked once, or one that acts with tools before it answers."""

    @property
    def model(self) -> Model: ...

    @property
    def profile_name(self) -> str: ...

    @property
    def candidate(self) -> Candidate:
        """What is known of its answer so far."""
        ...

    @property
    def usage(self) -> Usage:
        """Of all that it was asked."""
        ...

    @property
    def response(self) -> ChatResponse | None:
        """There when it has answered."""
        ...

    @property
    def choice(self) -> Choice: ...

    @property
    def error(self) -> QuorumError | None:
        """There when it has failed."""
        ...

    @property
    def wants(self) -> Wanted | None:
        """The calls of tools that it has stopped at: they are made if it is chosen."""
        ...

    @property
    def last(self) -> CandidateFinished | CandidateFailed | None:
        """The event that it has ended with."""
        ...

    def events(self) -> AsyncGenerator[RunEvent]: ...

    def ending(self, *, is_synthesized: bool = False) -> RunFinished: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Calls of tools that are made for a winner alone. Those that mean the same have the same `label`."""

    label: str
    calls: tuple[ToolCallPart, ...]


class CandidateCall(ModelCall):
    """A model's own answer to the run's question. `candidate` is what is known of it so far.

    `call` stands in for the model's own where the answer need not be asked for.
    """

    wants: Wanted | None = None
    last: CandidateFinished | CandidateFailed | None = None

    def __init__(
        self,
        candidate_id: str,
        model: Model,
        request: ChatRequest,
        clock: Clock,
        *,
        replicate: int,
        layer: int,
        watched: bool,
        output: bool,
        call: Call | None = None,
    ) -> None:
        super().__init__(model, request, clock, output=output, call=call)
        self._watched = watched
        self.candidate = Candidate(candidate_id, model.profile.name, model.profile.provider, replicate, layer=layer)

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask, and tell. A failure is an event and `error`, not an exception; being closed early is a cancellation."""
        begun = self.candidate
        self._begun = True
        self._started = self._clock.monotonic()
        yield CandidateStarted(begun.id, begun.model, begun.provider, begun.replicate, begun.layer)
        for note in self.notes:
            yield Warning(note)
        deltas = self._deltas()
        over = False
        try:
            async for delta in deltas:
                if self._watched:
                    yield CandidateDelta(begun.id, begun.model, delta.choice, _KINDS[type(delta)], _said(delta))
                if self._output:
                    yield output_delta(delta)
            over = True
        finally:
            try:
                await close(deltas)
            finally:
                if not over:
                    self.candidate = self._closed("cancelled")
        if self.response is None:
            self.error = self.error or OrchestratorError(f"{begun.model!r} ended without an answer")
            self.candidate = self._closed("failed")
            self.last = CandidateFailed(self.candidate)
            yield self.last
            return
        self.candidate = self._closed("succeeded")
        self.last = CandidateFinished(self.candidate)
        yield self.last
        for event in self._unwatched_output():
            yield event

    @property
    def usage(self) -> Usage:
        return self.candidate.usage

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """What `fold` has not heard of the end of this call, since its run was cut."""
        if not self._begun:
            return
        candidate = self.candidate
        known = fold.candidate(candidate.id)
        if known is None:
            yield CandidateStarted(candidate.id, candidate.model, candidate.provider, candidate.replicate, candidate.layer)
        if known is None or known.status == "running":
            candidate = self._closed("cancelled") if candidate.status == "running" else candidate
            yield CandidateFinished(candidate) if candidate.status == "succeeded" else CandidateFailed(candidate)

    def _closed(self, status: CandidateStatus) -> Candidate:
        choice, begun = self.choice, self.candidate
        return Candidate(
            id=begun.id,
            model=begun.model,
            provider=begun.provider,
            replicate=begun.replicate,
            layer=begun.layer,
            status=status,
            text=choice.text,
            reasoning=choice.reasoning,
            refusal=choice.refusal,
            tool_calls=choice.tool_calls,
            finish_reason=choice.finish_reason if self.response else None,
            usage=self._usage(),
            cached=self.request.context.cached,
            cost_usd=self._cost(),
            wasted_cost_usd=self._wasted(),
            latency_ms=self._latency_ms(),
            ttft_ms=None if self._first is None else (self._first - self._started) * 1000,
            attempts=tuple(self.request.context.attempts),
            error=report(self.error) if self.error else None,
            sealed_reasoning=choice.reasoning_parts if choice.tool_calls and sealed(choice.reasoning_parts) else (),
        )


def sealed(parts: Sequence[ReasoningPart]) -> bool:
    """Whether a vendor has sealed any of the reasoning."""
    return any(part.signature or part.redacted for part in parts)


class Consultation(ModelCall):
    """A call that helps the run: an analysis, a ranking, a synthesis, a judgement."""

    def __init__(
        self, role: CallRole, model: Model, request: ChatRequest, clock: Clock, *, output: bool, call: Call | None = None
    ) -> None:
        super().__init__(model, request, clock, output=output, call=call)
        self._role: CallRole = role
        self._booked: HelperCall | None = None

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask, and tell of the output, if it is that, and of the end. A failure is `error`, not an exception."""
        self._begun = True
        self._started = self._clock.monotonic()
        for note in self.notes:
            yield Warning(note)
        deltas = self._deltas()
        over = False
        try:
            async for delta in deltas:
                if self._output:
                    yield output_delta(delta)
            over = True
        finally:
            try:
                await close(deltas)
            finally:
                if not over:
                    self._booked = self._closed("cancelled")
        if self.response is None:
            self.error = self.error or OrchestratorError(f"{self.profile_name!r} ended without an answer")
        self._booked = self._closed("succeeded" if self.response else "failed")
        yield HelperFinished(self._booked)
        for event in self._unwatched_output():
            yield event

    def unheard(self, fold: RunFold) -> Iterator[RunEvent]:
        """What `fold` has not heard of the end of this call, since its run was cut."""
        if self._begun:
            booked = self._booked or self._closed("cancelled")
            if not fold.has(booked):
                yield HelperFinished(booked)

    def _closed(self, status: CandidateStatus) -> HelperCall:
        return HelperCall(
            role=self._role,
            model=self.profile_name,
            provider=self.model.profile.provider,
            status=status,
            usage=self._usage(),
            cached=self.request.context.cached,
            cost_usd=self._cost(),
            wasted_cost_usd=self._wasted(),
            latency_ms=self._latency_ms(),
            attempts=tuple(self.request.context.attempts),
            error=report(self.error) if self.error else None,
        )


def _said(delta: Delta) -> str:
    return delta.arguments if isinstance(delta, ToolCallDelta) else delta.text
