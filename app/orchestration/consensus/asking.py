"""Who is asked in a run of `consensus`, in which order, and with which words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.core.chat import Generation
from app.core.messages import Message
from app.core.models import Model
from app.core.runs import RunRequest
from app.orchestration.calls import Member
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.context import RunContext
from app.orchestration.evidence.diversity import diverse
from app.orchestration.evidence.extraction import instruction
from app.orchestration.evidence.stopping import asking_order
from app.orchestration.evidence.weights import PanelWeights, stated_weights, uniform
from app.orchestration.quoting import followed_by
from app.orchestration.tasks import panel_size
from app.orchestration.tools.member import ToolMember
from app.orchestration.tools.panels import Seating
from app.orchestration.tools.resuming import Chosen


def seated(context: RunContext) -> tuple[Model, ...]:
    """Who is asked: all selected models, or as many of them as the panel holds."""
    options: ConsensusOptions = context.options
    if options.panel == "all":
        return context.models
    size = panel_size(context.task.complexity, len(context.models)) if options.panel == "auto" else options.panel
    if size >= len(context.models):
        return context.models
    by_name = {model.profile.name: model for model in context.models}
    weights = weights_of(context, context.models)
    order = asking_order(list(by_name), weights, category=context.category)
    families = {name: model.profile.family or name for name, model in by_name.items()}
    providers = {name: model.profile.provider for name, model in by_name.items()}
    chosen = diverse(order, families, size, providers=providers)
    return tuple(model for model in context.models if model.profile.name in chosen)


def weights_of(context: RunContext, members: Sequence[Model]) -> PanelWeights:
    """What each member's word weighs."""
    options: ConsensusOptions = context.options
    names = [member.profile.name for member in members]
    match options.weights:
        case "learned":
            return context.lessons.weights([member.profile for member in members])
        case "uniform":
            known = context.lessons.weights([member.profile for member in members]).reliability
            return uniform(names, reliability=known)  # which decides ties, and nothing else
        case stated:
            return stated_weights({name: stated.get(name, 1.0) for name in names})


def known_of(context: RunContext, members: Sequence[Model]) -> PanelWeights | None:
    """What was learned of the members, where their words weigh something else by the options; None where nothing was."""
    options: ConsensusOptions = context.options
    if options.weights == "learned":
        return None
    known = context.lessons.weights([member.profile for member in members])
    return known if known.learned else None


def calls_of(context: RunContext, members: Sequence[Model], seating: Seating) -> list[Member]:
    """Every model once, then every model again, those whose word weighs most first."""
    options: ConsensusOptions = context.options
    by_name = {member.profile.name: member for member in members}
    order = asking_order(list(by_name), weights_of(context, members), category=context.category)
    messages = _asked(context.request, options)
    return [
        seating.member(
            by_name[name],
            messages,
            replicate=replicate,
            generation=_generation(context.request, options, replicate),
        )
        for replicate in range(options.k)
        for name in order
    ]


def winner_of(context: RunContext, choice: Chosen, seating: Seating) -> ToolMember:
    """Who had won before the run was paused, asked as it was asked then."""
    options: ConsensusOptions = context.options
    generation = _generation(context.request, options, choice.replicate)
    return seating.winner(choice, _asked(context.request, options), generation=generation)


def _asked(request: RunRequest, options: ConsensusOptions) -> tuple[Message, ...] | None:
    told = instructed(request, options)
    return followed_by(request.messages, told) if told else None


def instructed(request: RunRequest, options: ConsensusOptions) -> str:
    """What the models are told beside the question; nothing where the request asks for a form of its own."""
    wanted = request.generation.response_format
    if not options.instruct or (wanted is not None and wanted.type != "text"):
        return ""
    return instruction(options.kind, confidence=options.stated_confidence)


def _generation(request: RunRequest, options: ConsensusOptions, replicate: int) -> Generation | None:
    """The settings of a replicate; None where they are the run's own."""
    own = request.generation
    if options.temperatures:
        own = replace(own, temperature=options.temperatures[replicate % len(options.temperatures)])
    if options.seeds:
        own = replace(own, seed=options.seeds[replicate % len(options.seeds)])
    return None if own is request.generation else own
