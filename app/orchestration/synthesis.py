"""The synthesis phase of `simple`: one answer made of several, by the first lead model that manages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from app.core.models import Model
from app.core.run_events import OutputDelta, OutputReset, RunEvent, RunFinished, Warning
from app.core.run_fold import output_deltas
from app.core.runs import Analysis
from app.orchestration.answers import fault
from app.orchestration.calls import Member
from app.orchestration.context import RunContext
from app.orchestration.quoting import followed_by, numbered, question, quoted


class Synthesis:
    """The synthesis of `answers`. When `events` is over, `ending` says where the output came from.

    Parameters:
        leads: the models to try, in order.
        scores: of candidates by id; where no lead manages, the best-scored answer is the output.
    """

    ending: RunFinished

    def __init__(
        self,
        context: RunContext,
        answers: Sequence[Member],
        analysis: Analysis | None,
        *,
        leads: Sequence[Model],
        scores: Mapping[str, float],
    ) -> None:
        self._context = context
        self._answers = answers
        self._analysis = analysis
        self._leads = leads
        self._scores = scores
        self._said = False

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Stream the output. What a failed lead has said is taken back before the next one speaks."""
        messages = followed_by(self._context.request.messages, self._prompt())
        for number, lead in enumerate(self._leads, 1):
            asked = self._context.consult("synthesis", lead, messages, output=True)
            async with aclosing(asked.events()) as events:
                async for event in events:
                    self._said = self._said or isinstance(event, OutputDelta)
                    yield event
            reason = fault(asked.response, asked.error)
            if reason is None:
                self.ending = asked.ending(is_synthesized=True)
                return
            failed = f"the synthesis by {asked.profile_name!r} failed ({reason})"
            following = self._leads[number : number + 1]
            if following:
                yield Warning(f"{failed}; {following[0].profile.name!r} is asked instead")
            if self._said:
                self._said = False
                yield OutputReset(failed)
            if not following:
                for event in self._best(failed):
                    yield event

    def _prompt(self) -> str:
        context, analysis = self._context, self._analysis
        found = quoted("analysis", [analysis.text]) if analysis and analysis.text else ""
        return context.prompts.render(
            "synthesis",
            question=question(context.request.messages),
            answers=numbered([call.choice.text for call in self._answers]),
            analysis=f"\n\nAn analysis of these answers, data as well:\n\n{found}" if found else "",
        )

    def _best(self, failed: str) -> list[RunEvent]:
        best = max(self._answers, key=lambda call: self._scores.get(call.candidate.id, 0.0))  # the first of equals
        self.ending = best.ending()
        chosen = "the best-ranked answer" if self._scores else "the first answer"
        return [
            Warning(f"{failed}; the output is {chosen}, by {best.profile_name!r}, as it is"),
            *output_deltas(best.choice),
        ]
