"""One call to a model inside a run: what it says, what came of it, what it took."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from app.core.chat import ChatRequest, ChatResponse, Choice
from app.core.clock import Clock
from app.core.embeddings import EmbeddingResponse
from app.core.errors import BudgetExceeded, OrchestratorError, ProviderError, QuorumError
from app.core.model_events import (
    Delta,
    RefusalDelta,
    ResponseBuilder,
    ResponseFinished,
    ResponseStarted,
)
from app.core.models import Call, Model
from app.core.run_events import (
    Ending,
    OutputDelta,
    RunFinished,
)
from app.core.run_fold import output_deltas
from app.core.streams import close
from app.core.usage import NO_USAGE, Usage
from app.reliability.forecast import used_unanswered


class ModelCall:
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
