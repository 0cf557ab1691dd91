"""The analysis `peer_ranking`: the models rank all answers, not knowing whose is whose, and Borda's rule counts."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from app.core.chat import ResponseFormat
from app.core.errors import OrchestratorError, report
from app.core.models import Model
from app.core.run_events import AnalysisFinished, CandidateScored, RunEvent, Warning
from app.core.runs import Analysis
from app.core.streams import merge
from app.orchestration.analysis import own_generation
from app.orchestration.answers import fault
from app.orchestration.calls import Consultation, Member
from app.orchestration.context import RunContext
from app.orchestration.quoting import followed_by, question, quoted
from app.orchestration.ranking import Ballot, borda, concordance, labels, orders, parse_ballot, scores

KIND = "peer_ranking"


@dataclass(frozen=True, slots=True)
class _Ranker:
    """A model asked for its ranking. `shown` are the candidates' ids in the order of their labels."""

    call: Consultation
    shown: tuple[str, ...]


class PeerRanking:
    """The mutual ranking. After `events`, `analysis` holds the points and ballots, and `scores` those of the candidates."""

    def __init__(self, context: RunContext, answers: Sequence[Member]) -> None:
        self.analysis = Analysis(KIND)
        self.scores: dict[str, float] = {}
        self._context = context
        self._answers = answers
        self._labels = labels(len(answers))

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask all at once, and tell. A ballot that cannot be had or read is a warning, and is not counted."""
        rankers = self._rankers()
        async with aclosing(
            merge([ranker.call.events() for ranker in rankers], limit=self._context.max_concurrent_calls)
        ) as events:
            async for event in events:
                yield event
        ballots: list[tuple[_Ranker, Ballot]] = []
        for ranker in rankers:
            ballot, reason = self._ballot(ranker)
            if ballot is None:
                yield Warning(f"the ranking by {ranker.call.profile_name!r} is not counted: {reason}")
            else:
                ballots.append((ranker, ballot))
        for event in self._counted(ballots):
            yield event

    def _rankers(self) -> tuple[_Ranker, ...]:
        seed = self._context.request.generation.seed
        turns = orders(len(self._answers), len(self._answers), self._context.run_id if seed is None else seed)
        return tuple(self._ranker(call.model, order) for call, order in zip(self._answers, turns, strict=True))

    def _ranker(self, model: Model, order: Sequence[int]) -> _Ranker:
        context, shown = self._context, [self._answers[index] for index in order]
        prompt = context.prompts.render(
            KIND,
            question=question(context.request.messages),
            answers=quoted("answer", [call.choice.text for call in shown], self._labels),
            labels=", ".join(self._labels),
            example=json.dumps({"ranking": list(reversed(self._labels))}),
        )
        call = context.consult(
            "ranking",
            model,
            followed_by(context.request.messages, prompt),
            generation=own_generation(context, model, _format(model, self._labels)),
        )
        return _Ranker(call, tuple(call.candidate.id for call in shown))

    def _ballot(self, ranker: _Ranker) -> tuple[Ballot | None, str]:
        """The ballot with the candidates' ids in place of the labels, or why there is none."""
        reason = fault(ranker.call.response, ranker.call.error)
        if reason is not None:
            return None, reason
        ballot = parse_ballot(ranker.call.choice.text, self._labels)
        if ballot is None:
            return None, "its reply holds no valid ranking"
        ids = dict(zip(self._labels, ranker.shown, strict=True))
        return tuple(tuple(ids[label] for label in group) for group in ballot), ""

    def _counted(self, ballots: Sequence[tuple[_Ranker, Ballot]]) -> list[RunEvent]:
        members = [call.candidate.id for call in self._answers]
        if not ballots:
            failure = OrchestratorError("no model gave a valid ranking")
            self.analysis = Analysis(KIND, error=report(failure))
            return [Warning(f"the peer ranking failed and is left out: {failure.message}"), AnalysisFinished(self.analysis)]
        cast = [ballot for _, ballot in ballots]
        points = borda(cast, members)
        self.scores = scores(points, len(cast))
        agreement = concordance(cast, members)
        data = {
            "borda": points,
            "ballots": [
                {
                    "model": ranker.call.profile_name,
                    "shown": dict(zip(self._labels, ranker.shown, strict=True)),
                    "ranking": [list(group) for group in ballot],
                }
                for ranker, ballot in ballots
            ],
            "agreement": agreement,
        }
        self.analysis = Analysis(KIND, text=self._summary(agreement), data=data)
        scored = [CandidateScored(member, self.scores[member]) for member in members]
        return [*scored, AnalysisFinished(self.analysis)]

    def _summary(self, agreement: float | None) -> str:
        """The outcome in words, by the numbers that the answers have in the synthesis."""
        points = [(self.scores[call.candidate.id], number) for number, call in enumerate(self._answers, 1)]
        ranked = sorted(points, key=lambda row: (-row[0], row[1]))
        outcome = ", ".join(f"answer {number} ({score:.2f})" for score, number in ranked)
        known = "" if agreement is None else f" Their agreement (Kendall's W, 0 to 1) was {agreement:.2f}."
        return f"The assistants ranked the answers without knowing whose they were. Best first, from 0 to 1: {outcome}.{known}"


def _format(model: Model, known: Sequence[str]) -> ResponseFormat | None:
    """The strictest format that the model can hold to; the prompt asks for JSON in any case."""
    if model.profile.capabilities.json_schema:
        schema = {
            "type": "object",
            "properties": {"ranking": {"type": "array", "items": {"type": "string", "enum": list(known)}}},
            "required": ["ranking"],
            "additionalProperties": False,
        }
        return ResponseFormat("json_schema", "ranking", schema, strict=True)
    return ResponseFormat("json_object") if model.profile.capabilities.json_object else None
