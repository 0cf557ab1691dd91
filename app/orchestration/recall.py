"""A candidate that has answered already, as a model that says the same again without being asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

from app.core.chat import ChatRequest, ChatResponse, Choice
from app.core.model_events import ModelEvent, ResponseFinished, unfold
from app.core.models import Model
from app.core.runs import Candidate


def recalled(model: Model, candidate: Candidate) -> Model:
    """`model`, whose next answer is that of `candidate`, with its usage and its attempts."""

    async def say_again(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        said = Choice(
            0, candidate.text, candidate.reasoning, candidate.refusal, candidate.tool_calls, candidate.finish_reason or "stop"
        )
        response = ChatResponse("", request.model, (said,), candidate.usage)
        request.context.attempts.extend(candidate.attempts)
        for event in unfold(response) if request.incremental else (ResponseFinished(response),):
            yield event

    return Model(model.profile, say_again)
