"""debate: the models answer, then each reads the others' answers and answers again; the lead model decides.

A strategy is one class with one method, `run`. Everything else comes with it: streaming, JSON, the OpenAI endpoint, costs,
cancellation, deadlines, metrics.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import ClassVar

from pydantic import Field

from app.core.messages import Message, assistant, user
from app.core.run_events import RunEvent
from app.core.runs import RunRequest
from app.core.streams import merge
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.calls import CandidateCall
from app.orchestration.context import RunContext


class DebateOptions(StrategyOptions):
    """What a request may say under `options`. The schema is published at /v1/strategies; unknown members are refused."""

    rounds: int = Field(default=1, ge=1, le=5, description="How often the models read each other's answers.")


class DebateOrchestrator(BaseOrchestrator):
    """Two or more models argue, one decides."""

    name: ClassVar[str] = "debate"
    summary: ClassVar[str] = "Models answer, read each other's answers, answer again; the lead model decides."
    Options: ClassVar[type[StrategyOptions]] = DebateOptions

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        options: DebateOptions = context.options
        # `ask` prepares a candidate; its `events` call the model and tell what happens. `merge` runs them side by side.
        calls = [context.ask(model) for model in context.models]
        for layer in range(2, options.rounds + 3):
            async with aclosing(merge([call.events() for call in calls], limit=context.max_concurrent_calls)) as events:
                async for event in events:
                    yield event
            # A call that failed has `error` in place of `response`. It is in the result already; we go on without it.
            answered = [call for call in calls if call.response]
            if not answered:
                raise calls[0].error or RuntimeError("no model was asked")
            if layer < options.rounds + 2:
                calls = [context.ask(call.model, rebuttal(request, call, answered), layer=layer) for call in answered]

        # With `output`, what the lead says is the run's answer, streamed as it is written.
        lead = context.lead or answered[0].model
        decision = context.consult("judge", lead, verdict(request, answered), output=True)
        async with aclosing(decision.events()) as events:
            async for event in events:
                yield event
        if decision.error:
            raise decision.error
        yield decision.ending(is_synthesized=True)


def rebuttal(request: RunRequest, own: CandidateCall, answered: list[CandidateCall]) -> tuple[Message, ...]:
    """The conversation so far, and what the others have said."""
    others = "\n\n".join(f"<answer>{call.choice.text}</answer>" for call in answered if call is not own)
    prompt = f"Others answered as follows. Say where you or they are wrong, then answer the question again.\n\n{others}"
    return (*request.messages, assistant(own.choice.text), user(prompt))


def verdict(request: RunRequest, answered: list[CandidateCall]) -> tuple[Message, ...]:
    """The conversation, and the last word of each model."""
    last = "\n\n".join(f"<answer>{call.choice.text}</answer>" for call in answered)
    prompt = f"Several models have debated this question. Decide between their answers, and write the final one.\n\n{last}"
    return (*request.messages, user(prompt))
