"""simple: several models answer, and a lead model makes one answer of theirs.

A run goes through these phases:

    collect (`Proposals`)       every model answers; with layers, again in the light of the layer before
    sort (`answers.sort`)       tool calls and single answers are passed on as they are; empty ones are set aside
    analyse (`WrittenAnalysis`, `PeerRanking`)
    synthesise (`Synthesis`)

Layers follow Wang et al., "Mixture-of-Agents Enhances Large Language Model Capabilities" (2024).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import ClassVar

from pydantic import Field, model_validator

from app.core.errors import InvalidRequest
from app.core.messages import Message
from app.core.models import Model
from app.core.run_events import PlanMade, RunEvent, Warning
from app.core.run_fold import output_deltas
from app.core.runs import Analysis, PlanDecision, RunRequest
from app.core.streams import merge
from app.orchestration.analysis import WrittenAnalysis
from app.orchestration.answers import Sorting, fault, sort, too_few
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.calls import Member
from app.orchestration.context import RunContext
from app.orchestration.peer_ranking import KIND as PEER_RANKING
from app.orchestration.peer_ranking import PeerRanking
from app.orchestration.quoting import followed_by, numbered, question
from app.orchestration.simple_worst import worst_calls
from app.orchestration.synthesis import Synthesis
from app.orchestration.tools.options import PanelOptions
from app.orchestration.tools.panels import Seating, check_tools, concluded, passed_over, seating, waits
from app.orchestration.tools.resuming import chosen, gone_on
from app.reliability.forecast import PlannedCall

NO_ANALYSIS = "none"


class SimpleOptions(PanelOptions):
    """How `simple` works on the answers."""

    analysis: str = Field(
        default=NO_ANALYSIS,
        description=(
            "What is done with the answers before the synthesis: `none`; the lead model's `comparative`, `factual` or "
            "`critique` analysis; `peer_ranking`, where the models rank one another's anonymised answers; or a pattern named "
            "under `analyses` in the configuration."
        ),
        examples=["none", "comparative", "factual", "critique", "peer_ranking"],
    )
    layers: int = Field(
        default=1,
        ge=1,
        le=5,
        description="How often the models are asked. From the second time on they see the answers of the time before.",
    )
    min_responses: int = Field(
        default=1,
        ge=1,
        description="How many models must answer. With fewer the run fails; at most the number of models.",
    )

    @model_validator(mode="after")
    def _fits(self) -> SimpleOptions:
        if self.tools and self.layers > 1:
            raise ValueError("with tools the models are asked once; leave layers or tools out")
        return self


class SimpleOrchestrator(BaseOrchestrator):
    """Asks all selected models and has the lead model make one answer of theirs."""

    name: ClassVar[str] = "simple"
    summary: ClassVar[str] = "Several models answer, an analysis compares them if wanted, a lead model writes the one answer."
    Options: ClassVar[type[StrategyOptions]] = SimpleOptions

    def check(self, request: RunRequest, context: RunContext) -> None:
        options: SimpleOptions = context.options
        check_tools(request, context)
        known = (NO_ANALYSIS, PEER_RANKING, *context.prompts.analyses())
        if options.analysis not in known:
            message = f"there is no analysis {options.analysis!r}; there are {', '.join(known)}"
            raise InvalidRequest(message, param="options.analysis")
        if options.min_responses > len(context.models):
            message = f"min_responses is {options.min_responses}, but only {len(context.models)} models are asked"
            raise InvalidRequest(message, param="options.min_responses")
        if request.generation.n > 1:
            message = f"n is {request.generation.n}, but 'simple' makes one answer; leave n out, or use 'direct'"
            raise InvalidRequest(message, param="n")

    def may_pause(self, context: RunContext) -> bool:
        return waits(context, unsettled=len(context.models) > 1)

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        return _plan(context)

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        options: SimpleOptions = context.options
        ranked = options.analysis == PEER_RANKING
        prompt = PEER_RANKING if ranked else f"analysis_{options.analysis}"
        return worst_calls(
            context,
            _leads(context.lead, context.models),
            layers=options.layers,
            analysis=None if options.analysis == NO_ANALYSIS else prompt,
            ranked=ranked,
        )

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        seats, choice = await seating(context), chosen(context)
        if choice is not None:
            async with aclosing(gone_on(context, choice, seats.winner(choice))) as events:
                async for event in events:
                    yield event
            return
        yield PlanMade(self.plan(request, context))
        proposals = Proposals(context, seats)
        async with aclosing(proposals.events()) as events:
            async for event in events:
                yield event
        async with aclosing(_concluded(context, proposals)) as events:
            async for event in events:
                yield event


class Proposals:
    """The answers of the models. When `events` is over, `sorting` holds those of the last good layer of `members`, `answered`
    of them."""

    answered: int
    sorting: Sorting
    members: Sequence[Member]

    def __init__(self, context: RunContext, seating: Seating) -> None:
        options: SimpleOptions = context.options
        self._seating = seating
        self.live = len(context.models) == 1 and options.layers == 1
        """Whether the only model's deltas are the output already."""
        self._context = context
        self._layers = options.layers
        self._min_responses = options.min_responses

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask the models layer by layer, all of a layer at once.

        Raises:
            AllCandidatesFailed: fewer than `min_responses` answered in the first layer.
            QuorumError: the only model's own failure.
        """
        context, seating = self._context, self._seating
        for note in seating.notes:
            yield Warning(note)
        messages: tuple[Message, ...] | None = None
        for layer in range(1, self._layers + 1):
            calls = [seating.member(model, messages, layer=layer, output=self.live) for model in context.models]
            async with aclosing(merge([call.events() for call in calls], limit=context.max_concurrent_calls)) as events:
                async for event in events:
                    yield event
            shortage = self._take(calls, layer)
            if shortage:
                yield Warning(f"layer {layer} of {self._layers}: {shortage}; the answers of layer {layer - 1} stand")
            if shortage or layer == self._layers or not self.sorting.usable:
                return
            messages = self._with_references(self.sorting.usable)

    def _take(self, calls: Sequence[Member], layer: int) -> str | None:
        """Sort the answers of `calls`, or say why those of the layer before are to stand."""
        answers = tuple(call for call in calls if call.response)
        if len(answers) < self._min_responses:
            if layer == 1:
                raise too_few(calls, self._min_responses)
            return f"{len(answers)} of {len(calls)} models answered, and {self._min_responses} must"
        sorting = sort(answers, self._context.lead.profile.name if self._context.lead else None)
        if layer > 1 and sorting.single and fault(sorting.single.response, None) and not sorting.single.choice.tool_calls:
            return "no answer can be worked with"
        self.answered, self.sorting, self.members = len(answers), sorting, calls
        return None

    def _with_references(self, answers: Sequence[Member]) -> tuple[Message, ...]:
        context = self._context
        conversation = context.request.messages
        prompt = context.prompts.render(
            "layer", question=question(conversation), answers=numbered([call.choice.text for call in answers])
        )
        return followed_by(conversation, prompt)


async def _concluded(context: RunContext, proposals: Proposals) -> AsyncGenerator[RunEvent]:
    """From the answers to the end of the run."""
    sorting = proposals.sorting
    for note in sorting.notes:
        yield Warning(note)
    if sorting.single:
        if proposals.answered == 1 < len(context.models):
            name, asked = sorting.single.profile_name, len(context.models)
            yield Warning(f"only {name!r} of {asked} models answered; its answer is passed on as it is")
        for event in passed_over(proposals.members, sorting.single):
            yield event
        if sorting.single.wants is not None:
            async with aclosing(concluded(sorting.single, proposals.members, sorting.unwanted)) as events:
                async for event in events:
                    yield event
            return
        if not proposals.live:
            for event in output_deltas(sorting.single.choice):
                yield event
        yield sorting.single.ending()
        return
    for event in passed_over(proposals.members, None):
        yield event
    leads = _leads(context.lead, [call.model for call in sorting.usable])
    analysis: Analysis | None = None
    scores: dict[str, float] = {}
    phase = _analysis(context, sorting.usable, leads[0])
    if phase:
        async with aclosing(phase.events()) as events:
            async for event in events:
                yield event
        analysis = phase.analysis
        scores = phase.scores if isinstance(phase, PeerRanking) else {}
    synthesis = Synthesis(context, sorting.usable, analysis, leads=leads, scores=scores)
    async with aclosing(synthesis.events()) as events:
        async for event in events:
            yield event
    yield synthesis.ending


def _analysis(context: RunContext, answers: Sequence[Member], lead: Model) -> WrittenAnalysis | PeerRanking | None:
    options: SimpleOptions = context.options
    if options.analysis == NO_ANALYSIS:
        return None
    if options.analysis == PEER_RANKING:
        return PeerRanking(context, answers)
    return WrittenAnalysis(context, options.analysis, answers, lead)


def _leads(named: Model | None, answered: Sequence[Model]) -> tuple[Model, ...]:
    """Who may lead, in order: the model that the request names, then those whose answers are worked with, each once."""
    by_name = {model.profile.name: model for model in ((named, *answered) if named else answered)}
    return tuple(by_name.values())


def _plan(context: RunContext) -> PlanDecision:
    options: SimpleOptions = context.options
    names = tuple(model.profile.name for model in context.models)
    if len(names) == 1:
        return PlanDecision("simple", names, reason=f"one model, {names[0]!r}: its answer is the output as it is")
    lead, *others = (model.profile.name for model in _leads(context.lead, context.models))
    again = f", {options.layers} times over" if options.layers > 1 else ""
    then = "" if options.analysis == NO_ANALYSIS else f", {options.analysis} analysis"
    reason = f"{len(names)} models answer{again}{then}, and {lead!r} makes one answer of theirs"
    return PlanDecision("simple", names, lead, tuple(others), reason)
