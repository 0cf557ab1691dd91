"""Calls to models inside a run: each tells what happens as run events and keeps what came of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from app.core.chat import ChatRequest, ChatResponse, Choice
from app.core.clock import Clock
from app.core.embeddings import EmbeddingResponse
from app.core.errors import BudgetExceeded, OrchestratorError, ProviderError, QuorumError, report
from app.core.model_events import (
    Delta,
    ReasoningDelta,
    RefusalDelta,
    ResponseBuilder,
    ResponseFinished,
    ResponseStarted,
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
    Ending,
    HelperFinished,
    OutputDelta,
    RunEvent,
    RunFinished,
    Warning,
)
from app.core.run_fold import RunFold, output_delta, output_deltas
from app.core.runs import CallRole, Candidate, CandidateStatus, HelperCall
from app.core.streams import close
from app.core.usage import NO_USAGE, Usage
from app.reliability.forecast import used_unanswered

_KINDS: dict[type[Delta], DeltaKind] = {
    TextDelta: "text",
    ReasoningDelta: "reasoning",
    RefusalDelta: "refusal",
    ToolCallDelta: "tool_call",
}


class _Call:
    """A model asked once. `response` is there when it has answered, `error` when it has failed."""

    def __init__(self, model: Model, request: ChatRequest, clock: Clock, *, output: bool, call: Call | None = None) -> None:
        self.model = model
        self._call = call or model.call
        self.request = request
        self.response: ChatResponse | None = None
        self.error: QuorumError | None = None
        self._clock = clock
        self.notes: tuple[str, ...] = ()
        """What there is to say of its prompt: what was left out of it."""
        self._output = output
        self._started = clock.monotonic()
        self._partial = ResponseBuilder()
        self._first: float | None = None
        self._begun = False

    @property
    def choice(self) -> Choice:
        """The first choice of the answer, or as much of it as came before it failed."""
        return self.response.choices[0] if self.response else self._partial.choice(0)

    @property
    def profile_name(self) -> str:
        return self.model.profile.name

    def ending(self, *, is_synthesized: bool = False) -> RunFinished:
        """The end of a run whose answer this call gave."""
        if self.response is None:
            raise OrchestratorError(f"{self.profile_name!r} has given no answer")
        endings = tuple(Ending(c.index, c.finish_reason, c.native_finish_reason) for c in self.response.choices)
        return RunFinished(source_model=self.profile_name, is_synthesized=is_synthesized, endings=endings)

    async def _deltas(self) -> AsyncIterator[Delta]:
        """What the model says, piece by piece where it is watched; `response` or `error` is set at the end.

        Raises:
            BudgetExceeded: the call may not be made, and the run is to end of it.
        """
        source = self._call(self.request)
        try:
            async for event in source:
                if isinstance(event, ResponseFinished):
                    self.response = _checked(event.response, self.model)
                elif not isinstance(event, ResponseStarted):
                    if self._first is None:
                        self._first = self._clock.monotonic()
                    self._partial.add(event)
                    yield event
        except QuorumError as error:
            if isinstance(error, BudgetExceeded) and self._ends_run():
                raise
            self.error = error
        finally:
            await close(source)
        if isinstance(self.error, ProviderError) and self.error.failure == "content_filtered":
            refusal = RefusalDelta(self.error.message)
            self._partial.add(refusal)
            self._refused(self.error)
            if self.request.incremental:
                yield refusal

    def _refused(self, error: ProviderError) -> None:
        """A prompt that a vendor refuses with an error status is answered like one that it refuses with words."""
        said = self._partial.choice(0, "content_filter", error.provider_code)
        self.response = ChatResponse("", self.request.model, (said,))
        self.error = None

    def _unwatched_output(self) -> Iterator[OutputDelta]:
        if self._output and self.response and not self.request.incremental:
            for choice in self.response.choices:
                yield from output_deltas(choice)

    def _latency_ms(self) -> float:
        return (self._clock.monotonic() - self._started) * 1000

    def _ends_run(self) -> bool:
        """Whether a call that the run's purse does not hold ends the run, or only fails."""
        purse = self.request.context.purse
        return purse is None or purse.ends_run

    def _usage(self) -> Usage:
        """What the provider says was used; of an answer that was cut off, what that has probably taken."""
        if self.response:
            return self.response.usage
        used = self.request.context.used
        if used is not None:
            return used
        came = None if self._first is None else self._partial.choice(0)
        return used_unanswered(self.request, self.error, came)

    def _cost(self) -> float | None:
        return 0.0 if self.request.context.cached else self._price(self._usage())

    def _wasted(self) -> float | None:
        """Dollars for calls whose answer was not waited for."""
        return self._price(self.request.context.wasted)

    def _price(self, usage: Usage) -> float | None:
        price = self.model.profile.price
        return price.cost(usage) if price and usage is not NO_USAGE else None


class CandidateCall(_Call):
    """A model's own answer to the run's question. `candidate` is what is known of it so far.

    `call` stands in for the model's own where the answer need not be asked for.
    """

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
            yield CandidateFailed(self.candidate)
            return
        self.candidate = self._closed("succeeded")
        yield CandidateFinished(self.candidate)
        for event in self._unwatched_output():
            yield event

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
        )


class Consultation(_Call):
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


def _checked(response: ChatResponse, model: Model) -> ChatResponse:
    if not response.choices and not isinstance(response, EmbeddingResponse):
        profile = model.profile
        raise ProviderError(
            f"provider {profile.provider!r} ({profile.model}): an answer without choices",
            failure="invalid_output",
            provider=profile.provider,
            model=profile.model,
        )
    return response
