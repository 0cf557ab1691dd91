"""direct: one model, as a plain gateway would ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import ClassVar

from app.core.run_events import RunEvent
from app.core.runs import RunRequest
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.reliability.forecast import PlannedCall


class DirectOrchestrator(BaseOrchestrator):
    """Puts the prompt to the first of the selected models and gives back its answer."""

    name: ClassVar[str] = "direct"
    summary: ClassVar[str] = "One model. What a plain gateway does, at a gateway's speed."
    models_needed: ClassVar[int | None] = 1

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        return (context.planned(context.models[0]),)

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        asked = context.ask(context.models[0], output=True)
        async with aclosing(asked.events()) as events:
            async for event in events:
                yield event
        if asked.error:
            raise asked.error
        yield asked.ending()
