"""Embeddings as a run, with the limits, budgets, deadlines and figures of any other. It is no strategy to be named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar, cast

from app.core.embeddings import EmbeddingResponse
from app.core.errors import CapabilityMissing, OrchestratorError
from app.core.run_events import RunEvent, RunFinished
from app.core.runs import RunRequest
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.reliability.forecast import PlannedCall


class EmbeddingsOptions(StrategyOptions):
    """What is embedded; the request's messages are the same texts, so that they are counted."""

    texts: tuple[str, ...]
    dimensions: int | None = None


class EmbeddingsOrchestrator(BaseOrchestrator):
    """Asks one model for vectors. They are the output's `json`, one a text."""

    name: ClassVar[str] = "embeddings"
    Options: ClassVar[type[StrategyOptions]] = EmbeddingsOptions
    models_needed: ClassVar[int | None] = 1

    def check(self, request: RunRequest, context: RunContext) -> None:
        profile = context.models[0].profile
        if context.models[0].embed is None:
            message = f"the model {profile.name!r} makes no embeddings: its provider {profile.provider!r} has none"
            raise CapabilityMissing(message, param="model")

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        return [replace(context.planned(context.models[0], "embedding"), output_tokens=0)]

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        options: EmbeddingsOptions = context.options
        asked = context.embed(context.models[0], options.texts, options.dimensions)
        async with aclosing(asked.events()) as events:
            async for event in events:
                yield event
        if asked.response is None:
            raise asked.error or OrchestratorError(f"{asked.profile_name!r} ended without an answer")
        found = cast("EmbeddingResponse", asked.response)
        yield RunFinished(source_model=asked.profile_name, endings=(), json=found.vectors)
