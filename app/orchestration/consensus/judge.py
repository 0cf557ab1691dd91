"""The aggregator `judge`: the lead model chooses among the answers, not knowing whose they are."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar, Final

from app.core.chat import ResponseFormat
from app.core.models import Model
from app.core.run_events import RunEvent, Warning
from app.orchestration.analysis import own_generation
from app.orchestration.answers import fault
from app.orchestration.consensus.aggregator import Heard
from app.orchestration.consensus.texts import Texts
from app.orchestration.context import RunContext
from app.orchestration.quoting import followed_by, numbered, question
from app.orchestration.replies import stated

PROMPT: Final = "choice"
_EXAMPLE: Final = json.dumps({"reason": "...", "choice": 2})


class Judged(Texts):
    """The answer that the lead model chose. How sure that is, the answers that say the same tell, as in `cluster`."""

    name: ClassVar[str] = "judge"


class Choosing:
    """The lead's choice among `heard`, who could be read. After `events`, `aggregator.chosen` has it; it is None where the lead
    made none, and then the heaviest cluster wins."""

    def __init__(self, context: RunContext, aggregator: Judged, heard: Sequence[Heard], lead: Model) -> None:
        self._context = context
        self._aggregator = aggregator
        self._heard = heard
        self._lead = lead

    async def events(self) -> AsyncGenerator[RunEvent]:
        context, name = self._context, self._lead.profile.name
        if len(self._heard) == 1:
            self._aggregator.chosen = self._heard[0]
            return
        conversation = context.request.messages
        prompt = context.prompts.render(
            PROMPT,
            question=question(conversation),
            answers=numbered([one.call.choice.text for one in self._heard]),
            example=_EXAMPLE,
        )
        asked = context.consult(
            "judge",
            self._lead,
            followed_by(conversation, prompt),
            generation=own_generation(context, self._lead, _format(self._lead, len(self._heard))),
        )
        async with aclosing(asked.events()) as events:
            async for event in events:
                yield event
        reason = fault(asked.response, asked.error)
        choice = None if reason else read_choice(asked.choice.text, len(self._heard))
        if choice is None:
            reason = reason or "its reply names none of the answers"
            yield Warning(f"the judge {name!r} has not chosen, and the answer most others resemble stands: {reason}")
        else:
            self._aggregator.chosen = self._heard[choice - 1]


def read_choice(text: str, count: int) -> int | None:
    """The number, from 1 to `count`, that a judge's reply chooses: that of its last JSON object with one."""
    for choice in stated(text, "choice"):
        if isinstance(choice, int) and not isinstance(choice, bool) and 1 <= choice <= count:
            return choice
    return None


def _format(model: Model, count: int) -> ResponseFormat | None:
    """The strictest format that the judge can hold to; the prompt asks for JSON in any case."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "choice": {"type": "integer", "minimum": 1, "maximum": count}},
        "required": ["reason", "choice"],
        "additionalProperties": False,
    }
    if model.profile.capabilities.json_schema:
        return ResponseFormat("json_schema", "choice", schema, strict=True)
    return ResponseFormat("json_object") if model.profile.capabilities.json_object else None
