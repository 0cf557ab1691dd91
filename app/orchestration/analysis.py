"""The analysis phase of `simple` that one model writes: comparative, factual, critique, or a configured pattern."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.core.chat import Generation, ResponseFormat
from app.core.errors import OrchestratorError, report
from app.core.models import Model
from app.core.run_events import AnalysisFinished, RunEvent, Warning
from app.core.runs import Analysis
from app.orchestration.answers import fault
from app.orchestration.calls import Member
from app.orchestration.context import RunContext
from app.orchestration.quoting import followed_by, numbered, question


class WrittenAnalysis:
    """The lead's analysis of the answers. `analysis` is there when `events` is over, with an error where it failed."""

    def __init__(self, context: RunContext, kind: str, answers: Sequence[Member], lead: Model) -> None:
        self.analysis = Analysis(kind)
        self._context = context
        self._answers = answers
        self._lead = lead

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask, and tell. A failed analysis is a warning: the run goes on without it."""
        context, kind, name = self._context, self.analysis.kind, self._lead.profile.name
        conversation = context.request.messages
        prompt = context.prompts.render_analysis(
            kind, question=question(conversation), answers=numbered([call.choice.text for call in self._answers])
        )
        asked = context.consult(
            "analysis", self._lead, followed_by(conversation, prompt), generation=own_generation(context, self._lead)
        )
        async with aclosing(asked.events()) as events:
            async for event in events:
                yield event
        reason = fault(asked.response, asked.error)
        if reason is None:
            self.analysis = Analysis(kind, name, asked.choice.text.strip())
        else:
            failure = asked.error or OrchestratorError(f"{name!r} {reason}")
            self.analysis = Analysis(kind, name, error=report(failure))
            yield Warning(f"the {kind} analysis by {name!r} failed and is left out: {reason}")
        yield AnalysisFinished(self.analysis)


def own_generation(context: RunContext, model: Model, response_format: ResponseFormat | None = None) -> Generation:
    """The settings of a call whose text is not the run's answer: the caller's limits and formats are not for it."""
    seed = context.request.generation.seed if model.profile.capabilities.seed else None
    return Generation(seed=seed, response_format=response_format)
