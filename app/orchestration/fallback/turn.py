"""One link's turn: its model is asked, and what it answers is transformed, checked and given, or a reason is given instead."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from app.core.errors import BudgetExceeded, DeadlineExceeded, InvalidRequest, LowQuality, ProviderError, QuorumError
from app.core.run_events import OutputDelta, RunEvent, RunFinished
from app.core.run_fold import output_deltas
from app.core.streams import merge
from app.orchestration.calls import CandidateCall
from app.orchestration.context import RunContext
from app.orchestration.fallback.agreement import disagreement
from app.orchestration.fallback.checks import failed_check
from app.orchestration.fallback.links import Link
from app.orchestration.fallback.options import JudgeOptions
from app.orchestration.fallback.transforms import Untransformable, transformed
from app.orchestration.judging import Judgement

UNRELIABLE: Final = frozenset(
    {
        "connection",
        "timeout",
        "rate_limited",
        "quota_exhausted",
        "overloaded",
        "server_error",
        "incomplete",
        "auth",
        "not_found",
        "invalid_output",
    }
)
"""Failures that tell how reliable a model is; the others tell of the request, or that it was not asked."""


OVER_BUDGET: Final = "budget_exceeded"
"""The word of a link that the budget does not hold, where the run is to go on with what it can (`best_so_far`)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a link gave no answer: `word` is the class that it may hand over with."""

    word: str
    error: QuorumError


class Turn:
    """After `events`, `failure` is there, or `ending` is. `said` tells whether any of the output was shown.

    Parameters:
        last: whether no link follows. A refusal is then the answer: there is nobody to hand over to.
    """

    ending: RunFinished

    def __init__(self, context: RunContext, link: Link, *, last: bool) -> None:
        self.failure: Failure | None = None
        self.said = False
        self._text = ""
        self._context = context
        self._link = link
        self._last = last
        self._call = context.ask(
            link.model,
            link.asked.messages,
            generation=link.asked.generation,
            tools=link.asked.tools,
            retries=link.options.retries,
            output=link.options.live,
            trims=last,
        )

        agree = link.options.check.agree if link.options.check else None
        self._other = (
            context.ask(
                context.named[agree.model], link.asked.messages, generation=link.asked.generation, tools=link.asked.tools
            )
            if agree
            else None
        )

    @property
    def candidate_id(self) -> str:
        return self._call.candidate.id

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask, and tell.

        Raises:
            DeadlineExceeded: the run's end, which no other link can help.
        """
        held: list[RunEvent] = []
        both = self._call.events() if self._other is None else merge([self._call.events(), self._other.events()])
        async with aclosing(both) as events:
            async for event in events:
                if isinstance(event, OutputDelta):
                    if event.kind == "refusal" and not self.said and self._passes_refusals_on:
                        held.append(event)
                        continue
                    self.said = True
                yield event
        self.failure = self._failure()
        self._record()
        if self.failure is not None:
            return
        for event in held:
            yield event
        if not self._link.options.live:
            async with aclosing(self._given()) as events:
                async for event in events:
                    yield event
        if self.failure is None:
            self.ending = self._call.ending()

    def rejected(self) -> Iterator[RunEvent]:
        """The answer that did not pass, as output after all."""
        yield from output_deltas(replace(self._call.choice, text=self._text, logprobs=None))

    def rejected_ending(self) -> RunFinished:
        return self._call.ending()

    @property
    def _passes_refusals_on(self) -> bool:
        hands_over = self._link.options.hands_over
        return not self._last and (hands_over("refusal") or hands_over("content_filtered"))

    def _failure(self) -> Failure | None:
        """Why there is no answer to go on with."""
        call, error = self._call, self._call.error
        if error is None:
            word = _refusal(call)
            refused = word is not None and not self._last and self._link.options.hands_over(word)
            return Failure(word, _refused(call)) if word is not None and refused else None
        match error:
            case ProviderError():
                return Failure(error.failure, error)
            case DeadlineExceeded():
                raise error
            case BudgetExceeded():
                return Failure(OVER_BUDGET, error)
            case InvalidRequest():
                return Failure("invalid_request", error)
            case _:
                return Failure("incomplete", error)

    def _record(self) -> None:
        standings, failure = self._context.standings, self.failure
        if standings is None:
            return
        if failure is None or failure.word in UNRELIABLE:
            standings.record(self._link.model.profile, ok=failure is None)

    async def _given(self) -> AsyncGenerator[RunEvent]:
        """The answer as it was held, once it is transformed and has passed."""
        response = self._call.response
        assert response is not None  # noqa: S101 - `_failure` has found none
        choices = response.choices
        choice, options = choices[0], self._link.options
        if not choice.tool_calls and not choice.refusal:
            text = choice.text
            try:
                text = transformed(text, options.response)
            except Untransformable as error:
                self.failure = Failure("invalid_output", _unusable(self._call, f"{self._link.name!r} {error}"))
                return
            reason = failed_check(text, options.check) if options.check else None
            if reason is None and options.check and options.check.agree and self._other:
                reason = disagreement(text, self._other, options.check.agree)
            if reason is None and options.check and options.check.judge:
                asked = options.check.judge
                judge = self._context.named[asked.model]
                judgement = Judgement(self._context, judge, self.candidate_id, text, criteria=asked.prompt)
                async with aclosing(judgement.events()) as events:
                    async for event in events:
                        yield event
                reason = _rejection(judgement, asked)
            if reason is not None:
                self._text = text
                self.failure = Failure("low_quality", LowQuality(f"{self._link.name!r}: {reason}"))
                return
            if text != choice.text:
                choices = (replace(choice, text=text, logprobs=None),)
        self.said = True
        for choice in choices:
            for event in output_deltas(choice):
                yield event


def _rejection(judgement: Judgement, options: JudgeOptions) -> str | None:
    """Why an answer has not passed its judge, if it has not. A judge that gave no score has not passed it."""
    if judgement.score is None:
        return judgement.reason
    if judgement.score >= options.threshold:
        return None
    return f"the judge {options.model!r} scored the answer {judgement.score:.2f}, below {options.threshold:g}"


def _refusal(call: CandidateCall) -> str | None:
    if call.choice.finish_reason == "content_filter":
        return "content_filtered"
    return "refusal" if call.choice.refusal else None


def _refused(call: CandidateCall) -> ProviderError:
    profile = call.model.profile
    said = f": {call.choice.refusal[:200]}" if call.choice.refusal else ""
    return ProviderError(
        f"{profile.name!r} refused to answer{said}", failure="content_filtered", provider=profile.provider, model=profile.model
    )


def _unusable(call: CandidateCall, message: str) -> ProviderError:
    profile = call.model.profile
    return ProviderError(message, failure="invalid_output", provider=profile.provider, model=profile.model)
