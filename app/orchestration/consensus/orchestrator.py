"""consensus: a panel answers, and what its answers say together is the answer, with how sure that is.

    ask        `panel.Panel`: the models, `k` times each; those whose word weighs most first, and no more than are needed
    read       `evidence.extraction`: what each answer says
    count      `aggregators`: vote, numeric, cluster, fields, judge
    tell       the evidence, live; confidence; whether a person should look

Replicates of one model follow Wang et al., "Self-Consistency Improves Chain of Thought Reasoning" (2023).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar, cast

from app.core.embeddings import EmbeddingResponse
from app.core.errors import InvalidRequest
from app.core.models import Model
from app.core.run_events import (
    Ending,
    OutputDelta,
    PlanMade,
    RunEvent,
    RunFinished,
    Warning,
)
from app.core.run_fold import output_deltas
from app.core.runs import PlanDecision, RunRequest, RunStatus
from app.orchestration.answers import fault, is_empty, nothing_said, too_few
from app.orchestration.base import BaseOrchestrator, NamedModel, StrategyOptions
from app.orchestration.calls import Member
from app.orchestration.consensus.acting import dissenting, read_of, verdict
from app.orchestration.consensus.aggregator import Aggregator, Found, Heard, counted, readable
from app.orchestration.consensus.asking import calls_of, instructed, known_of, seated, weights_of, winner_of
from app.orchestration.consensus.counting import Counting
from app.orchestration.consensus.judge import PROMPT, Choosing, Judged
from app.orchestration.consensus.options import MAX_CALLS, ConsensusOptions
from app.orchestration.consensus.registry import aggregators
from app.orchestration.consensus.telling import Telling
from app.orchestration.consensus.texts import Texts
from app.orchestration.context import RunContext
from app.orchestration.evidence.extraction import Extracted, extract
from app.orchestration.learning.taught import Said, Taught
from app.orchestration.panel import Panel
from app.orchestration.tools.panels import check_tools, concluded, most_steps, passed_over, seating, waits, worst_steps
from app.orchestration.tools.resuming import chosen, gone_on
from app.reliability.forecast import PlannedCall


class ConsensusOrchestrator(BaseOrchestrator):
    """Asks a panel, and answers with what it agrees on."""

    name: ClassVar[str] = "consensus"
    summary: ClassVar[str] = (
        "A panel answers; votes, medians, clusters or a judge make one answer of it, and say how sure it is."
    )
    Options: ClassVar[type[StrategyOptions]] = ConsensusOptions

    def models_of(self, options: StrategyOptions) -> Sequence[NamedModel]:
        embeddings: str | None = cast("ConsensusOptions", options).embeddings
        return (NamedModel(embeddings, ("embeddings",), helps=True),) if embeddings else ()

    def check(self, request: RunRequest, context: RunContext) -> None:
        options: ConsensusOptions = context.options
        check_tools(request, context)
        if options.embeddings and context.named[options.embeddings].embed is None:
            message = f"the model {options.embeddings!r} makes no embeddings: its provider has none"
            raise InvalidRequest(message, param="options.embeddings")
        if options.method not in aggregators():
            message = f"there is no aggregator {options.method!r}; there are {', '.join(aggregators())}"
            raise InvalidRequest(message, param="options.aggregator")
        if isinstance(options.panel, int) and options.panel > len(context.models):
            message = f"panel is {options.panel}, but there are only {len(context.models)} models to choose from"
            raise InvalidRequest(message, param="options.panel")
        members = seated(context)
        if options.min_responses > len(members):
            message = f"min_responses is {options.min_responses}, but only {len(members)} models are asked"
            raise InvalidRequest(message, param="options.min_responses")
        if len(members) * options.k > MAX_CALLS:
            message = (
                f"{len(members)} models {options.k} times over are {len(members) * options.k} answers; at most {MAX_CALLS}"
            )
            raise InvalidRequest(message, param="options.k")
        if isinstance(options.weights, Mapping):
            unknown = [name for name in options.weights if name not in {m.profile.name for m in context.models}]
            if unknown:
                message = f"{unknown[0]!r} is none of the models that are asked"
                raise InvalidRequest(message, param="options.weights")
        if request.generation.n > 1:
            message = f"n is {request.generation.n}, but 'consensus' makes one answer; ask for `k` replicates instead"
            raise InvalidRequest(message, param="n")
        if request.tools:
            raise InvalidRequest("tool calls cannot be counted; leave `tools` out", param="tools")

    def may_pause(self, context: RunContext) -> bool:
        return waits(context, unsettled=True)

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        options: ConsensusOptions = context.options
        names = tuple(member.profile.name for member in seated(context))
        lead = context.judge.profile.name if options.method == Judged.name else None
        times = f" {options.k} times each" if options.k > 1 else ""
        stop = "" if options.stop == "never" else f", until the outcome is {options.stop}"
        then = f"; {lead!r} chooses" if lead else f"; {options.method} over the answers"
        return PlanDecision(self.name, names, lead, reason=f"{len(names)} models are asked{times}{stop}{then}")

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        options: ConsensusOptions = context.options
        members = seated(context)
        asked = instructed(request, options)
        many, last = len(members) * options.k, 1 + most_steps(context)
        calls = [call for member in members for _ in range(options.k) for call in worst_steps(context, member, prompt=asked)]
        if options.method == Judged.name and many > 1:
            prompt = context.prompts.render(PROMPT)
            calls.append(context.planned(context.judge, "judge", stage=last, quoting=many, prompt=prompt))
        if options.embeddings:
            planned = context.planned(context.named[options.embeddings], "embedding", stage=last, quoting=many)
            calls.append(replace(planned, output_tokens=0))
        return calls

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        options: ConsensusOptions = context.options
        seats, choice = await seating(context), chosen(context)
        if choice is not None:
            async with aclosing(gone_on(context, choice, winner_of(context, choice, seats))) as events:
                async for event in events:
                    yield event
            return
        yield PlanMade(self.plan(request, context))
        members = seated(context)
        aggregator = _aggregator(context, members)
        calls = calls_of(context, members, seats)
        panel = Panel(calls, context.max_concurrent_calls)
        telling = Telling(context, members, aggregator)
        yield telling.begun()
        for note in seats.notes:
            yield Warning(note)

        counting = Counting()
        heard: list[Heard] = []
        early = acts = False
        panel.start(aggregator.wanted(heard, [call.profile_name for call in calls]))
        async with aclosing(panel.events()) as events:
            async for event in events:
                yield event
                ended = panel.ended_with(event)
                if ended is None:
                    continue
                one = _heard(ended, options)
                heard.append(one)
                counting.grown(one)
                await counting.of(aggregator.take_in, one)
                async with aclosing(telling.heard(heard, counting)) as updates:
                    async for update in updates:
                        yield update
                left = counted(call.profile_name for call in panel.unheard)
                acts = acts or ended.wants is not None
                enough = not acts or not panel.unheard  # who acts is decided by all
                if enough and _answered(heard) >= options.min_responses and await counting.of(aggregator.enough, heard, left):
                    early = bool(panel.unheard)
                    break
                if acts:
                    panel.start(len(panel.waiting))
                elif not panel.running or options.stop == "never":
                    waiting = [call.profile_name for call in panel.waiting]
                    panel.start(await counting.of(aggregator.wanted, heard, waiting))
        for event in panel.let_go():
            yield event
        heard.sort(key=lambda one: calls.index(one.call))  # so that ties do not go by who was quick

        answered = [one for one in heard if one.call.response is not None]
        read = readable(heard)
        enough = _answered(heard) >= options.min_responses
        decided = verdict(heard, aggregator)
        winner = decided.winner if decided else None
        if not enough or not (read or winner):
            yield telling.unread(heard)
        if not enough:
            raise too_few([one.call for one in heard], options.min_responses)
        for note in _notes(heard):
            yield Warning(note)
        for warning in passed_over(calls, winner):
            yield warning
        if decided is not None and decided.found is not None and winner is not None:
            yield telling.ready(heard, decided.found, early=early)
            async with aclosing(concluded(winner, calls, decided.unwanted, _status(decided.found))) as events:
                async for event in events:
                    yield event
            return
        if not read:
            empty = nothing_said([one.call for one in heard])
            if empty is not None:
                raise empty
            said = tuple(Said(one.call.candidate.id, one.member, None) for one in answered)
            context.taught = Taught(said, aggregator.panel, None, reader=options.kind)
            for event in _unread(answered, options):
                yield event
            return
        if options.embeddings and isinstance(aggregator, Texts) and len(read) > 1:
            async with aclosing(_embedded(context, aggregator, read)) as events:
                async for event in events:
                    yield event
        if isinstance(aggregator, Judged):
            async with aclosing(Choosing(context, aggregator, read, context.judge).events()) as events:
                async for event in events:
                    yield event
        found = await counting.of(aggregator.found, heard)
        context.taught = found.taught
        if decided is not None:
            found = dissenting(found, decided, heard)
        yield telling.ready(heard, found, early=early)
        for event in _answer(found):
            yield event


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


def _aggregator(context: RunContext, members: Sequence[Model]) -> Aggregator:
    options: ConsensusOptions = context.options
    kind = aggregators()[options.method]
    made = kind(
        options,
        weights_of(context, members),
        context.lessons.calibrators(),
        panel=len(members),
        category=context.category,
    )
    made.known = known_of(context, members)
    return made


def _heard(call: Member, options: ConsensusOptions) -> Heard:
    if call.wants is not None:
        return Heard(call, read_of(call))
    reason = fault(call.response, call.error)
    if reason:
        return Heard(call, Extracted(errors=(reason,)))
    return Heard(call, extract(call.choice.text, options.kind, stated=options.stated_confidence))


def _answered(heard: Sequence[Heard]) -> int:
    """How many models have answered."""
    return len({one.member for one in heard if one.call.response is not None})


def _notes(heard: Sequence[Heard]) -> list[str]:
    return [
        f"the answer {one.call.candidate.id} of {one.member!r} is not counted: it {'; '.join(one.read.errors)}"
        for one in heard
        if one.call.response is not None and one.read.errors and one.call.wants is None
    ]


def _unread(answered: Sequence[Heard], options: ConsensusOptions) -> list[RunEvent]:
    """Nobody's answer could be read: the first one that says anything is passed on as it is, and whoever wants certainty is
    told to look."""
    first = next(one for one in answered if not is_empty(one.call))
    status = "succeeded" if options.review_below is None else "needs_review"
    note = f"none of the {len(answered)} answers could be read; that of {first.member!r} is passed on as it is"
    end = first.call.ending()
    return [Warning(note), *output_deltas(first.call.choice), replace(end, status=status)]


def _status(found: Found) -> RunStatus:
    return "needs_review" if found.consensus.needs_review else "succeeded"


def _answer(found: Found) -> list[RunEvent]:
    status = _status(found)
    if found.stands is not None:
        end = found.stands.call.ending()
        return [*output_deltas(found.stands.call.choice), replace(end, status=status, json=found.json)]
    return [OutputDelta(0, "text", found.text), RunFinished(status, is_synthesized=True, endings=(Ending(),), json=found.json)]
