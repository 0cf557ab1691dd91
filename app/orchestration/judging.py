"""A judge: a model that scores one answer from 0 to 1, not knowing whose it is."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from app.core.chat import ResponseFormat
from app.core.models import Model
from app.core.run_events import CandidateScored, RunEvent
from app.orchestration.analysis import own_generation
from app.orchestration.answers import fault
from app.orchestration.context import RunContext
from app.orchestration.quoting import followed_by, question, quoted
from app.orchestration.replies import stated

PROMPT: Final = "judge"
CRITERIA: Final = "Is it correct, does it meet all that was asked, and is it clear?"
_EXAMPLE: Final = json.dumps({"reason": "...", "score": 0.8})
_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "number", "minimum": 0, "maximum": 1}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}


class Judgement:
    """What the model `judge` says of `text`, the answer of the candidate `candidate_id`. After `events`, `score` is there, or
    `reason` says in words why it is not.

    Parameters:
        criteria: what to look for.
    """

    def __init__(self, context: RunContext, judge: Model, candidate_id: str, text: str, *, criteria: str | None = None) -> None:
        self.score: float | None = None
        self.reason = ""
        self._context = context
        self._model = judge
        self._candidate_id = candidate_id
        self._text = text
        self._criteria = criteria

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask, and tell."""
        context, name = self._context, self._model.profile.name
        asked = context.consult(
            "judge",
            self._model,
            followed_by(context.request.messages, judge_prompt(context, self._criteria, self._text)),
            generation=own_generation(context, self._model, judge_format(self._model)),
        )
        async with aclosing(asked.events()) as events:
            async for event in events:
                yield event
        failure = fault(asked.response, asked.error)
        if failure is not None:
            self.reason = f"the judge {name!r} did not score the answer: {failure}"
            return
        self.score = read_score(asked.choice.text)
        if self.score is None:
            self.reason = f"the judge {name!r} did not score the answer: its reply holds no score from 0 to 1"
            return
        yield CandidateScored(self._candidate_id, self.score)


def judge_prompt(context: RunContext, criteria: str | None, text: str) -> str:
    """What the judge is asked, after the conversation."""
    return context.prompts.render(
        PROMPT,
        question=question(context.request.messages),
        answers=quoted("answer", [text]),
        criteria=criteria or CRITERIA,
        example=_EXAMPLE,
    )


def judge_format(model: Model) -> ResponseFormat | None:
    """The strictest format that the judge can hold to; the prompt asks for JSON in any case."""
    if model.profile.capabilities.json_schema:
        return ResponseFormat("json_schema", "judgement", _SCHEMA, strict=True)
    return ResponseFormat("json_object") if model.profile.capabilities.json_object else None


def read_score(text: str) -> float | None:
    """The score that a judge's reply states: that of its last JSON object with one from 0 to 1."""
    for score in stated(text, "score"):
        if isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1:
            return float(score)
    return None
