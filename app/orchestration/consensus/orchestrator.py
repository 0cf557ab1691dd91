"""consensus: a panel answers, and what its answers say together is the answer, with how sure that is.

    ask        `panel.Panel`: the models, `k` times each; those whose word weighs most first, and no more than are needed
    hear       `hearing`: what each answer says (`evidence.extraction`), and whether more are wanted
    tell       `telling`: the evidence, live
    conclude   `outcome`: the winner acts, or the answers are counted by one of `aggregators` (vote, numeric, cluster, fields,
               judge): confidence, and whether a person should look

Replicates of one model follow Wang et al., "Self-Consistency Improves Chain of Thought Reasoning" (2023).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar, cast

from app.core.errors import InvalidRequest
from app.core.models import Model
from app.core.run_events import PlanMade, RunEvent, Warning
from app.core.runs import PlanDecision, RunRequest
from app.orchestration.base import BaseOrchestrator, NamedModel, StrategyOptions
from app.orchestration.consensus.aggregator import Aggregator
from app.orchestration.consensus.asking import calls_of, instructed, known_of, seated, weights_of, winner_of
from app.orchestration.consensus.hearing import Hearing
from app.orchestration.consensus.judge import PROMPT, Judged
from app.orchestration.consensus.options import MAX_CALLS, ConsensusOptions
from app.orchestration.consensus.outcome import Outcome
from app.orchestration.consensus.registry import aggregators
from app.orchestration.consensus.telling import Telling
from app.orchestration.context import RunContext
from app.orchestration.panel import Panel
from app.orchestration.tools.panels import check_tools, most_steps, seating, waits, worst_steps
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
        panel = Panel(calls_of(context, members, seats), context.max_concurrent_calls)
        telling, hearing = Telling(context, members, aggregator), Hearing(panel, aggregator, options)
        yield telling.begun()
        for note in seats.notes:
            yield Warning(note)

        hearing.begin()
        async with aclosing(panel.events()) as events:
            async for event in events:
                yield event
                ended = panel.ended_with(event)
                if ended is None:
                    continue
                await hearing.take(ended)
                async with aclosing(telling.heard(hearing.heard, hearing.counting)) as updates:
                    async for update in updates:
                        yield update
                if await hearing.enough():
                    break
        for event in panel.let_go():
            yield event
        hearing.in_order()

        async with aclosing(Outcome(context, panel.calls, aggregator, telling, hearing).events()) as events:
            async for event in events:
                yield event


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
