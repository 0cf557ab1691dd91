"""One run of `parallel`: who is asked next, what they have said, when it is enough, and which answer is taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from app.core.models import Model
from app.core.run_events import CandidateScored, CandidateStarted, RunEvent, Warning
from app.core.run_fold import output_deltas
from app.core.runs import RunRequest
from app.orchestration.answers import fault, nothing_said, too_few
from app.orchestration.calls import Member
from app.orchestration.context import RunContext
from app.orchestration.evidence.asked import asked_kind
from app.orchestration.evidence.extraction import Choices, JsonAnswer
from app.orchestration.judging import Judgement
from app.orchestration.learning.hashing import asked_text
from app.orchestration.outlook import outlook
from app.orchestration.panel import Panel
from app.orchestration.parallel.options import ParallelOptions
from app.orchestration.parallel.order import ranked
from app.orchestration.parallel.scoring import Said, Scorer, said
from app.orchestration.parallel.teaching import taught_by
from app.orchestration.tasks import OPEN_ENDED
from app.orchestration.tools.asking import seat_of
from app.orchestration.tools.panels import Seating, concluded, passed_over

UNKNOWN_P95_S: Final = 10.0
"""How long a model may take before the next one is asked, where nothing was measured of it."""
USUAL_TO_P95: Final = 2.0
"""Where only the usual time is known: its 95th percentile is taken to be twice as long."""


class Contest:
    """One run: the calls, what they have said, and which of it is good."""

    def __init__(self, context: RunContext, seating: Seating) -> None:
        self._context = context
        self._options: ParallelOptions = context.options
        self._models = ranked(context)
        self._notes = seating.notes
        self._calls = [seating.member(model) for model in self._models]
        self._panel = Panel(self._calls, context.max_concurrent_calls)
        self._most = min(self._options.max_models or len(self._calls), len(self._calls))
        self._began: dict[str, float] = {}
        self._failed = 0
        self._answered: list[Member] = []
        self._said: list[Said] = []
        self._judged: dict[str, float] = {}
        self._kind = _kind(context.request)
        self._open_ended = context.category in OPEN_ENDED
        self._scorer = Scorer(
            context.lessons.weights([model.profile for model in self._models]),
            context.lessons.calibrators(),
            self._most,
            context.category,
        )

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask until enough is good, and give the answer.

        Raises:
            AllCandidatesFailed: fewer than `min_responses` models answered.
            QuorumError: the failure of the only model there was.
        """
        for note in self._notes:
            yield Warning(note)
        hedged = self._options.hedge_after is not None
        self._start(self._options.min_responses if hedged else self._most)
        async with aclosing(self._panel.events()) as events:
            async for event in events:
                yield event
                if isinstance(event, CandidateStarted):
                    self._began[seat_of(event.candidate_id)] = self._context.clock.monotonic()
                    self._hedge()
                call = self._panel.ended_with(event)
                if call is None:
                    continue
                if call.response is None:
                    self._failed += 1
                else:
                    async with aclosing(self._hear(call)) as judged:
                        async for told in judged:
                            yield told
                    if self._enough():
                        break
                self._start(self._lacking() if hedged else self._most + self._failed - self._panel.wanted)
                self._hedge()
        for event in self._panel.let_go():
            yield event
        if len(self._answered) < self._options.min_responses:
            raise too_few(self._panel.ended, self._options.min_responses)
        empty = nothing_said(self._panel.ended)
        if empty is not None:
            raise empty
        taken = self._taken(self._good() or self._answered, self._scores())
        for event in self._end(taken):
            yield event
        if taken.wants is not None:
            async with aclosing(concluded(taken, self._calls)) as events:
                async for event in events:
                    yield event
            return
        yield taken.ending()

    def _start(self, count: int) -> None:
        """Have `count` more begin, as far as there may be more."""
        self._panel.start(max(0, min(count, self._most + self._failed - self._panel.wanted)))

    def _lacking(self) -> int:
        """How many more must be at work, if all of them are good, for enough good answers."""
        return self._options.min_responses - len(self._good()) - self._panel.running

    def _hedge(self) -> None:
        """Set when the next one begins, if those at work say nothing until then."""
        wanted, rule = self._panel.wanted, self._options.hedge_after
        if rule is None or wanted >= min(len(self._calls), self._most + self._failed):
            self._panel.start_one_in(None)
            return
        now = self._context.clock.monotonic()
        ended = {call.candidate.id for call in self._panel.ended}
        due = [
            began + (_patience_s(self._context, call.model) if rule == "p95" else rule)
            for call in self._calls
            if (began := self._began.get(seat_of(call.candidate.id))) is not None and call.candidate.id not in ended
        ]
        self._panel.start_one_in(max(due) - now if due else None)

    async def _hear(self, call: Member) -> AsyncGenerator[RunEvent]:
        """An answer is there: read it, and have it judged if that is wanted."""
        wants = call.wants.label if call.wants else None
        one = said(call.profile_name, call.choice, self._kind, open_ended=self._open_ended, wants=wants)
        self._answered.append(call)
        self._said.append(one)
        if self._options.select != "judge" or one.form == 0 or not call.choice.text.strip():
            return
        judgement = Judgement(self._context, self._context.judge, call.candidate.id, call.choice.text)
        async with aclosing(judgement.events()) as events:
            async for event in events:
                if not isinstance(event, CandidateScored):  # told with all scores at the end
                    yield event
        if judgement.score is None:
            yield Warning(f"{judgement.reason}; the answer of {call.profile_name!r} is scored by what it says")
        else:
            self._judged[call.candidate.id] = judgement.score

    def _scores(self) -> dict[str, float]:
        """By candidate."""
        found = self._scorer.scores(self._said)
        ids = [call.candidate.id for call in self._answered]
        return {**dict(zip(ids, found, strict=True)), **self._judged}

    def _good(self) -> list[Member]:
        scores = self._scores()
        return [call for call in self._answered if scores[call.candidate.id] >= self._options.quality_threshold]

    def _enough(self) -> bool:
        options = self._options
        if len(self._good()) >= options.min_responses:
            return True
        if options.select != "score" or len(self._answered) < options.min_responses:
            return False
        unheard = set(map(id, self._panel.unheard))
        left = [call.profile_name for call in self._calls[: self._most + self._failed] if id(call) in unheard]
        return bool(left) and self._scorer.decided(self._said, left)

    def _end(self, taken: Member) -> list[RunEvent]:
        """What there is to say of the answers, and that which is taken; its calls of tools are still to be made."""
        scores, good = self._scores(), self._good()
        events: list[RunEvent] = [CandidateScored(call.candidate.id, scores[call.candidate.id]) for call in self._answered]
        self._teach(taken)
        score = scores[taken.candidate.id]
        reason = fault(taken.response, taken.error) if not taken.choice.tool_calls else None
        if len(good) < self._options.min_responses:
            found = f"{len(good)} of {len(self._answered)} answers reached {self._options.quality_threshold:g}"
            events.append(Warning(f"{found}; that of {taken.profile_name!r} ({score:.2f}) is taken all the same"))
        if reason is not None:
            events.append(Warning(f"no answer can be worked with; that of {taken.profile_name!r} {reason}"))
        events.extend(passed_over(self._answered, taken))
        if taken.wants is not None:
            return events
        response = taken.response
        assert response is not None  # noqa: S101 - only those that answered are among them
        for choice in (taken.choice, *response.choices[1:]):
            events.extend(output_deltas(choice))
        return events

    def _teach(self, taken: Member) -> None:
        ids, place = [call.candidate.id for call in self._answered], self._answered.index(taken)
        self._context.taught = taught_by(ids, self._said, place, self._scorer, self._kind)

    def _taken(self, among: Sequence[Member], scores: dict[str, float]) -> Member:
        """The answer that is taken, `among` those that came, in their order."""
        match self._options.select:
            case "first":
                return max(among, key=lambda call: scores[call.candidate.id] > 0)
            case "longest":
                return max(among, key=lambda call: len(call.choice.text))
            case "score" | "judge":
                weights, category = self._scorer.weights, self._context.category
                return max(among, key=lambda call: (scores[call.candidate.id], weights.voice(call.profile_name, category)))


def _kind(request: RunRequest) -> Choices | JsonAnswer | None:
    """What kind of answer is asked for."""
    form = request.generation.response_format
    if form is not None and form.type != "text":
        return JsonAnswer(form.schema)
    asked = asked_text(request.messages)
    return asked_kind(asked)


def _patience_s(context: RunContext, model: Model) -> float:
    """How long `model` may take before it is slow."""
    known = outlook(context, model.profile)
    if known.p95_s is not None:
        return known.p95_s
    return UNKNOWN_P95_S if known.latency_s is None else USUAL_TO_P95 * known.latency_s
