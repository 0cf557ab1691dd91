"""A candidate that has answered already says the same again without being asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.core.chat import ChatRequest, ChatResponse, Choice
from app.core.model_events import ModelEvent, ResponseFinished, unfold
from app.core.models import Call, ModelProfile
from app.core.runs import Candidate
from app.reliability.charge import charge


def recalled(profile: ModelProfile, candidate: Candidate, *, paid: bool = False) -> Call:
    """What stands in for the call of the model of `profile`: the answer of `candidate`, with its usage and its attempts.

    Its run is charged with it, unless that is `paid`: who takes a run over settles the whole of it.
    """

    async def say_again(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        said = Choice(
            0,
            candidate.text,
            candidate.reasoning,
            candidate.refusal,
            candidate.tool_calls,
            candidate.finish_reason or "stop",
            reasoning_parts=candidate.sealed_reasoning,
        )
        response = ChatResponse("", request.model, (said,), candidate.usage)
        request.context.attempts.extend(candidate.attempts)
        request.context.cached = candidate.cached
        request.context.used = candidate.usage
        for event in unfold(response) if request.incremental else (ResponseFinished(response),):
            yield event

    return say_again if paid else charge(profile)(say_again)
