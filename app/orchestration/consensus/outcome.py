"""What a panel's answers come to, once they are heard: its winner acts, they are counted, or none of them can be."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import cast

from app.core.embeddings import EmbeddingResponse
from app.core.run_events import Ending, OutputDelta, RunEvent, RunFinished, Warning
from app.core.run_fold import output_deltas
from app.core.runs import RunStatus
from app.orchestration.answers import is_empty, nothing_said, too_few
from app.orchestration.calls import Member
from app.orchestration.consensus.acting import Verdict, dissenting, verdict
from app.orchestration.consensus.aggregator import Aggregator, Found, Heard, readable
from app.orchestration.consensus.hearing import Hearing
from app.orchestration.consensus.judge import Choosing, Judged
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.consensus.telling import Telling
from app.orchestration.consensus.texts import Texts
from app.orchestration.context import RunContext
from app.orchestration.learning.taught import Said, Taught
from app.orchestration.tools.panels import concluded, passed_over


class Outcome:
    """The rest of a run whose panel was heard, to its end.

    Parameters:
        calls: the panel, in its order.
        hearing: what was heard of it, in the same order.
    """

    def __init__(
        self, context: RunContext, calls: Sequence[Member], aggregator: Aggregator, telling: Telling, hearing: Hearing
    ) -> None:
        self._context, self._calls, self._aggregator = context, calls, aggregator
        self._telling, self._hearing, self._heard = telling, hearing, hearing.heard
        self._options: ConsensusOptions = context.options

    async def events(self) -> AsyncGenerator[RunEvent]:
        """What is left to tell.

        Raises:
            QuorumError: too few have answered, none of them says anything, or the winner fails.
        """
        heard, read = self._heard, readable(self._heard)
        decided = verdict(heard, self._aggregator)
        winner = decided.winner if decided else None
        enough = self._hearing.suffices
        if not enough or not (read or winner):
            yield self._telling.unread(heard)
        if not enough:
            raise too_few([one.call for one in heard], self._options.min_responses)
        for note in _notes(heard):
            yield Warning(note)
        for warning in passed_over(self._calls, winner):
            yield warning
        if decided is not None and decided.found is not None and winner is not None:
            yield self._telling.ready(heard, decided.found, early=self._hearing.early)
            rest = concluded(winner, self._calls, decided.unwanted, _status(decided.found))
        elif read:
            rest = self._counted(read, decided)
        else:
            for event in self._unread():
                yield event
            return
        async with aclosing(rest) as events:
            async for event in events:
                yield event

    async def _counted(self, read: Sequence[Heard], decided: Verdict | None) -> AsyncGenerator[RunEvent]:
        """The answers that could be `read` are compared, judged or counted, and what they say together is the answer."""
        context, aggregator, heard = self._context, self._aggregator, self._heard
        if self._options.embeddings and isinstance(aggregator, Texts) and len(read) > 1:
            async with aclosing(_embedded(context, aggregator, read)) as events:
                async for event in events:
                    yield event
        if isinstance(aggregator, Judged):
            async with aclosing(Choosing(context, aggregator, read, context.judge).events()) as events:
                async for event in events:
                    yield event
        found = await self._hearing.counting.of(aggregator.found, heard)
        context.taught = found.taught
        if decided is not None:
            found = dissenting(found, decided, heard)
        yield self._telling.ready(heard, found, early=self._hearing.early)
        for event in _answer(found):
            yield event

    def _unread(self) -> Iterator[RunEvent]:
        """Nobody's answer could be read: the first one that says anything is passed on as it is, and whoever wants certainty is
        told to look."""
        empty = nothing_said([one.call for one in self._heard])
        if empty is not None:
            raise empty
        options = self._options
        answered = [one for one in self._heard if one.call.response is not None]
        said = tuple(Said(one.call.candidate.id, one.member, None) for one in answered)
        self._context.taught = Taught(said, self._aggregator.panel, None, reader=options.kind)
        first = next(one for one in answered if not is_empty(one.call))
        status = "succeeded" if options.review_below is None else "needs_review"
        yield Warning(f"none of the {len(answered)} answers could be read; that of {first.member!r} is passed on as it is")
        yield from output_deltas(first.call.choice)
        yield replace(first.call.ending(), status=status)


async def _embedded(context: RunContext, aggregator: Texts, read: Sequence[Heard]) -> AsyncGenerator[RunEvent]:
    """Have the texts embedded; where that fails their words are compared."""
    options: ConsensusOptions = context.options
    asked = context.embed(context.named[options.embeddings or ""], [str(one.read.data) for one in read])
    async with aclosing(asked.events()) as events:
        async for event in events:
            yield event
    if asked.response is None:
        reason = asked.error.message if asked.error else "no answer came"
        yield Warning(f"the answers are compared by their words, for {asked.profile_name!r} embeds none: {reason}")
        return
    vectors = cast("EmbeddingResponse", asked.response).vectors
    aggregator.vectors = {one.call.candidate.id: vector for one, vector in zip(read, vectors, strict=True)}


def _notes(heard: Sequence[Heard]) -> list[str]:
    return [
        f"the answer {one.call.candidate.id} of {one.member!r} is not counted: it {'; '.join(one.read.errors)}"
        for one in heard
        if one.call.response is not None and one.read.errors and one.call.wants is None
    ]


def _status(found: Found) -> RunStatus:
    return "needs_review" if found.consensus.needs_review else "succeeded"


def _answer(found: Found) -> list[RunEvent]:
    status = _status(found)
    if found.stands is not None:
        end = found.stands.call.ending()
        return [*output_deltas(found.stands.call.choice), replace(end, status=status, json=found.json)]
    return [OutputDelta(0, "text", found.text), RunFinished(status, is_synthesized=True, endings=(Ending(),), json=found.json)]
